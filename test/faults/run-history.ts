// Runs one history in virtual time: opens the device on the model's machine, makes the calls, does the damage, and lets the
// oracle judge; in the end everything that is still on its way arrives, the machine loses power, and the disk is looked at.

import { BlockDeviceError, type SftpDevice } from '@sshblock/blockdev'
import { IdentityError } from '../../packages/blockdev/src/image/errors.ts'
import { Growth } from '../../packages/blockdev/src/image/growth.ts'
import type { ConnectionEvent } from '../../packages/blockdev/src/image/options.ts'
import {
  type OpenOnConnectorOptions,
  openDeviceOnConnector,
} from '../../packages/blockdev/src/sftp-connector-device.ts'
import type { History, HistorySetup, Meanwhile, Step } from './history.ts'
import { blockBytes, stampBlocks } from './model/block-stamp.ts'
import type { DiskFile } from './model/disk.ts'
import type { Loss } from './model/link.ts'
import type { ServedConnection } from './model/machine.ts'
import { Machine } from './model/machine.ts'
import { Random } from './model/random.ts'
import type { SftpProcess } from './model/sftp-process.ts'
import { VirtualTime } from './model/virtual-time.ts'
import { Oracle } from './oracle.ts'

export interface HistoryResult {
  /** What was against the rules; empty when all is well. */
  readonly violations: readonly string[]
  /** What happened, in order, where `trace` was asked for. */
  readonly trace: readonly string[]
  readonly counts: HistoryCounts
}

export interface HistoryCounts {
  calls: number
  succeeded: number
  failed: number
  losses: number
  restored: number
  /** The device gave up for good. */
  gaveUp: number
  /** Writes that took effect after their session was lost. */
  ghosts: number
  /** Recoveries with a proof that the old session is over: by exit status, and by its processes. */
  fencedByExit: number
  fencedByProcesses: number
  /** Most channels in use at once. */
  channels: number
  virtualMs: number
}

/** Nothing happened yet. */
export function noCounts(): HistoryCounts {
  return {
    calls: 0,
    succeeded: 0,
    failed: 0,
    losses: 0,
    restored: 0,
    gaveUp: 0,
    ghosts: 0,
    fencedByExit: 0,
    fencedByProcesses: 0,
    channels: 0,
    virtualMs: 0,
  }
}

export interface RunOptions {
  readonly trace?: boolean
  /** Changes what the device is told; for proofs. */
  readonly deviceOptions?: Partial<OpenOnConnectorOptions>
  /** Opens the device in another way than on the model's own connections. */
  readonly open?: (world: World, options: OpenOnConnectorOptions) => Promise<SftpDevice>
}

export const imagePath = '/disk.img'
const imageFile = 0
/** Added to the number of any other file, in its stamps. */
const otherFile = 100
/** Everything that was slow, stopped or late has happened after this. */
const afterlifeMs = 400_000

interface Call {
  readonly name: string
  readonly controller: AbortController
  readonly calledAt: number
  readonly kind: 'read' | 'write' | 'flush'
  /** Reasons for failures that there had been before it was called. */
  readonly excusesBefore: number
  done: boolean
}

export async function runHistory(history: History, options: RunOptions = {}): Promise<HistoryResult> {
  const world = new World(history.setup, options)
  const restoreTime = world.time.install()
  // Thousands of errors are made and none of their stacks is looked at.
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const { wants } = Growth.prototype
  // Images of a few blocks fill no window: whether more channels would help is up to the history.
  Growth.prototype.wants = () => world.wantsMoreChannels()
  const restore = (): void => {
    restoreTime()
    Error.stackTraceLimit = stackTraceLimit
    Growth.prototype.wants = wants
  }
  const unhandled = (error: unknown): void => {
    world.oracle.violations.push(`a promise was rejected and nobody looked: ${describe(error)}`)
  }
  process.on('unhandledRejection', unhandled)
  try {
    await world.run(history.steps)
  } catch (error) {
    world.oracle.violations.push(`the run itself failed: ${error instanceof Error ? error.stack : error}`)
  } finally {
    restore()
    process.off('unhandledRejection', unhandled)
  }
  return { violations: world.oracle.violations, trace: world.trace, counts: world.counts }
}

