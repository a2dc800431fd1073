// The world of one history: the model's machine with the image on it, the device, and an oracle that is told of every call. In the
// end everything that is still on its way arrives, the machine loses power, and the disk is looked at.

import type { SftpDevice } from '@sshblock/blockdev'
import { IdentityError } from '../../packages/blockdev/src/image/errors.ts'
import type { ConnectionEvent } from '../../packages/blockdev/src/image/options.ts'
import {
  type OpenOnConnectorOptions,
  openDeviceOnConnector,
} from '../../packages/blockdev/src/sftp-connector-device.ts'
import { Calls } from './calls.ts'
import { Damage, imagePath, otherFile } from './damage.ts'
import type { HistorySetup, Step } from './history.ts'
import { describe, noCounts } from './history-result.ts'
import { blockBytes, stampBlocks } from './model/block-stamp.ts'
import type { DiskFile } from './model/disk.ts'
import { Machine } from './model/machine.ts'
import { Random } from './model/random.ts'
import type { SftpProcess } from './model/sftp-process.ts'
import { VirtualTime } from './model/virtual-time.ts'
import { Oracle } from './oracle.ts'

export interface RunOptions {
  readonly trace?: boolean
  /** Changes what the device is told; for proofs. */
  readonly deviceOptions?: Partial<OpenOnConnectorOptions>
  /** Opens the device in another way than on the model's own connections. */
  readonly open?: (world: World, options: OpenOnConnectorOptions) => Promise<SftpDevice>
}

const imageFile = 0
/** Everything that was slow, stopped or late has happened after this. */
const afterlifeMs = 400_000

export class World {
  readonly setup: HistorySetup
  readonly time = new VirtualTime()
  readonly machine: Machine
  readonly oracle: Oracle
  readonly trace: string[] = []
  readonly counts = noCounts()
  readonly image: DiskFile
  readonly damage: Damage
  readonly calls: Calls
  device!: SftpDevice
  readonly #options: RunOptions
  readonly #random: Random
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
      endsOlderSessions: setup.endsOlderSessions,
      connectMs: () => (most === 0 ? 1 : random.between(5, 50)),
      keepaliveMs: setup.keepaliveMs,
      roundTripMs: setup.roundTripMs,
    })
    const content = new Uint8Array(setup.blocks * blockBytes)
    stampBlocks(content, imageFile, 0, 0)
    this.image = this.machine.disk.create(imagePath, content, 1_600_000_000)
    this.oracle = new Oracle({ file: imageFile, blocks: setup.blocks })
    this.machine.trouble.onRefusal = (what) => {
      this.calls.excuse()
      if (what === 'sync') this.calls.isSyncExcused = true
    }
    const note = (what: string) => this.note(what)
    const { machine, image, oracle, time, counts } = this
    this.damage = new Damage({ machine, image, time, random, forgets: setup.onLoss === 'replay', note })
    const { damage } = this
    this.calls = new Calls({ setup, time, oracle, damage, counts, note, device: () => this.device })
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
    if (event.type === 'lost' || event.type === 'restored') this.calls.isOverBudget = false
    if (event.type === 'budget-over') {
      this.calls.isOverBudget = true
      this.calls.excuse()
    }
    if (event.type === 'restored') {
      this.counts.restored++
      if (event.fence === 'exit-status') this.counts.fencedByExit++
      if (event.fence === 'processes') this.counts.fencedByProcesses++
      if (event.fence === 'session-epoch') this.counts.fencedByEpoch++
    }
    if (event.type === 'failed') {
      this.counts.gaveUp++
      if (event.error instanceof IdentityError && !this.damage.isTampered)
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
        const call = this.calls.underWay(step.back)
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
        this.damage.do(step)
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
    this.calls
      .make('write', name, (signal) => {
        const offset = first * blockBytes
        if (zeros) return this.device.writeZeroes(offset, buffer.length, { fua, signal })
        stampBlocks(buffer, imageFile, first, record.sequence)
        return this.device.write(offset, buffer, { fua, signal })
      })
      .then(
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
    this.calls.returned(buffer)
  }

  read(first: number, count: number): void {
    const record = this.oracle.readCalled(first, count)
    const buffer = new Uint8Array(count * blockBytes).fill(0xcc)
    this.calls
      .make('read', `read (${first}+${count})`, (signal) =>
        this.device.read(first * blockBytes, buffer, { signal }),
      )
      .then(
        () => {
          const before = this.oracle.violations.length
          const { zerosFrom } = this.damage
          this.oracle.readReturned(record, buffer, (block) => (block + 1) * blockBytes > zerosFrom)
          for (const violation of this.oracle.violations.slice(before)) this.note(`VIOLATION: ${violation}`)
          this.calls.returned(buffer)
        },
        () => {
          this.calls.returned(buffer)
        },
      )
  }

  flush(): void {
    const record = this.oracle.flushCalled()
    const { losses } = this.counts
    this.calls
      .make('flush', 'flush', (signal) => this.device.flush({ signal }))
      .then(
        () => {
          // What was lost since it was called is for the next one to tell.
          if (losses === this.counts.losses) this.calls.isSyncExcused = this.machine.trouble.failingSyncs > 0
          this.oracle.flushSucceeded(record)
        },
        () => {},
      )
  }

  /** Forgets calls that have ended, in worlds that last. */
  forget(): void {
    this.calls.forget()
  }

  /** Waits until every call has ended. */
  settle(): Promise<void> {
    return this.calls.settle()
  }

  #lost(): void {
    this.counts.losses++
    // Where no copy is kept, what is not durable may be gone after a loss.
    if (this.setup.journalBytes !== 0) return
    this.oracle.volatileMayBeLost()
    this.calls.isSyncExcused = true
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
    if (!(await time.run(() => closedDone, this.calls.longestWaitMs + 300_000)))
      oracle.violations.push('close never ends')
    else if (time.now() - calledAt > this.calls.longestWaitMs)
      oracle.violations.push(`close took ${time.now() - calledAt} ms`)
    // Everything that is late arrives, everything that is stopped goes on.
    for (const process of machine.processes) process.goOn()
    await time.pass(afterlifeMs)
    for (const process of machine.processes)
      if (!process.isDead)
        oracle.violations.push(`process ${process.pid} is still served: its channel was never closed`)
    const timers = time.pendingTimers - this.damage.ownTimers
    if (timers > 0) oracle.violations.push(`${timers} timers are left over`)
    if (this.calls.haveTouchedReturned)
      oracle.violations.push('a buffer was changed after it had been given back')
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
    const wasCut = this.damage.cutAt < bytes
    const missing = (block: number) => (block + 1) * blockBytes > this.damage.cutAt
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
