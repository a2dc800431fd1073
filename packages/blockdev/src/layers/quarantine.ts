// Ranges with a write whose outcome nobody knows: it was sent, and no answer came. It can still arrive, after newer data
// was acknowledged ("ghost write"). Until the storage is known to be done with it nothing else may be written there.
// Today only opening the device again ends that; a fence of the old session will.

import { BlockDeviceError } from '../errors.ts'
import { IntervalSet } from './interval-set.ts'

export class Quarantine {
  readonly #unknown = new IntervalSet('join')

  /** A write of this range was sent and not answered. */
  add(offset: number, length: number): void {
    this.#unknown.add(offset, offset + length)
  }

  /** @throws BlockDeviceError EIO where the range has bytes in question. */
  check(what: string, offset: number, length: number): void {
    for (const { start, end } of this.#unknown.within(offset, offset + length)) {
      const message = `${what}: an earlier write of bytes ${start} to ${end} was never answered and may still arrive; open the device again`
      throw new BlockDeviceError('EIO', message, { offset, length })
    }
  }
}
