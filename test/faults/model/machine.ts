// The server's machine: its disk, its sftp-server processes, its host key, and who may connect. A connection is what the
// device gets in the place of SSH: channels to processes of the machine, lost together, and commands that look for the
// processes of older connections.

import { SessionEpochs } from '@sshblock/sftp'
import { ChannelOpenError, ClosedError, ConnectionLost, TimeoutError } from '@sshblock/transport/errors'
import type {
  CommandResult,
  SftpChannel,
  SftpConnection,
} from '../../../packages/blockdev/src/sftp-connector.ts'
import { Disk, type DiskFile } from './disk.ts'
import { connectionReset, Link, type LinkOptions, type Loss } from './link.ts'
import type { Random } from './random.ts'
import { type DiskTrouble, SftpProcess } from './sftp-process.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface MachineOptions {
  readonly time: VirtualTime
  readonly random: Random
  readonly link: LinkOptions
  /** Channels that a connection may have (MaxSessions). */
  readonly maxChannels: number
  /** Whether commands may be run. */
  readonly permitsExec: boolean
  /** Whether its SFTP server is ours, in one process, and ends the older sessions of a device. */
  readonly endsOlderSessions: boolean
  readonly connectMs: () => number
  /** What a connection says of its round trip, in milliseconds. Default 5. */
  readonly roundTripMs?: number
  /** After how long the transport's keepalive gives a silent connection up. */
  readonly keepaliveMs: number
}

export class Machine {
  readonly options: MachineOptions
  readonly disk: Disk
  readonly trouble: DiskTrouble
  readonly processes: SftpProcess[] = []
  readonly connections: ServedConnection[] = []
  /** Which host key it shows: another number is another machine. */
  hostKey = 1
  /** 'refuses' and 'silent' are a machine that is down, in two ways. */
  reachable: 'yes' | 'refuses' | 'silent' = 'yes'
  /** Connections tried so far. */
  attempts = 0
  boots = 1
  #epochs = new SessionEpochs()
  onWrite: (process: SftpProcess, file: DiskFile, offset: number, length: number) => void = () => {}

  constructor(options: MachineOptions) {
    this.options = options
    this.disk = new Disk(options.random)
    this.trouble = {
      failingWrites: [],
      failingReads: 0,
      failingSyncs: 0,
      writeMs: () => 0,
      syncMs: () => 0,
      onRefusal: () => {},
    }
  }

  get modelConnections(): ModelConnection[] {
    return this.connections.filter((connection) => connection instanceof ModelConnection)
  }

  /** Connections that the client has not closed and that are not lost. */
  get live(): ServedConnection[] {
    return this.connections.filter((connection) => !connection.isOver)
  }

  async connect(signal?: AbortSignal): Promise<ModelConnection> {
    const { time, connectMs } = this.options
    this.attempts++
    signal?.throwIfAborted()
    await untilAborted(time.sleep(connectMs()), signal)
    if (this.reachable === 'refuses') {
      throw new ConnectionLost('connect', 'connection refused', { code: 'ECONNREFUSED' })
    }
    if (this.reachable === 'silent') {
      await untilAborted(time.sleep(20_000), signal)
      throw new TimeoutError('connect', 20_000)
    }
    const connection = new ModelConnection(this)
    this.connections.push(connection)
    return connection
  }

