// A server in memory for the resilient image: connections and lanes that a test loses at will, a cache that a crash
// forgets, processes that live on after their connection, and a command line that looks for them.

import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import {
  type CommandOutput,
  type ImageConnection,
  type ImageHost,
  type Lane,
  type LaneAttributes,
  LaneLost,
  type OpenLaneOptions,
} from '../../packages/blockdev/src/image/host.ts'
import type { Clock } from '../../packages/blockdev/src/image/options.ts'
import type { AccessOptions, FileStatus } from '../../packages/blockdev/src/random-access-file.ts'

/** Time that passes only when told to. */
export class ManualClock implements Clock {
  #now = 0
  readonly #timers = new Set<{ at: number; task: () => void }>()

  now(): number {
    return this.#now
  }

  setTimer(task: () => void, delayMs: number): unknown {
    const timer = { at: this.#now + delayMs, task }
    this.#timers.add(timer)
    return timer
  }

  clearTimer(timer: unknown): void {
    this.#timers.delete(timer as { at: number; task: () => void })
  }

  get pending(): number {
    return this.#timers.size
  }

  /** Lets time pass, with everything that happens meanwhile. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await turns()
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#now = Math.max(this.#now, due.at)
      this.#timers.delete(due)
      due.task()
    }
    this.#now = end
    await turns()
  }
}

/** Lets everything run that does not wait for time. */
export async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve))
}

interface Held {
  readonly lane: ScriptedLane
  readonly offset: number
  readonly bytes: Uint8Array
  readonly answer: () => void
}

export class ScriptedServer implements ImageHost {
  identity = 'key user'
  /** What a crash leaves. */
  disk: Uint8Array
  /** What is read. */
  cache: Uint8Array
  /** Refuses connections with this error. */
  refuses: Error | undefined
  /** Whether commands can be run: told whether processes are gone. */
  exec: 'works' | 'refused' = 'works'
  execHangs = false
  /** Processes cannot be killed. */
  immortal = false
  /** Errors of the next syncs; undefined: it works. */
  syncErrors: (Error | undefined)[] = []
  /** As kernels do: pages whose writing failed are clean afterwards, and gone some time later. */
  forgetsOnSyncError = false
  /** Whether writes are held without an answer, to be done, or not, later. */
  holdsWrites = false
  holdsSyncs = false
  /** Reads that are never answered, by their length. */
  holdsReadsOf: number | undefined
  copiesZeros = true
  silent = false
  readonly held: Held[] = []
  readonly connections: ScriptedConnection[] = []
  readonly log: string[] = []
  #pid = 100

  constructor(content: Uint8Array) {
    this.disk = content.slice()
    this.cache = content.slice()
  }

  async connect(signal: AbortSignal): Promise<ScriptedConnection> {
    signal.throwIfAborted()
    this.log.push('connect')
    if (this.refuses !== undefined) throw this.refuses
    const connection = new ScriptedConnection(this)
    this.connections.push(connection)
    return connection
  }

  nextPid(): number {
    return this.#pid++
  }

  /** What was not synced is gone. */
  crash(): void {
    this.cache = this.disk.slice()
    for (const connection of this.connections) {
      connection.processes.clear()
      connection.lose()
    }
  }

  loseAll(): void {
    for (const connection of this.connections) connection.lose()
  }

  /** Writes that were held, by processes that live: applied now, as a server does that was stopped. */
  ghosts(): void {
    for (const { lane, offset, bytes } of this.held.splice(0))
      if (lane.owner.processes.has(lane.pid)) this.cache.set(bytes, offset)
  }
}

export class ScriptedConnection implements ImageConnection {
  readonly server: ScriptedServer
  readonly identity: string
  readonly roundTripMs = 0.1
  readonly over: Promise<Error>
  readonly lanes: ScriptedLane[] = []
  readonly processes = new Set<number>()
  closed = false
  #end!: (error: Error) => void

  constructor(server: ScriptedServer) {
    this.server = server
    this.identity = server.identity
    this.over = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  async openLane({ signal }: OpenLaneOptions): Promise<Lane> {
    signal.throwIfAborted()
    if (this.closed) throw new Error('the connection is over')
    const lane = new ScriptedLane(this)
    this.lanes.push(lane)
    this.processes.add(lane.pid)
    this.server.log.push('lane')
    return lane
  }

  exec = async (command: string): Promise<CommandOutput> => {
    if (this.server.exec === 'refused' || this.closed)
      throw new BlockDeviceError('ENOTSUP', 'no commands here')
    if (this.server.execHangs) return new Promise(() => {})
    const head = ['00000000-0000-0000-0000-000000000000', 'pid:[1]']
    const lines = command.includes('sshblock-fence') ? this.#fence(command, head) : this.#learn(head)
    return { status: 0, stdout: new TextEncoder().encode(`welcome\n${lines.join('\n')}\n`) }
  }

  #learn(head: string[]): string[] {
    const rows = [...this.processes].map((pid) => `${pid} 50 ${pid * 10}`)
    return ['sshblock-processes', ...head, 'self 60 50 60', 'comm sshd', '60 50 1', ...rows, 'sshblock-end']
  }

