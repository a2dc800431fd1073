// What a history does to the machine, to its processes and to the ways that lead there; and what of that excuses the device.

import type { Meanwhile, Step } from './history.ts'
import { blockBytes, stampBlocks } from './model/block-stamp.ts'
import type { DiskFile } from './model/disk.ts'
import type { Loss } from './model/link.ts'
import type { Machine, ServedConnection } from './model/machine.ts'
import type { Random } from './model/random.ts'
import type { VirtualTime } from './model/virtual-time.ts'

export const imagePath = '/disk.img'
/** Added to the number of any file but the image, in its stamps. */
export const otherFile = 100

export interface DamageOptions {
  readonly machine: Machine
  readonly image: DiskFile
  readonly time: VirtualTime
  readonly random: Random
  /** Old sessions do nothing late. */
  readonly forgets: boolean
  readonly note: (what: string) => void
}

export class Damage {
  readonly #options: DamageOptions
  /** Timers of the history itself that are still to come, hours away. */
  ownTimers = 0
  /** It is another file, machine or size by now, or was for a while. */
  isTampered = false
  /** Somebody else cut the file: any call may fail. */
  isCut = false
  /** Somebody else cut the file off here. */
  cutAt = Number.POSITIVE_INFINITY
  /** Behind this they made it long again, with zeros: the right size, and the right content where anybody looked. */
  #regrownAt = Number.POSITIVE_INFINITY

  constructor(options: DamageOptions) {
    this.#options = options
  }

  /** Behind this byte zeros are not the device's doing. */
  get zerosFrom(): number {
    return this.#options.image.hasHole ? this.cutAt : this.#regrownAt
  }

  #fault(what: string): void {
    this.#options.note(`FAULT: ${what}`)
  }

  /** Does what a step says; steps that are no damage are none of its business. */
  do(step: Step): void {
    const { machine } = this.#options
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
        this.#options.note(`to be cut after ${step.at} bytes ${step.direction}`)
        found.link.cutAt(step.direction, step.at, step.loss, () => {
          this.#fault(`cut after ${step.at} bytes ${step.direction}: ${JSON.stringify(step.loss)}`)
          this.#lose(found.connection, step.loss)
        })
        return
      }
      case 'rekey':
        for (const connection of live) connection.rekey()
        this.#options.note(`keys are exchanged on ${live.length} connections`)
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
        this.#options.note('the next reply will come twice')
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
      case 'fail-writeback':
        this.#fault('a write-back fails')
        this.#options.image.syncFailed(this.#options.image.beginSync())
        return
      case 'slow': {
        const { trouble } = machine
        this.#fault(`slow for ${step.ms} ms`)
        const { random } = this.#options
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
    const { time, forgets } = this.#options
    if (!forgets || loss.lateMs > 0 || loss.serverSeesMs > 0) return
    this.ownTimers++
    time.setTimer(() => {
      this.ownTimers--
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
    this.ownTimers++
    this.#options.time.setTimer(() => {
      this.ownTimers--
      this.#options.note(`mended: ${what}`)
      task()
    }, ms)
  }

  #meanwhile(meanwhile: Meanwhile): void {
    const { machine, image, time } = this.#options
    const { disk } = machine
    if (meanwhile !== 'nothing' && meanwhile !== 'longer') this.isTampered = true
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
        this.cutAt = Math.min(this.cutAt, image.bytes.length - blockBytes * 8)
        image.setSize(image.bytes.length - blockBytes * 8, image.mtime)
        this.isCut = true
        return
      case 'longer':
        this.#regrownAt = this.cutAt
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
}