  startProcess(link: Link): SftpProcess {
    const { time, random } = this.options
    const process: SftpProcess = new SftpProcess(1000 + this.processes.length, link, {
      time,
      random,
      disk: this.disk,
      trouble: this.trouble,
      ...(this.options.endsOlderSessions ? { epochs: this.#epochs } : {}),
      onWrite: (file, offset, length) => this.onWrite(process, file, offset, length),
    })
    this.processes.push(process)
    return process
  }

  /** Power failure: the page cache and every process are gone. */
  crash(): void {
    this.boots++
    this.#epochs = new SessionEpochs()
    for (const process of this.processes) if (!process.isDead) process.crash()
    this.disk.crash()
  }

  get machineLines(): string {
    const boot = String(this.boots).padStart(12, '0')
    return `00000000-0000-4000-8000-${boot}\npid:[4026531836]`
  }
}

/** What a history can do to a connection. */
export interface ServedConnection {
  readonly isOver: boolean
  readonly links: readonly Pick<
    Link,
    'cutAt' | 'hold' | 'release' | 'holdReplies' | 'releaseReplies' | 'doubleNextReply'
  >[]
  /** That serve it, where they are told apart. */
  readonly processes?: readonly SftpProcess[]
  lose(loss: Loss): void
  vanish(silent: boolean): void
  rekey(): void
}

export class ModelConnection implements SftpConnection, ServedConnection {
  readonly machine: Machine
  readonly identity: { readonly hostKey: Uint8Array; readonly user: string }
  readonly serverIdentification = 'SSH-2.0-Model'
  readonly roundTripMs: number
  readonly over: Promise<Error>
  readonly links: Link[] = []
  readonly processes: SftpProcess[] = []
  /** Process number of the server of this connection. */
  readonly pid: number
  /** Lost: how, undefined while it is not. */
  loss: Loss | undefined
  #isClosed = false
  #error: Error | undefined
  #resolveOver!: (error: Error) => void
  /** Processes of commands that are under way. */
  #commands = 0
  /** When the last request so far is answered. */
  #answeredAt = 0

  constructor(machine: Machine) {
    this.machine = machine
    this.roundTripMs = machine.options.roundTripMs ?? 5
    this.pid = 100 + machine.connections.length
    this.identity = { hostKey: new Uint8Array(36).fill(machine.hostKey), user: 'tester' }
    this.over = new Promise((resolve) => {
      this.#resolveOver = resolve
    })
  }

  get isOver(): boolean {
    return this.#isClosed || this.loss !== undefined
  }

  /** Opens one more channel; `signal` cancels that. */
  async openChannel(signal?: AbortSignal): Promise<SftpChannel> {
    await this.#roundTrip(signal)
    this.#takeChannel()
    const { time, random, link: linkOptions } = this.machine.options
    const link = new Link(time, random, linkOptions)
    this.links.push(link)
    const process = this.machine.startProcess(link)
    this.processes.push(process)
    return modelChannel(link, process)
  }

  /** Runs a command: the two that the device knows. */
  async exec(command: string, signal: AbortSignal): Promise<CommandResult> {
    await this.#roundTrip(signal)
    this.#takeChannel()
    this.#commands++
    try {
      if (!this.machine.options.permitsExec) throw new ChannelOpenError('exec', 1, 'exec request failed')
      const stdout = command.includes('sshblock-fence') ? await this.#fence(command) : this.#listProcesses()
      await this.#roundTrip(signal)
      return { status: 0, stdout: new TextEncoder().encode(stdout) }
    } finally {
      this.#commands--
    }
  }

  #listProcesses(): string {
    const shell = 90_000 + this.machine.processes.length
    const rows = this.machine.modelConnections.flatMap(({ pid, processes }) => [
      `${pid} 1 ${pid}0`,
      ...processes.filter(({ isDead }) => !isDead).map((process) => `${process.pid} ${pid} ${process.pid}0`),
    ])
    return [
      'sshblock-processes',
      this.machine.machineLines,
      `self ${shell} ${this.pid} ${shell}`,
      'comm sshd',
      ...rows,
      `${shell} ${this.pid} ${shell}0`,
      'sshblock-end',
      '',
    ].join('\n')
  }

  async #fence(command: string): Promise<string> {
    const wanted = (/for t in ([\d: ]+)/.exec(command)?.[1] ?? '').trim().split(' ')
    const targets = this.machine.processes.filter((process) =>
      wanted.includes(`${process.pid}:${process.pid}0`),
    )
    const { time } = this.machine.options
    const { boots } = this.machine
    for (let round = 0; round < 8; round++) {
      for (const process of targets) if (!process.isDead) process.kill()
      await time.sleep(round < 3 ? 1 : 1000)
      if (boots !== this.machine.boots) throw connectionReset()
      if (targets.every(({ isDead }) => isDead)) break
    }
    const left = targets.filter(({ isDead }) => !isDead).map(({ pid }) => ` ${pid}`)
    return `sshblock-fence\n${this.machine.machineLines}\nleft${left.join('')}\nsshblock-end\n`
  }