export class World {
  readonly setup: HistorySetup
  readonly time = new VirtualTime()
  readonly machine: Machine
  readonly oracle: Oracle
  readonly trace: string[] = []
  readonly counts = noCounts()
  readonly image: DiskFile
  device!: SftpDevice
  readonly #options: RunOptions
  readonly #random: Random
  readonly #calls: Call[] = []
  /** Buffers that were given back: what they held then. */
  readonly #returned: { readonly buffer: Uint8Array; readonly copy: Uint8Array }[] = []
  #lastFaultAt = 0
  /** Reasons for a call to fail, so far. */
  #excuses = 0
  #isOverBudget = false
  /** A sync failed, or what was not synced was lost without a copy: flushes may fail until one succeeds. */
  #isSyncExcused = false
  /** It is another file, machine or size by now, or was for a while. */
  #isTampered = false
  /** Of the history itself, hours away. */
  #ownTimers = 0
  /** Somebody else cut the file: any call may fail. */
  #isCut = false
  /** Somebody else cut the file off here. */
  #cutAt = Number.POSITIVE_INFINITY
  /** Behind this they made it long again, with zeros: the right size, and the right content where anybody looked. */
  #regrownAt = Number.POSITIVE_INFINITY

  constructor(setup: HistorySetup, options: RunOptions) {
    this.setup = setup
    this.#options = options
    this.#random = new Random(setup.worldSeed)
    const random = this.#random
    const [least, most] = setup.latencyMs
    this.machine = new Machine({
      time: this.time,
      random,
      link: {
        latencyMs: () => (most === 0 ? 0 : random.between(least, most)),
        windowBytes: setup.windowBytes,
        pieceBytes: () =>
          setup.pieceBytes >= 32_768 ? setup.pieceBytes : random.between(1, setup.pieceBytes),
        reorders: setup.reorders,
      },
      maxChannels: setup.serverChannels,
      permitsExec: setup.permitsExec,
      connectMs: () => (most === 0 ? 1 : random.between(5, 50)),
      keepaliveMs: setup.keepaliveMs,
    })
    const content = new Uint8Array(setup.blocks * blockBytes)
    stampBlocks(content, imageFile, 0, 0)
    this.image = this.machine.disk.create(imagePath, content, 1_600_000_000)
    this.oracle = new Oracle({ file: imageFile, blocks: setup.blocks })
    this.machine.trouble.onRefusal = (what) => {
      this.#excuses++
      if (what === 'sync') this.#isSyncExcused = true
    }
    this.machine.onWrite = (process, file, offset, length) => this.#applied(process, file, offset, length)
  }

