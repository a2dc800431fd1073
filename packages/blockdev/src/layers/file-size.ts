// Changing the size of an image, verified: some servers answer OK and do nothing, or something else.

import { BlockDeviceError } from '../errors.ts'
import type { RandomAccessFile } from '../random-access-file.ts'
import { callError } from './storage-error.ts'
import { writeFully } from './write-retry.ts'

/**
 * Makes a file longer; what is added reads as zeros. An empty file gets its size set, and where that is refused or does not
 * help, one zero byte at its end. A file with content gets the zero byte first: there are servers (paramiko's sample
 * server) on which setting a size empties the file and then reports the right size.
 * @throws BlockDeviceError where neither works.
 */
export async function growFile(file: RandomAccessFile, from: number, to: number): Promise<void> {
  const setSize = () => file.setSize(to)
  const writeLastByte = () => writeFully(file, to - 1, new Uint8Array(1))
  const ways = from === 0 ? [setSize, writeLastByte] : [writeLastByte, setSize]
  let firstError: unknown
  for (const way of ways) {
    try {
      await way()
      await verifySize(file, to, Number.POSITIVE_INFINITY)
      return
    } catch (error) {
      firstError ??= error
    }
  }
  throw callError(`growing the file from ${from} to ${to} bytes`, firstError)
}

/**
 * Cuts a file off.
 * @throws BlockDeviceError where the storage refuses, or says OK and has another size.
 */
export async function shrinkFile(file: RandomAccessFile, to: number): Promise<void> {
  try {
    await file.setSize(to)
  } catch (error) {
    throw callError(`cutting the file to ${to} bytes`, error)
  }
  await verifySize(file, to, to)
}

async function verifySize(file: RandomAccessFile, expected: number, atMost: number): Promise<void> {
  const { size } = await file.status()
  if (size !== undefined && size >= expected && size <= atMost) return
  const found = size === undefined ? 'does not tell the size' : `reports a size of ${size}`
  throw new BlockDeviceError('EIO', `the storage ${found} after it was set to ${expected} bytes`)
}