  #fence(command: string, head: string[]): string[] {
    const left: number[] = []
    for (const [, pid] of command.matchAll(/\b(\d+):\d+/g)) {
      for (const { processes } of this.server.connections) {
        if (!processes.has(Number(pid))) continue
        if (this.server.immortal) left.push(Number(pid))
        else processes.delete(Number(pid))
      }
    }
    this.server.log.push('fence')
    return ['sshblock-fence', ...head, `left ${left.join(' ')}`.trim(), 'sshblock-end']
  }

  /** The connection is cut; its processes live on. */
  lose(cause = new Error('cut')): void {
    if (this.closed) return
    this.closed = true
    for (const lane of this.lanes) lane.lose(cause, false)
    this.#end(cause)
  }

  async close(): Promise<void> {
    this.lose(new Error('closed'))
  }

  destroy(): void {
    this.lose(new Error('destroyed'))
  }
}

export class ScriptedLane implements Lane {
  readonly canSync = true
  readonly lost: Promise<LaneLost>
  readonly exited: Promise<boolean>
  readonly writableBytes = 1 << 20
  readonly endedOlder = undefined
  readonly owner: ScriptedConnection
  readonly pid: number
  ended = false
  /** Rejects everything pending. */
  readonly #pending = new Set<(error: LaneLost) => void>()
  #gone: LaneLost | undefined
  #lose!: (error: LaneLost) => void
  #exit!: (exited: boolean) => void

  constructor(owner: ScriptedConnection) {
    this.owner = owner
    this.pid = owner.server.nextPid()
    this.lost = new Promise((resolve) => {
      this.#lose = resolve
    })
    this.exited = new Promise((resolve) => {
      this.#exit = resolve
    })
  }

  get #server(): ScriptedServer {
    return this.owner.server
  }

  lose(cause: Error, exited: boolean): void {
    if (this.#gone !== undefined) return
    this.#gone = new LaneLost('gone', cause)
    this.#lose(this.#gone)
    this.#exit(exited)
    for (const reject of this.#pending) reject(this.#gone)
  }

  /** A request that was not answered in time; the channel is there. */
  timeOut(): void {
    for (const reject of [...this.#pending]) reject(new LaneLost('silence', new Error('no answer')))
  }

  /** Its process ends and the channel tells so. */
  exit(): void {
    this.owner.processes.delete(this.pid)
    this.lose(new Error('exited'), true)
  }

  read(offset: number, into: Uint8Array, options: AccessOptions = {}): Promise<number> {
    if (into.length === this.#server.holdsReadsOf)
      return this.#held(
        () => {},
        () => 0,
      )
    return this.#answer(() => {
      options.signal?.throwIfAborted()
      const found = this.#server.cache.subarray(offset, offset + into.length)
      into.set(found)
      return found.length
    })
  }

  write(offset: number, from: Uint8Array): Promise<number> {
    const bytes = from.slice()
    this.#server.log.push(`write ${offset} ${bytes[0]}`)
    const apply = () => {
      if (offset + bytes.length > this.#server.cache.length) {
        const longer = new Uint8Array(offset + bytes.length)
        longer.set(this.#server.cache)
        this.#server.cache = longer
      }
      this.#server.cache.set(bytes, offset)
      return bytes.length
    }
    if (!this.#server.holdsWrites) return this.#answer(apply)
    return this.#held((answer) => this.#server.held.push({ lane: this, offset, bytes, answer }), apply)
  }

  zero(offset: number, length: number): Promise<boolean> {
    return this.#answer(() => {
      this.#server.log.push(`zero ${offset} ${length}`)
      if (this.#server.copiesZeros) this.#server.cache.fill(0, offset, offset + length)
      return this.#server.copiesZeros
    })
  }

  status(): Promise<FileStatus> {
    return this.#answer(() => ({ size: this.#server.cache.length, kind: 'file' as const }))
  }

  setSize(size: number): Promise<void> {
    return this.#answer(() => {
      const resized = new Uint8Array(size)
      resized.set(this.#server.cache.subarray(0, size))
      this.#server.cache = resized
    })
  }

  sync(): Promise<void> {
    this.#server.log.push('sync')
    const apply = () => {
      const error = this.#server.syncErrors.shift()
      if (error !== undefined && this.#server.forgetsOnSyncError)
        this.#server.cache = this.#server.disk.slice()
      if (error !== undefined) throw error
      this.#server.disk = this.#server.cache.slice()
    }
    return this.#server.holdsSyncs ? this.#held(() => {}, apply) : this.#answer(apply)
  }

  async space(): Promise<undefined> {
    return undefined
  }

  attributes(): Promise<LaneAttributes> {
    return this.#answer(() => ({
      size: this.#server.cache.length,
      accessed: times.get(this.#server)?.[0],
      changed: times.get(this.#server)?.[1],
      ownership: '0 0',
    }))
  }

  setTimes(accessed: number, changed: number): Promise<void> {
    return this.#answer(() => void times.set(this.#server, [accessed, changed]))
  }

  end(): void {
    this.ended = true
  }

  abandon(): void {
    this.lose(new Error('abandoned'), false)
  }

  async close(): Promise<void> {
    this.lose(new Error('closed'), true)
  }

  async #answer<T>(apply: () => T): Promise<T> {
    if (this.#server.silent) return this.#held(() => {}, apply)
    if (this.#gone !== undefined) throw this.#gone
    await Promise.resolve()
    if (this.#gone !== undefined) throw this.#gone
    return apply()
  }

  #held<T>(hold: (answer: () => void) => void, apply: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#gone !== undefined) return reject(this.#gone)
      const done = (error: LaneLost) => {
        this.#pending.delete(done)
        reject(error)
      }
      this.#pending.add(done)
      hold(() => {
        this.#pending.delete(done)
        resolve(apply())
      })
    })
  }
}

const times = new WeakMap<ScriptedServer, [number, number]>()