  note(what: string): void {
    if (this.#options.trace === true) this.trace.push(`${this.time.now().toFixed(0).padStart(8)} ms  ${what}`)
  }

  async run(steps: readonly Step[]): Promise<void> {
    if (!(await this.open())) return
    for (const step of steps) await this.step(step)
    await this.#end()
  }

  // ---- The device ----

  async open(): Promise<boolean> {
    const { setup, machine } = this
    const options: OpenOnConnectorOptions = {
      writable: true,
      readAhead: setup.readAhead ? {} : false,
      requestTimeoutMs: setup.requestTimeoutMs,
      reconnectDelayMs: setup.reconnectDelayMs,
      onLoss: setup.onLoss,
      maxChannels: setup.channels,
      maxConnections: setup.connections,
      clock: { now: this.time.now, setTimer: this.time.setTimer, clearTimer: this.time.clearTimer },
      random: () => this.#random.next() / 2 ** 32,
      onState: (event) => this.#state(event),
      onWarning: (message) => this.note(`warning: ${message}`),
      ...(setup.journalBytes === undefined ? {} : { journalBytes: setup.journalBytes }),
      ...this.#options.deviceOptions,
    }
    const connector = { connect: (signal: AbortSignal) => machine.connect(signal) }
    const open = this.#options.open ?? (() => openDeviceOnConnector(connector, imagePath, options))
    const opened = open(this, options).then(
      (device) => {
        this.device = device
      },
      (error: unknown) => {
        this.oracle.violations.push(`opening failed: ${describe(error)}`)
      },
    )
    let done = false
    void opened.then(() => {
      done = true
    })
    if (!(await this.time.run(() => done, 120_000))) this.oracle.violations.push('opening hangs')
    return this.device !== undefined
  }

  #state(event: ConnectionEvent): void {
    if (event.type === 'lost') this.#lost()
    if (event.type === 'lost' || event.type === 'restored') this.#isOverBudget = false
    if (event.type === 'budget-over') {
      this.#isOverBudget = true
      this.#excuses++
    }
    if (event.type === 'restored') {
      this.counts.restored++
      if (event.fence === 'exit-status') this.counts.fencedByExit++
      if (event.fence === 'processes') this.counts.fencedByProcesses++
    }
    if (event.type === 'failed') {
      this.counts.gaveUp++
      if (event.error instanceof IdentityError && !this.#isTampered)
        this.oracle.violations.push(`the right file was taken for another one: ${describe(event.error)}`)
    }
    const { type, ...rest } = event
    const details = Object.entries(rest).map(([name, value]) => `${name}: ${describe(value)}`)
    this.note(`device: ${type} ${details.join(', ')}`)
  }

  wantsMoreChannels(): boolean {
    this.counts.channels = Math.max(this.counts.channels, this.device?.info.channels ?? 1)
    return this.#random.chance(0.5)
  }

  get hasGivenUp(): boolean {
    return this.device.info.connection?.state === 'failed'
  }

  // ---- Steps ----

  async step(step: Step): Promise<void> {
    switch (step.do) {
      case 'write':
        this.write(step.first, step.count, step)
        return this.#turn()
      case 'read':
        this.read(step.first, step.count)
        return this.#turn()
      case 'flush':
        this.flush()
        return this.#turn()
      case 'cancel': {
        const call = this.#calls.filter(({ done }) => !done).at(-1 - step.back)
        if (call === undefined) return
        this.note(`cancels ${call.name}`)
        call.controller.abort(new Error('cancelled by the history'))
        return this.#turn()
      }
      case 'wait':
        return this.time.pass(step.ms)
      case 'settle':
        return this.settle()
      default:
        this.#damage(step)
        return this.#turn()
    }
  }

  /** What is due now happens. */
  #turn(): Promise<void> {
    return this.time.pass(0)
  }

