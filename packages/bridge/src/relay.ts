// One WebSocket joined to one TCP connection. Bytes pass as they are; borders of messages mean nothing.
//
// Back-pressure, with at most `highWaterBytes` and one read held in each direction:
// - to the client: bytes count until `ws` has handed them to the kernel (its send callback); above the mark the TCP socket is
//   not read. What came in one turn of the event loop leaves as messages of up to 256 KiB. From a target that streams it is
//   gathered for a millisecond: a browser pays more for a message than for its bytes. Answers are never held back.
// - to the target: bytes count until Node has handed them to the kernel; above the mark the WebSocket is not read, until
//   'drain'.
//
// Endings: FIN of the target 1000, its RST 1011; a close of the client is a FIN to the target, a vanished client an RST.

import type { Socket } from 'node:net'
import type { RawData, WebSocket } from 'ws'
import { type CloseCode, closeCode, closeReason } from './close-codes.ts'
import {
  drainStallMs,
  gatherMs,
  lingerMs,
  maxSentMessageBytes,
  streamingFromBytes,
  targetLingerMs,
} from './limits.ts'

export interface RelayOptions {
  readonly highWaterBytes: number
  readonly firstByteTimeoutMs: number
  readonly idleTimeoutMs: number
  readonly pingIntervalMs: number
  /** Bytes read from the client's socket so far, those of a message that is not whole yet too; 0 where nobody counts. */
  readonly heardBytes: () => number
  /** Told how many bytes passed. */
  readonly onBytes: (direction: 'toTarget' | 'toClient', count: number) => void
  /** Told once, when nothing of it is left. `code` is what the client was told, or what it told. */
  readonly onEnd: (code: number, reason: string) => void
}

export class Relay {
  readonly #client: WebSocket
  readonly #target: Socket
  readonly #options: RelayOptions
  #toClient: Buffer[] = []
  #queuedBytes = 0
  /** Given to `ws`, not yet to the kernel. */
  #sentBytes = 0
  #flushScheduled = false
  /** Bytes for the client since it last said something. */
  #unaskedBytes = 0
  #clientPaused = false
  #closing: { code: number; reason: string } | undefined
  #clientGone = false
  #targetGone = false
  #heardOfClient = false
  #lastActivity: number
  #deadline: NodeJS.Timeout | undefined
  #linger: NodeJS.Timeout | undefined
  readonly #pinger: NodeJS.Timeout | undefined
  /** Messages and pongs of the client. */
  #heard = 0
  /** What had been heard of the client when it was pinged. */
  #pingedAt: number | undefined
  #patienceMs = drainStallMs

