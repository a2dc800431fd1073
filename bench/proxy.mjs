// A TCP proxy that behaves like a network path: delay each way, bandwidth each way, and accidents at an exact byte.
//
// Used by the tests in their own process and by the benches in one of its own (proxy-process.mjs), which is why it is
// plain JavaScript. Each direction of a connection is a Line: what arrives is stamped with the time at which it is due
// at the other end, waits in a queue, and is written in one go with everything else that is due. Only as much is taken
// from the sender as `lineBytes` and the receiver's pace allow, so a receiver that does not read stops its sender, as
// TCP would. What it is not: there is no loss, no congestion control and no window smaller than `lineBytes`.
//
// Times are met to about half a millisecond, which is what Node's timers give.

import { createServer, Socket } from 'node:net'

/** @typedef {'toServer' | 'toClient'} Direction */

/**
 * How a connection ends in an accident. 'fin': both ends see an orderly end of the stream. 'rst': both see a reset.
 * 'silence': nothing comes through any more, in either direction, and nobody is told (a half-open connection).
 * @typedef {'fin' | 'rst' | 'silence'} Accident
 */

/**
 * @typedef {object} PathOptions
 * @property {number | Record<Direction, number>} [delayMs] one way; 0 by default
 * @property {number | Record<Direction, number>} [bytesPerSecond] no limit by default
 * @property {boolean} [connectRoundTrip] whether opening a connection costs the round trip that TCP's handshake does;
 *   true by default
 * @property {number} [lineBytes] how much one direction holds at most; 64 MiB by default
 * @property {number} [queueMs] how long bytes wait for a limited line at most before the sender is stopped; 20 by default
 */

/**
 * @typedef {object} CutOptions
 * @property {Direction} direction
 * @property {number} afterBytes how many bytes of this direction still arrive
 * @property {Accident} how
 */

/**
 * @typedef {object} ProxyOptions
 * @property {{ host: string, port: number }} target
 * @property {number} [port] to listen on, on 127.0.0.1; any free one by default
 * @property {CutOptions} [cut] an accident that happens to every connection; see Connection.cutAt for one of them
 * @property {(direction: Direction, bytes: Uint8Array, offset: number) => Uint8Array} [rewrite] is shown all bytes before
 *   they enter the line, with the offset of the first in its direction, and returns what enters instead
 */

/**
 * @typedef {object} DirectionCounters
 * @property {number} bytes delivered
 * @property {number} writes how many times something was delivered
 * @property {number} waiting bytes in the line
 */

/**
 * @typedef {object} Counters
 * @property {DirectionCounters} toServer
 * @property {DirectionCounters} toClient
 * @property {number} turns how many times the client spoke after it had heard the server: the number of round trips
 *   that a dialogue took. While data streams it counts more.
 */

const LINE_BYTES = 64 * 1024 * 1024
const QUEUE_MS = 20
// How much Node may hold for a socket that the kernel does not take from it yet.
const SINK_BYTES = 1024 * 1024
// Due this much earlier than asked for is due: timers have a grain of a millisecond, so that the error is half of it.
const EARLY_MS = 0.5
// A limited line sends in pieces of a millisecond or of a packet, so that a read of 64 KiB does not arrive in one lump.
const PIECE_MS = 1
const PIECE_BYTES = 1460
// How late a timer of ours may be without the link losing the time.
const LATE_MS = 50
// How far a reset stays behind the last byte.
const RESET_BEHIND_MS = 5

/** @param {number | Record<Direction, number> | undefined} value @param {Direction} direction @param {number} otherwise */
function per(value, direction, otherwise) {
  if (value === undefined) return otherwise
  return typeof value === 'number' ? value : value[direction]
}

/** @typedef {{ at: number, bytes: Uint8Array | undefined, then: (() => void) | undefined }} Item */

/** One direction of one connection. */
class Line {
  /** @readonly @type {Direction} */ direction
  #source
  #sink
  #options
  /** @type {Item[]} */ #items = []
  #head = 0
  #waiting = 0
  #lastDue = 0
  #linkFree = 0
  #wasFull = false
  #offset = 0
  /** @type {number | undefined} */ #left
  /** @type {(() => void) | undefined} */ #atCut
  /** @type {NodeJS.Timeout | undefined} */ #timer
  /** @type {NodeJS.Timeout | undefined} */ #shapeTimer
  #held = false
  #stalled = false
  #silent = false
  #sourceDone = false
  bytes = 0
  writes = 0
  /** @type {() => void} */ onArrival = () => {}
  /** @type {() => void} */ onDelivery = () => {}
  /** The earliest moment at which this direction can carry something. */
  notBefore = 0