  write(first: number, count: number, options: { fua?: boolean; zeros?: boolean } = {}): void {
    const { fua = false, zeros = false } = options
    const record = this.oracle.writeCalled(first, count, zeros)
    const name = `${zeros ? 'zeros' : 'write'} ${record.sequence} (${first}+${count}${fua ? ', fua' : ''})`
    const buffer = new Uint8Array(count * blockBytes)
    this.#call('write', name, (signal) => {
      const offset = first * blockBytes
      if (zeros) return this.device.writeZeroes(offset, buffer.length, { fua, signal })
      stampBlocks(buffer, imageFile, first, record.sequence)
      return this.device.write(offset, buffer, { fua, signal })
    }).then(
      () => {
        this.#giveBack(buffer)
        this.oracle.writeAcknowledged(record, fua)
      },
      () => {
        this.#giveBack(buffer)
        this.oracle.writeUnknown(record)
      },
    )
  }

  /** The buffer is the caller's again: whoever still sends from it sends rubbish. */
  #giveBack(buffer: Uint8Array): void {
    buffer.fill(0xee)
    this.#returned.push({ buffer, copy: buffer.slice() })
  }

  read(first: number, count: number): void {
    const record = this.oracle.readCalled(first, count)
    const buffer = new Uint8Array(count * blockBytes).fill(0xcc)
    this.#call('read', `read (${first}+${count})`, (signal) =>
      this.device.read(first * blockBytes, buffer, { signal }),
    ).then(
      () => {
        const before = this.oracle.violations.length
        this.oracle.readReturned(record, buffer, (block) => (block + 1) * blockBytes > this.#regrownAt)
        for (const violation of this.oracle.violations.slice(before)) this.note(`VIOLATION: ${violation}`)
        this.#returned.push({ buffer, copy: buffer.slice() })
      },
      () => {
        this.#returned.push({ buffer, copy: buffer.slice() })
      },
    )
  }

  flush(): void {
    const record = this.oracle.flushCalled()
    const { losses } = this.counts
    this.#call('flush', 'flush', (signal) => this.device.flush({ signal })).then(
      () => {
        // What was lost since it was called is for the next one to tell.
        if (losses === this.counts.losses) this.#isSyncExcused = this.machine.trouble.failingSyncs > 0
        this.oracle.flushSucceeded(record)
      },
      () => {},
    )
  }

  async #call(
    kind: Call['kind'],
    name: string,
    start: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const controller = new AbortController()
    const call: Call = {
      name,
      controller,
      calledAt: this.time.now(),
      kind,
      excusesBefore: this.#excuses,
      done: false,
    }
    this.#calls.push(call)
    this.counts.calls++
    this.note(`${name} is called`)
    try {
      await start(controller.signal)
      this.counts.succeeded++
      this.note(`${name} is done`)
    } catch (error) {
      this.counts.failed++
      this.note(`${name} failed: ${describe(error)}`)
      if (!(error instanceof BlockDeviceError))
        this.oracle.violations.push(
          `${name} failed with an error that is none of the device's: ${describe(error)}`,
        )
      else if (!this.#isExcused(call))
        this.oracle.violations.push(`${name} failed without a reason: ${describe(error)}`)
      throw error
    } finally {
      call.done = true
      const waited = this.time.now() - Math.max(call.calledAt, this.#lastFaultAt)
      if (waited > this.longestWaitMs)
        this.oracle.violations.push(`${name} waited ${waited} ms, its budget is ${this.longestWaitMs} ms`)
    }
  }

  /**
   * A call fails for a reason: it was cancelled, the server refused something, the budget of an outage was over, or the device had
   * given up. That the connection was lost is none.
   */
  #isExcused({ controller, kind, excusesBefore }: Call): boolean {
    if (controller.signal.aborted || this.#excuses > excusesBefore || this.#isOverBudget || this.hasGivenUp)
      return true
    return this.#isCut || (kind !== 'read' && this.#isSyncExcused)
  }

  /** No call waits longer than this after it was made and after the last damage was done, in milliseconds. */
  get longestWaitMs(): number {
    const { requestTimeoutMs, reconnectDelayMs, keepaliveMs } = this.setup
    // Found out by a time-out, ended in order, connected again; and once more for what fails on the way.
    return 2 * (requestTimeoutMs * 1.25 + keepaliveMs + reconnectDelayMs + 5000 + 15_000) + 10_000
  }

  /** Forgets calls that have ended, in worlds that last. */
  forget(): void {
    this.#calls.splice(0, this.#calls.length, ...this.#calls.filter(({ done }) => !done))
    this.#returned.length = 0
  }

  /** Waits until every call has ended. */
  async settle(): Promise<void> {
    const isDone = () => this.#calls.every(({ done }) => done)
    if (await this.time.run(isDone, this.longestWaitMs + 300_000)) return
    for (const { name, calledAt, done } of this.#calls)
      if (!done) this.oracle.violations.push(`${name}, called at ${calledAt} ms, never ends`)
  }

  // ---- Damage ----

  #fault(what: string): void {
    this.#lastFaultAt = this.time.now()
    this.note(`FAULT: ${what}`)
  }

  #damage(step: Step): void {
    const { machine } = this
    const { live } = machine
    const links = live.flatMap((connection) => connection.links.map((link) => ({ link, connection })))
    const processes = machine.processes.filter((process) => !process.isDead)
    switch (step.do) {
      case 'lose': {
        const connection = live[step.connection % Math.max(1, live.length)]
        if (connection === undefined) return
        this.#fault(`connection lost: ${JSON.stringify(step.loss)}, meanwhile ${step.meanwhile}`)
        this.#meanwhile(step.meanwhile)
        this.#lose(connection, step.loss)
        return
      }
      case 'cut': {
        const found = links[step.link % Math.max(1, links.length)]
        if (found === undefined) return
        this.note(`to be cut after ${step.at} bytes ${step.direction}`)
        found.link.cutAt(step.direction, step.at, step.loss, () => {
          this.#fault(`cut after ${step.at} bytes ${step.direction}: ${JSON.stringify(step.loss)}`)
          this.#lose(found.connection, step.loss)
        })
        return
      }
      case 'rekey':
        for (const connection of live) connection.rekey()
        this.note(`keys are exchanged on ${live.length} connections`)
        return
      case 'kill': {
        const process = processes[step.process % Math.max(1, processes.length)]
        if (process === undefined) return
        this.#fault(`process ${process.pid} killed`)
        process.kill()
        return
      }
      case 'stop': {
        const process = processes[step.process % Math.max(1, processes.length)]
        if (process === undefined || process.isStopped) return
        this.#fault(`process ${process.pid} stopped for ${step.ms} ms`)
        process.stop()
        this.#later(step.ms, `process ${process.pid} goes on`, () => process.goOn())
        return
      }
      case 'stall':
      case 'withhold': {
        const found = links[step.link % Math.max(1, links.length)]
        if (found === undefined) return
        this.#fault(`${step.do} for ${step.ms} ms`)
        this.#hold(found.link, step.do, step.ms)
        return
      }
      case 'double': {
        this.note('the next reply will come twice')
        links[step.link % Math.max(1, links.length)]?.link.doubleNextReply()
        return
      }
      case 'crash': {
        this.#fault(`power failure, down for ${step.downMs} ms`)
        machine.crash()
        this.#meanwhile(step.meanwhile)
        for (const connection of live) connection.vanish(step.silent)
        if (step.downMs > 0) {
          machine.reachable = 'refuses'
          this.#later(step.downMs, 'the machine is up', () => {
            machine.reachable = 'yes'
          })
        }
        return
      }
      case 'down':
        if (machine.reachable !== 'yes') return
        this.#fault(`unreachable (${step.how}) for ${step.ms} ms`)
        machine.reachable = step.how
        this.#later(step.ms, 'reachable', () => {
          machine.reachable = 'yes'
        })
        return
      case 'fail-write':
        this.#fault(`the next write fails: ${step.code}`)
        machine.trouble.failingWrites.push(step.code)
        return
      case 'fail-read':
        this.#fault('the next read fails')
        machine.trouble.failingReads++
        return
      case 'fail-sync':
        this.#fault(`${step.times} syncs fail`)
        machine.trouble.failingSyncs += step.times
        return
      case 'slow': {
        const { trouble } = machine
        this.#fault(`slow for ${step.ms} ms`)
        const random = this.#random
        trouble.writeMs = () => random.below(step.writeMs + 1)
        trouble.syncMs = () => random.below(step.syncMs + 1)
        this.#later(step.ms, 'quick again', () => {
          trouble.writeMs = () => 0
          trouble.syncMs = () => 0
        })
        return
      }
      default:
    }
  }

  // Where the risk of 'replay' was chosen, what has not happened half a millisecond after the loss never does.
  #lose(connection: ServedConnection, loss: Loss): void {
    connection.lose(loss)
    const { processes } = connection
    if (this.setup.onLoss !== 'replay' || loss.lateMs > 0 || loss.serverSeesMs > 0) return
    this.#ownTimers++
    this.time.setTimer(() => {
      this.#ownTimers--
      for (const process of processes ?? []) if (!process.isDead) process.crash()
    }, 0.5)
  }

  #hold(link: ServedConnection['links'][number], how: 'stall' | 'withhold', ms: number): void {
    if (how === 'stall') link.hold()
    else link.holdReplies()
    this.#later(ms, `${how} is over`, () => {
      if (how === 'stall') link.release()
      else link.releaseReplies()
    })
  }

  #later(ms: number, what: string, task: () => void): void {
    this.#ownTimers++
    this.time.setTimer(() => {
      this.#ownTimers--
      this.note(`mended: ${what}`)
      task()
    }, ms)
  }

  #lost(): void {
    this.counts.losses++
    // Where no copy is kept, what is not durable may be gone after a loss.
    if (this.setup.journalBytes !== 0) return
    this.oracle.volatileMayBeLost()
    this.#isSyncExcused = true
  }

  #meanwhile(meanwhile: Meanwhile): void {
    const { machine, image, time } = this
    const { disk } = machine
    if (meanwhile !== 'nothing' && meanwhile !== 'longer') this.#isTampered = true
    switch (meanwhile) {
      case 'other-file': {
        const content = new Uint8Array(image.bytes.length)
        stampBlocks(content, disk.files.length + otherFile, 0, 0)
        disk.create(imagePath, content, image.mtime)
        return
      }
      case 'other-host':
        machine.hostKey++
        return
      case 'shorter':
        if (image.bytes.length < blockBytes * 16) return
        // Who writes behind the end now makes it longer again, with a hole: that is not the device's doing.
        this.#cutAt = Math.min(this.#cutAt, image.bytes.length - blockBytes * 8)
        image.setSize(image.bytes.length - blockBytes * 8, image.mtime)
        this.#isCut = true
        return
      case 'longer':
        this.#regrownAt = this.#cutAt
        image.setSize(image.bytes.length + blockBytes * 8, image.mtime)
        return
      case 'unlinked':
        disk.names.delete(imagePath)
        return
      case 'unreadable': {
        const { mode } = image
        image.mode = 0o100_000
        time.setTimer(() => {
          image.mode = mode
        }, 5000)
        return
      }
      default:
    }
  }

  #applied(process: SftpProcess, file: DiskFile, offset: number, length: number): void {
    const isGhost = process.link.isLost
    if (isGhost) this.counts.ghosts++
    this.note(
      `server ${process.pid}${isGhost ? ' (GHOST)' : ''} writes ${offset / blockBytes}+${length / blockBytes} of file ${file.id}`,
    )
  }

  // ---- The end ----

  async #end(): Promise<void> {
    const { machine, oracle, time } = this
    await this.settle()
    const closing = this.#random.below(10)
    if (closing < 3) {
      this.flush()
      await this.settle()
    }
    let closed = 'no' as 'no' | 'well' | 'with an error'
    let closedDone = false
    this.note('close is called')
    const calledAt = this.time.now()
    this.device.close().then(
      () => {
        closed = 'well'
        closedDone = true
      },
      (error: unknown) => {
        this.note(`close failed: ${describe(error)}`)
        closed = 'with an error'
        closedDone = true
      },
    )
    if (!(await time.run(() => closedDone, this.longestWaitMs + 300_000)))
      oracle.violations.push('close never ends')
    else if (time.now() - Math.max(calledAt, this.#lastFaultAt) > this.longestWaitMs)
      oracle.violations.push(`close took ${time.now() - calledAt} ms`)
    // Everything that is late arrives, everything that is stopped goes on.
    for (const process of machine.processes) process.goOn()
    await time.pass(afterlifeMs)
    for (const process of machine.processes)
      if (!process.isDead)
        oracle.violations.push(`process ${process.pid} is still served: its channel was never closed`)
    const timers = time.pendingTimers - this.#ownTimers
    if (timers > 0) oracle.violations.push(`${timers} timers are left over`)
    for (const { buffer, copy } of this.#returned) {
      if (buffer.some((byte, index) => byte !== copy[index])) {
        oracle.violations.push('a buffer was changed after it had been given back')
        break
      }
    }
    this.counts.virtualMs = time.now()
    this.#checkDisk(closed === 'well')
  }

  #checkDisk(closedWell: boolean): void {
    const { oracle, machine, image, setup } = this
    const bytes = setup.blocks * blockBytes
    for (const other of machine.disk.files) {
      if (other === image) continue
      const untouched = new Uint8Array(other.bytes.length)
      stampBlocks(untouched, other.id + otherFile, 0, 0)
      if (other.bytes.some((byte, index) => byte !== untouched[index]))
        oracle.violations.push(`file ${other.id}, which is not the image, was written to`)
    }
    const wasCut = this.#cutAt < bytes
    const missing = (block: number) => (block + 1) * blockBytes > this.#cutAt
    const at = (content: Uint8Array) => {
      const whole = new Uint8Array(bytes)
      whole.set(content.subarray(0, bytes))
      return whole
    }
    if (closedWell && !this.hasGivenUp && !wasCut)
      oracle.checkContent('the file after closing', at(image.bytes))
    else oracle.checkDurable('the file at the end', at(image.bytes), missing)
    machine.crash()
    const crashed = at(image.bytes)
    if (closedWell && !this.hasGivenUp && !wasCut)
      oracle.checkContent('the file after closing and a power failure', crashed)
    else oracle.checkDurable('the file after a power failure', crashed, missing)
  }
}

function describe(what: unknown): string {
  const text =
    what instanceof Error ? `${'code' in what ? `${what.code} ` : ''}${what.message}` : String(what)
  return text.length > 160 ? `${text.slice(0, 160)}...` : text
}