  /** @param client open and paused; @param target connected, nothing of it read yet */
  constructor(client: WebSocket, target: Socket, options: RelayOptions) {
    this.#client = client
    this.#target = target
    this.#options = options
    this.#lastActivity = performance.now()
    target.setNoDelay(true)
    target.on('data', this.#onTargetData)
    target.on('drain', this.#onDrain)
    target.on('end', () => this.close(closeCode.ended, 'the target closed the connection', drainStallMs))
    target.on('error', (error: NodeJS.ErrnoException) =>
      this.close(
        closeCode.targetReset,
        `the connection to the target broke: ${error.code ?? 'unknown'}`,
        drainStallMs,
      ),
    )
    target.on('close', () => {
      this.#targetGone = true
      this.close(closeCode.ended, 'the target closed the connection', drainStallMs)
      this.#over()
    })
    client.on('message', this.#onMessage)
    client.on('pong', () => {
      this.#heard++
    })
    client.on('close', (code, reason) => this.#onClientClose(code, reason.toString()))
    this.#setDeadline(options.firstByteTimeoutMs)
    if (Number.isFinite(options.pingIntervalMs)) {
      this.#pinger = setInterval(() => this.#ping(), options.pingIntervalMs)
      this.#pinger.unref()
    }
    client.resume()
    // The connection may have ended in the turn between 'connect' and here.
    if (target.destroyed) this.close(closeCode.targetReset, 'the connection to the target broke')
  }

  /** Bytes held for the two ends, by this process. */
  get heldBytes(): number {
    return this.#queuedBytes + this.#sentBytes + this.#target.writableLength
  }

  /**
   * Ends both connections, after what was received for them has been sent. First one wins.
   * @param patienceMs how long an end may take nothing of what is held for it
   */
  close(code: CloseCode, reason: string, patienceMs = lingerMs): void {
    this.#patienceMs = Math.min(this.#patienceMs, patienceMs)
    if (this.#closing === undefined) {
      this.#closing = { code, reason: closeReason(reason) }
      this.#stopTimers()
      this.#flush()
      if (this.#sentBytes === 0) this.#sayClose()
      // The answer to the close frame, and an end before it, is not seen by a WebSocket that is not read.
      this.#client.resume()
      this.#target.end()
      this.#target.resume()
    }
    this.#giveUpLater()
  }

  /** Begins the closing handshake, for which `ws` has a deadline: so not before the bytes are sent. */
  #sayClose(): void {
    const { code, reason } = this.#closing!
    this.#client.close(code, reason)
  }

  /** Ends both at once. */
  terminate(): void {
    this.#stopTimers()
    this.#client.terminate()
    this.#target.destroy()
  }

  readonly #onTargetData = (chunk: Buffer): void => {
    if (this.#closing !== undefined) return
    this.#lastActivity = performance.now()
    this.#options.onBytes('toClient', chunk.length)
    this.#toClient.push(chunk)
    this.#queuedBytes += chunk.length
    if (this.#queuedBytes + this.#sentBytes >= this.#options.highWaterBytes) this.#target.pause()
    this.#unaskedBytes += chunk.length
    if (this.#queuedBytes >= maxSentMessageBytes) this.#flush()
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true
      if (this.#unaskedBytes >= streamingFromBytes) setTimeout(this.#onGathered, gatherMs)
      // After the sockets of this turn were read: one socket may bring many chunks.
      else setImmediate(this.#onGathered)
    }
  }

  readonly #onGathered = (): void => {
    this.#flushScheduled = false
    this.#flush()
  }

  #flush(): void {
    while (this.#toClient.length > 0 && !this.#clientGone) {
      let bytes = 0
      let count = 0
      for (const chunk of this.#toClient) {
        if (count > 0 && bytes + chunk.length > maxSentMessageBytes) break
        bytes += chunk.length
        count++
      }
      const chunks = this.#toClient.splice(0, count)
      const message = count === 1 ? chunks[0]! : Buffer.concat(chunks, bytes)
      this.#queuedBytes -= bytes
      this.#sentBytes += bytes
      this.#client.send(message, { binary: true }, (error) => {
        this.#sentBytes -= bytes
        if (error !== undefined && error !== null) return
        this.#lastActivity = performance.now()
        if (this.#closing !== undefined && !this.#clientGone && this.#sentBytes === 0) {
          this.#sayClose()
          this.#giveUpLater()
        }
        if (this.#queuedBytes + this.#sentBytes < this.#options.highWaterBytes) this.#target.resume()
      })
    }
  }

  readonly #onMessage = (data: RawData, isBinary: boolean): void => {
    if (this.#closing !== undefined) return
    if (!isBinary) {
      this.close(closeCode.unsupportedData, 'only binary messages carry bytes')
      return
    }
    // A server-side WebSocket gives one Buffer unless told otherwise.
    const bytes = data as Buffer
    this.#heard++
    if (bytes.length === 0) return
    this.#lastActivity = performance.now()
    this.#unaskedBytes = 0
    if (!this.#heardOfClient) {
      this.#heardOfClient = true
      this.#setDeadline(this.#options.idleTimeoutMs)
    }
    this.#options.onBytes('toTarget', bytes.length)
    // `ws` never touches the memory of a message again.
    if (
      !this.#target.write(bytes) &&
      this.#target.writableLength >= this.#options.highWaterBytes &&
      !this.#clientPaused
    ) {
      this.#clientPaused = true
      this.#client.pause()
    }
  }

  readonly #onDrain = (): void => {
    this.#lastActivity = performance.now()
    if (!this.#clientPaused || this.#clientGone) return
    this.#clientPaused = false
    this.#client.resume()
  }

  #onClientClose(code: number, reason: string): void {
    this.#clientGone = true
    this.#toClient = []
    this.#queuedBytes = 0
    // 1006: no close frame came. The target is to see what happened: that it ended, or that it broke.
    const isClean = code !== 1006
    this.#closing ??= { code, reason }
    this.#stopTimers()
    if (this.#targetGone) {
      this.#over()
      return
    }
    this.#target.resume()
    if (!isClean) {
      // A FIN of ours may be on its way: Node cannot reset then, and would never say that the socket is closed.
      if (this.#target.writableEnded) this.#target.destroy()
      else this.#target.resetAndDestroy()
    } else {
      // Nobody is left to read what a target says that keeps its half open.
      this.#target.end(() => {
        setTimeout(() => this.#target.destroy(), targetLingerMs).unref()
      })
    }
    this.#giveUpLater()
  }

  /** Ends both at once where nothing moves: neither what is held for an end, nor the closing handshake. */
  #giveUpLater(): void {
    clearTimeout(this.#linger)
    if (this.#clientGone && this.#targetGone) return
    const held = this.heldBytes
    this.#linger = setTimeout(
      () => {
        if (this.heldBytes < held) this.#giveUpLater()
        else this.terminate()
      },
      held > 0 ? this.#patienceMs : lingerMs,
    )
    this.#linger.unref()
  }

  #over(): void {
    if (!this.#clientGone || !this.#targetGone) return
    clearTimeout(this.#linger)
    const { code, reason } = this.#closing!
    this.#options.onEnd(code, reason)
  }

  /** The timer is not set anew per message: when it fires it looks when something last moved. */
  #setDeadline(timeoutMs: number): void {
    clearTimeout(this.#deadline)
    if (!Number.isFinite(timeoutMs)) return
    this.#deadline = setTimeout(() => this.#onDeadline(), timeoutMs)
    this.#deadline.unref()
  }

  #onDeadline(): void {
    if (!this.#heardOfClient) {
      this.close(closeCode.timeout, 'no byte came from the client')
      return
    }
    const { idleTimeoutMs } = this.#options
    const leftMs = this.#lastActivity + idleTimeoutMs - performance.now()
    if (leftMs <= 0) this.close(closeCode.timeout, 'nothing was sent for too long')
    else this.#setDeadline(leftMs)
  }

  /** Keeps proxies from dropping a silent connection, and finds clients that vanished without a word. */
  #ping(): void {
    // A client that we do not read cannot be heard; the idle deadline is for that.
    if (this.#sentBytes > 0 || this.#clientPaused) return
    const heard = this.#heard + this.#options.heardBytes()
    // Anything is a sign of life: behind a slow line the pong comes after all that the client had to send.
    if (this.#pingedAt === heard) {
      this.#client.terminate()
      return
    }
    this.#pingedAt = heard
    this.#client.ping()
  }

  #stopTimers(): void {
    clearTimeout(this.#deadline)
    clearInterval(this.#pinger)
  }
}
