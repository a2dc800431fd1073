// The size of a block device where nobody tells it: SFTP and Node's stat() say 0. What is behind the end reads as nothing, so
// the end is found by reading a byte here and there: many places at once, since what counts is the way to the server.
// Servers that seek before they read, as OpenSSH's, refuse places behind the end instead. So a refusal counts as nothing, and
// what was found is an end only where a read at that very place says so: a bad sector is never taken for one.

import { BlockDeviceError } from './errors.ts'

const blockBytes = 512
/** Block numbers that are powers of two, up to what a safe integer can name in bytes. */
const powers = 44
const placesAtOnce = 16

/**
 * Finds the size in bytes, a multiple of 512.
 * @param bytesAt how many bytes a read of one byte at an offset gives
 * @throws BlockDeviceError EINVAL where there is no end; what `bytesAt` throws at the end that was found
 */
export async function findDeviceEnd(bytesAt: (offset: number) => Promise<number>): Promise<number> {
  const isThere = async (block: number): Promise<boolean> => {
    try {
      return (await bytesAt(block * blockBytes)) > 0
    } catch {
      return false
    }
  }
  const firstMissing = async (blocks: readonly number[]): Promise<number> => {
    const at = (await Promise.all(blocks.map(isThere))).indexOf(false)
    return at < 0 ? blocks.length : at
  }
  const doubling = [0, ...Array.from({ length: powers }, (_, i) => 2 ** i)]
  const found = await firstMissing(doubling)
  // All blocks before `missing` may be there, and it is not.
  let missing = doubling[found] ?? Number.POSITIVE_INFINITY
  if (missing === Number.POSITIVE_INFINITY)
    throw new BlockDeviceError('EINVAL', 'it is a device without an end')
  for (let last = doubling[found - 1] ?? -1; missing - last > 1; ) {
    const step = Math.ceil((missing - last) / (placesAtOnce + 1))
    const places: number[] = []
    for (let block = last + step; block < missing; block += step) places.push(block)
    const at = await firstMissing(places)
    missing = places[at] ?? missing
    last = places[at - 1] ?? last
  }
  const end = missing * blockBytes
  if ((await bytesAt(end)) > 0) throw new BlockDeviceError('EIO', `its size changes while it is searched for`)
  return end
}
