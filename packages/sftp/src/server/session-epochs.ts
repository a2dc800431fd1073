// Sessions of one device, so that a client that lost its connection can have its old sessions ended before it goes on
// (session-epoch@sshblock). A session joins with the device's name, an epoch and a number of its own. A session of a later
// epoch is answered only when all earlier ones are over: their queued requests dropped, those under way done, their
// handles closed. The answer names those that are over, so that a client can tell whether its own was among them: a server
// that was started again does not know.
// One of these is shared by all sessions that may serve one client: in one process.

import { statusCode } from '../messages/status.ts'
import { RequestRefused } from './status-of.ts'

/** A session that can be ended. */
export interface EpochMember {
  /** Resolves when it is over and can do nothing any more. */
  readonly finished: Promise<unknown>
  close(): void
}

interface Member extends EpochMember {
  readonly epoch: number
}

interface Device {
  epoch: number
  readonly members: Map<number, Member>
  /** Numbers of sessions that are over, the latest last. */
  readonly ended: number[]
}

const maxDevices = 1024
const maxEnded = 1024

export class SessionEpochs {
  readonly #devices = new Map<string, Device>()

  /** Devices known, for people and tests. */
  get size(): number {
    return this.#devices.size
  }

  /**
   * A session joins. Resolves, when no session of an earlier epoch can do anything any more, to the numbers of those that
   * were ended or had ended.
   * @param name of the device: random bytes that nobody else knows
   * @throws RequestRefused PERMISSION_DENIED where a later epoch has begun.
   */
  async join(
    name: Uint8Array,
    epoch: number,
    serial: number,
    session: EpochMember,
  ): Promise<readonly number[]> {
    const device = this.#device(name)
    if (epoch < device.epoch) throw superseded()
    device.epoch = epoch
    device.members.set(serial, { epoch, finished: session.finished, close: () => session.close() })
    void session.finished.then(() => {
      device.members.delete(serial)
      device.ended.push(serial)
      if (device.ended.length > maxEnded) device.ended.shift()
    })
    const older = [...device.members.values()].filter((member) => member.epoch < epoch)
    for (const member of older) member.close()
    await Promise.all(older.map((member) => member.finished))
    if (device.epoch > epoch) throw superseded()
    return [...device.ended]
  }

  #device(name: Uint8Array): Device {
    const key = Array.from(name, (byte) => byte.toString(16).padStart(2, '0')).join('')
    const found = this.#devices.get(key)
    if (found !== undefined) {
      // The latest is the last to be forgotten.
      this.#devices.delete(key)
      this.#devices.set(key, found)
      return found
    }
    if (this.#devices.size >= maxDevices) this.#forgetOne()
    const device: Device = { epoch: 0, members: new Map(), ended: [] }
    this.#devices.set(key, device)
    return device
  }

  #forgetOne(): void {
    for (const [key, { members }] of this.#devices) {
      if (members.size > 0) continue
      this.#devices.delete(key)
      return
    }
    throw new RequestRefused(statusCode.failure, 'Too many devices')
  }
}

function superseded(): RequestRefused {
  return new RequestRefused(statusCode.permissionDenied, 'A later session of this device has begun')
}