  /**
   * @param {Direction} direction
   * @param {import('node:net').Socket} source
   * @param {import('node:net').Socket} sink
   * @param {{ path: PathOptions, rewrite: ProxyOptions['rewrite'] }} options `path` is read anew for every chunk
   */
  constructor(direction, source, sink, options) {
    this.direction = direction
    this.#source = source
    this.#sink = sink
    this.#options = options
    source.on('data', (/** @type {Buffer} */ chunk) => this.#receive(chunk))
    source.on('end', () => {
      if (this.#sourceDone) return
      this.#sourceDone = true
      this.#enqueue(undefined, () => sink.end())
    })
    sink.on('drain', () => this.#deliver())
  }

  get waiting() {
    return this.#waiting
  }

  /** @param {number} afterBytes counted from the start of the direction @param {() => void} action */
  cutAt(afterBytes, action) {
    this.#left = Math.max(0, afterBytes - this.#offset)
    this.#atCut = action
    if (this.#left === 0 && this.#offset > 0) this.#reachCut()
  }

  /** Until released, the line is filled but delivers nothing: its far end is not connected yet. */
  hold() {
    this.#held = true
  }

  release() {
    this.#held = false
    this.#deliver()
  }

  stall() {
    this.#stalled = true
    this.#source.pause()
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  resume() {
    this.#stalled = false
    this.#deliver()
    this.#flow()
  }

  /** From now on everything that comes is read and dropped, and what waits is dropped too. */
  silence() {
    this.#silent = true
    this.#items = []
    this.#head = 0
    this.#waiting = 0
    clearTimeout(this.#timer)
    clearTimeout(this.#shapeTimer)
    this.#shapeTimer = undefined
    if (!this.#source.destroyed) this.#source.resume()
  }

  /** Runs `action` behind everything that has arrived so far, at the time at which a byte sent now would arrive. @param {() => void} action */
  after(action) {
    this.#enqueue(undefined, action)
  }

  /** @param {Buffer} chunk */
  #receive(chunk) {
    if (this.#silent || this.#sourceDone) return
    this.onArrival()
    /** @type {Uint8Array} */
    let bytes = chunk
    if (this.#options.rewrite !== undefined)
      bytes = this.#options.rewrite(this.direction, bytes, this.#offset)
    this.#offset += chunk.length
    if (this.#left === undefined) {
      this.#accept(bytes)
    } else if (bytes.length < this.#left) {
      this.#left -= bytes.length
      this.#accept(bytes)
    } else {
      this.#accept(bytes.subarray(0, this.#left))
      this.#reachCut()
    }
    this.#flow()
  }

  #reachCut() {
    const action = this.#atCut
    this.#left = undefined
    this.#atCut = undefined
    this.#sourceDone = true // What comes behind the cut is read and dropped.
    this.#source.resume()
    if (action !== undefined) this.#enqueue(undefined, action)
  }

  /** @param {Uint8Array} bytes */
  #accept(bytes) {
    const rate = per(this.#options.path.bytesPerSecond, this.direction, Number.POSITIVE_INFINITY)
    if (rate === Number.POSITIVE_INFINITY) {
      if (bytes.length > 0) this.#enqueue(bytes, undefined)
      return
    }
    const piece = Math.max(PIECE_BYTES, Math.floor((rate * PIECE_MS) / 1000))
    for (let at = 0; at < bytes.length; at += piece) {
      const part = bytes.subarray(at, at + piece)
      // Where we had stopped the sender, its bytes were waiting: that our timer came late is not the link's idleness.
      const now = performance.now() - (this.#wasFull ? LATE_MS : 0)
      const start = Math.max(now, this.#linkFree, this.notBefore)
      this.#linkFree = start + (part.length / rate) * 1000
      this.#enqueue(part, undefined, this.#linkFree)
    }
    this.#wasFull = false
  }

  /** @param {Uint8Array | undefined} bytes @param {(() => void) | undefined} then */
  #enqueue(bytes, then, sent = Math.max(performance.now(), this.#linkFree, this.notBefore)) {
    if (this.#silent) return
    const delayMs = per(this.#options.path.delayMs, this.direction, 0)
    // Never before what was sent earlier, also where the delay has become shorter meanwhile.
    this.#lastDue = Math.max(this.#lastDue, sent + delayMs)
    this.#items.push({ at: this.#lastDue, bytes, then })
    this.#waiting += bytes?.length ?? 0
    if (this.#timer === undefined) this.#deliver()
  }

  #deliver() {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#stalled || this.#held) return
    const now = performance.now() + EARLY_MS
    let corked = false
    let delivered = false
    while (this.#head < this.#items.length) {
      const item = /** @type {Item} */ (this.#items[this.#head])
      if (item.at > now) {
        this.#timer = setTimeout(() => this.#deliver(), Math.max(1, Math.round(item.at - now + EARLY_MS)))
        break
      }
      if (this.#sink.writableLength > SINK_BYTES) break // 'drain' goes on.
      this.#head++
      if (item.bytes !== undefined) {
        if (!corked) this.#sink.cork()
        corked = true
        delivered = true
        this.#waiting -= item.bytes.length
        this.bytes += item.bytes.length
        this.#sink.write(item.bytes)
      }
      if (item.then !== undefined) {
        if (corked) this.#sink.uncork()
        corked = false
        item.then()
      }
    }
    if (corked) this.#sink.uncork()
    if (delivered) {
      this.writes++
      this.onDelivery()
    }
    if (this.#head > 1024 || this.#head === this.#items.length) {
      this.#items.splice(0, this.#head)
      this.#head = 0
    }
    this.#flow()
  }

  /** Reads on, or not: a full line, or a long queue in front of a limited one, stops the sender. */
  #flow() {
    if (this.#silent || this.#stalled || this.#sourceDone) return
    const { lineBytes = LINE_BYTES, queueMs = QUEUE_MS } = this.#options.path
    const backlogMs = this.#linkFree - performance.now()
    if (backlogMs > queueMs && this.#shapeTimer === undefined) {
      this.#shapeTimer = setTimeout(
        () => {
          this.#shapeTimer = undefined
          this.#wasFull = true
          this.#flow()
        },
        backlogMs - queueMs / 2,
      )
    }
    if (this.#waiting >= lineBytes || this.#shapeTimer !== undefined) this.#source.pause()
    else if (this.#source.isPaused()) this.#source.resume()
  }
}

/**
 * Resets, a moment later: libuv tells a receiver that finds data and a reset at once that the stream ended in order.
 * @param {Socket} socket
 */
function reset(socket) {
  setTimeout(() => socket.resetAndDestroy(), RESET_BEHIND_MS)
}

/** One connection through the proxy. */
export class Connection {
  #client
  #server
  #lines
  #heard = true
  /** @type {NodeJS.Timeout | undefined} */ #connecting
  turns = 0
  /** Resolves when both sockets are closed. @readonly @type {Promise<void>} */ closed

  /**
   * @param {import('node:net').Socket} client
   * @param {import('node:net').Socket} server not yet connected
   * @param {{ path: PathOptions, rewrite: ProxyOptions['rewrite'] }} options
   */
  constructor(client, server, options) {
    this.#client = client
    this.#server = server
    this.#lines = {
      toServer: new Line('toServer', client, server, options),
      toClient: new Line('toClient', server, client, options),
    }
    this.#lines.toServer.onArrival = () => {
      if (this.#heard) this.turns++
      this.#heard = false
    }
    this.#lines.toClient.onDelivery = () => {
      this.#heard = true
    }
    for (const [socket, line, other] of /** @type {const} */ ([
      [client, this.#lines.toServer, server],
      [server, this.#lines.toClient, client],
    ])) {
      socket.setNoDelay(true)
      // A reset travels as data does: behind what was sent before it.
      socket.on('error', () => line.after(() => reset(other)))
    }
    this.closed = Promise.all(
      [client, server].map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    ).then(() => {})
  }

  /**
   * Connects to the server, in a while. What the client says before `speakAt` counts as said then: it could not have
   * spoken earlier on a real path.
   *
   * @param {{ host: string, port: number }} target @param {number} inMs @param {number} speakAt by performance.now()
   */
  connect(target, inMs, speakAt) {
    this.#lines.toServer.notBefore = speakAt
    this.#lines.toServer.hold()
    const go = () => {
      if (this.#server.destroyed) return
      this.#server.connect(target)
      this.#lines.toServer.release()
    }
    if (inMs <= 0) go()
    else this.#connecting = setTimeout(go, inMs)
  }

  /** @returns {Counters} */
  counters() {
    /** @param {Line} line */
    const of = ({ bytes, writes, waiting }) => ({ bytes, writes, waiting })
    return { toServer: of(this.#lines.toServer), toClient: of(this.#lines.toClient), turns: this.turns }
  }

  /** Plans an accident: exactly `afterBytes` of the direction, from its start, arrive. @param {CutOptions} cut */
  cutAt({ direction, afterBytes, how }) {
    this.#lines[direction].cutAt(afterBytes, () => this.cut(how))
  }

  /** The accident happens now; what is under way in the lines is lost, what was delivered is not. @param {Accident} how */
  cut(how) {
    this.#lines.toServer.silence()
    this.#lines.toClient.silence()
    if (how === 'silence') return
    for (const socket of [this.#client, this.#server]) {
      if (how === 'fin') socket.end()
      // An empty write ends behind those before it, when the kernel has them: only then a reset does not overtake them.
      else if (socket.writableLength > 0) socket.write('', () => reset(socket))
      else reset(socket)
    }
  }

  /** Stops carrying, in one direction or both. The sender notices nothing until the buffers on its way are full. @param {Direction} [direction] */
  stall(direction) {
    if (direction !== 'toClient') this.#lines.toServer.stall()
    if (direction !== 'toServer') this.#lines.toClient.stall()
  }

  /** Carries on after a stall: nothing was lost. @param {Direction} [direction] */
  resume(direction) {
    if (direction !== 'toClient') this.#lines.toServer.resume()
    if (direction !== 'toServer') this.#lines.toClient.resume()
  }

  destroy() {
    clearTimeout(this.#connecting)
    this.#lines.toServer.silence()
    this.#lines.toClient.silence()
    this.#client.destroy()
    this.#server.destroy()
  }
}

/** A listening proxy. Make one with {@link startProxy}. */
export class TcpProxy {
  #options
  #target
  /** @type {PathOptions} */ #path
  /** @type {CutOptions | undefined} */ #cut
  /** @type {import('node:net').Server | undefined} */ #listener
  #port = 0
  /** All connections there ever were, in the order in which they were opened. @readonly @type {Connection[]} */ connections =
    []
  /** @readonly */ host = '127.0.0.1'

  /** @param {ProxyOptions & PathOptions} options */
  constructor({ target, cut, ...options }) {
    this.#options = options
    this.#target = target
    this.#path = options
    this.#cut = cut
  }

  get port() {
    return this.#port
  }

  /** Listens again after {@link refuse}, on the same port. @returns {Promise<void>} */
  async accept() {
    if (this.#listener !== undefined) return
    const listener = createServer({ allowHalfOpen: true }, (client) => this.#open(client))
    this.#listener = listener
    await new Promise((resolve, reject) => {
      listener.once('error', reject)
      listener.listen(this.#port || this.#options.port || 0, this.host, () => resolve(undefined))
    })
    const address = listener.address()
    if (address !== null && typeof address === 'object') this.#port = address.port
  }

  /** From now on new connections are refused, as when nobody listens; those there are go on. */
  refuse() {
    this.#listener?.close()
    this.#listener = undefined
  }

  /** Changes the path for what arrives from now on, in open connections too. @param {PathOptions} path */
  setPath(path) {
    Object.assign(this.#path, path)
  }

  /** New connections go to another server. @param {{ host: string, port: number }} target */
  retarget(target) {
    this.#target = target
  }

  /** What happens to connections opened from now on; undefined: nothing. @param {CutOptions | undefined} cut */
  setCut(cut) {
    this.#cut = cut
  }

  /** @param {Accident} how */
  cut(how) {
    for (const connection of this.connections) connection.cut(how)
  }

  /** @param {Direction} [direction] */
  stall(direction) {
    for (const connection of this.connections) connection.stall(direction)
  }

  /** @param {Direction} [direction] */
  resume(direction) {
    for (const connection of this.connections) connection.resume(direction)
  }

  /** The sums over all connections. @returns {Counters & { connections: number }} */
  counters() {
    const sum = {
      toServer: { bytes: 0, writes: 0, waiting: 0 },
      toClient: { bytes: 0, writes: 0, waiting: 0 },
      turns: 0,
    }
    for (const connection of this.connections) {
      const one = connection.counters()
      sum.turns += one.turns
      for (const direction of /** @type {const} */ (['toServer', 'toClient'])) {
        sum[direction].bytes += one[direction].bytes
        sum[direction].writes += one[direction].writes
        sum[direction].waiting += one[direction].waiting
      }
    }
    return { ...sum, connections: this.connections.length }
  }

  /** Ends the proxy and all its connections at once. */
  async stop() {
    this.refuse()
    for (const connection of this.connections) connection.destroy()
    await Promise.all(this.connections.map((connection) => connection.closed))
  }

  /** @param {import('node:net').Socket} client */
  #open(client) {
    const server = new Socket({ allowHalfOpen: true })
    const connection = new Connection(client, server, { path: this.#path, rewrite: this.#options.rewrite })
    this.connections.push(connection)
    if (this.#cut !== undefined) connection.cutAt(this.#cut)
    if (this.#path.connectRoundTrip ?? true) {
      // SYN there, SYN-ACK back: then the client may speak. The server accepts when the ACK has come there.
      const there = per(this.#path.delayMs, 'toServer', 0)
      const roundTrip = there + per(this.#path.delayMs, 'toClient', 0)
      connection.connect(this.#target, roundTrip + there, performance.now() + roundTrip)
    } else {
      connection.connect(this.#target, 0, 0)
    }
  }
}

/**
 * Starts a proxy.
 *
 * @param {ProxyOptions & PathOptions} options
 * @returns {Promise<TcpProxy>}
 */
export async function startProxy(options) {
  const proxy = new TcpProxy(options)
  await proxy.accept()
  return proxy
}
