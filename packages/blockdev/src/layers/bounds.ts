// What a call may name: whole bytes inside the device. A read may also reach into the rest of the last block, where an
// image whose size is no multiple of the block size reads as zeros (as QEMU has it).

import { BlockDeviceError } from '../errors.ts'

/** Smallest unit that devices prefer, in bytes. */
export const blockSize = 512

/** `size` rounded up to whole blocks. */
export function roundUpToBlock(size: number): number {
  return Math.ceil(size / blockSize) * blockSize
}

/** @throws BlockDeviceError EINVAL where offset or length is no whole non-negative number, or their sum is not exact. */
export function checkRange(what: string, offset: number, length: number): void {
  const whole = (n: number) => Number.isSafeInteger(n) && n >= 0
  if (whole(offset) && whole(length) && Number.isSafeInteger(offset + length)) return
  throw new BlockDeviceError(
    'EINVAL',
    `${what}: offset and length must be whole bytes below 2^53, got ${offset} and ${length}`,
    {
      offset,
      length,
    },
  )
}

/** @throws BlockDeviceError EINVAL where the range ends beyond `limit`. */
export function checkInside(what: string, offset: number, length: number, limit: number): void {
  if (offset + length <= limit) return
  const message = `${what} of ${length} bytes at ${offset} ends beyond the device, which has ${limit} bytes`
  throw new BlockDeviceError('EINVAL', message, { offset, length })
}

/** @throws BlockDeviceError EINVAL where a size is no whole number of bytes. */
export function checkSize(what: string, size: number): void {
  if (Number.isSafeInteger(size) && size >= 0) return
  throw new BlockDeviceError('EINVAL', `${what}: a size must be whole bytes below 2^53, got ${size}`)
}