  // An answer of the server: never on a connection that is lost without a word, until somebody gives up.
  async #roundTrip(signal: AbortSignal | undefined): Promise<void> {
    const { time, link } = this.machine.options
    signal?.throwIfAborted()
    this.#check()
    // Bytes of one connection do not overtake each other.
    this.#answeredAt = Math.max(this.#answeredAt, time.now() + link.latencyMs() * 2)
    await untilAborted(time.sleep(this.#answeredAt - time.now()), signal)
    this.#check()
    if (this.loss === undefined) return
    await untilAborted(this.over, signal)
    this.#check()
  }

  #takeChannel(): void {
    const used = this.processes.filter((process) => !process.isDead).length + this.#commands
    if (used >= this.machine.options.maxChannels) throw new ChannelOpenError('session', 2, 'open failed')
  }

  #check(): void {
    if (this.#error !== undefined) throw this.#error
    if (this.#isClosed) throw new ClosedError('the session')
  }

  /** The device says goodbye. */
  async close(): Promise<void> {
    this.#end(new ClosedError('the session'))
  }

  destroy(): void {
    this.#end(new ClosedError('the session'))
  }

  // DISCONNECT, or nothing: the server closes what it has, as far as it hears of it, and after what it was sent before.
  #end(error: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const link of this.links) if (!link.isLost) link.lose(goodbye, error)
    this.#tell(error)
  }

  /** The connection breaks, with all its channels. */
  lose(loss: Loss): void {
    if (this.isOver) return
    this.loss = loss
    for (const link of this.links) link.lose(loss, connectionReset())
    if (loss.client === 'silent') this.#tellLater()
    else this.#tell(connectionReset())
  }

  /** The machine is gone. */
  vanish(silent: boolean): void {
    if (this.loss !== undefined) return
    this.loss = { client: silent ? 'silent' : 'reset', arriving: 0, lateMs: 0, serverSeesMs: 0 }
    for (const link of this.links) link.vanish()
    if (silent) this.#tellLater()
    else this.#tell(connectionReset())
  }

  /** There are no keys. */
  rekey(): void {}

  #tellLater(): void {
    const { time, keepaliveMs } = this.machine.options
    time.setTimer(() => this.#tell(connectionReset()), keepaliveMs)
  }

  #tell(error: Error): void {
    this.#error ??= error
    for (const link of this.links) link.tell(this.#error)
    this.#resolveOver(this.#error)
  }
}

const goodbye: Loss = { client: 'reset', arriving: 1, lateMs: 0, serverSeesMs: 0 }

/** The link's client end, with how the server's side ended. */
function modelChannel(link: Link, process: SftpProcess): SftpChannel {
  const end = link.client
  const exit = link.clientClosed.then((cause) => {
    if (cause !== undefined) throw cause
    // Closed by somebody on the way: nobody told how the process ended.
    if (link.isLost) return { type: 'none' as const }
    return { type: process.exitStatus === 0 ? ('status' as const) : ('signal' as const) }
  })
  exit.catch(() => {})
  return {
    description: 'model channel',
    start: (receiver) => end.start(receiver),
    write: (bytes) => end.write(bytes),
    get writableBytes() {
      return end.writableBytes
    },
    pause: () => end.pause(),
    resume: () => end.resume(),
    end: () => end.end(),
    close: () => end.close(),
    exit,
  }
}

async function untilAborted(wait: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) {
    await wait
    return
  }
  let stop: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    await Promise.race([wait, aborted])
  } finally {
    signal.removeEventListener('abort', stop!)
  }
}
