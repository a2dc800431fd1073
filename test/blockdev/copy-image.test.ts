/** Copying and comparing devices, and devices as streams. */
import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import {
  copyImage,
  copySegmentBytes,
  firstDifference,
  MemoryDevice,
  readRange,
  resumePoint,
  startsAlike,
  writeRange,
} from '../../packages/blockdev/src/index.ts'
import { createFileDevice, openFileDevice } from '../../packages/blockdev/src/node.ts'
import { tempDir } from '../support/temp-dir.ts'

const mebibyte = 1024 ** 2

async function filled(size: number, parts: readonly (readonly [offset: number, bytes: Uint8Array])[]) {
  const device = new MemoryDevice({ size })
  for (const [offset, bytes] of parts) await device.write(offset, bytes)
  return device
}

test('a copy has every byte, and writes only what is not zero', async () => {
  const source = await filled(3 * mebibyte + 5, [
    [100_000, randomBytes(10)],
    [3 * mebibyte, randomBytes(5)],
  ])
  const target = await createFileDevice(`${tempDir()}/target`, { size: 0, exactSize: true })
  const seen: number[] = []
  const { dataBytes } = await copyImage(source, target, {
    onProgress: ({ doneBytes }) => seen.push(doneBytes),
  })
  expect(dataBytes).toBe(65_536 + 5)
  expect(target.size).toBe(source.size)
  expect(await firstDifference(source, target)).toBeUndefined()
  expect(seen.at(-1)).toBe(source.size)
  await target.close()
})

test('zeros replace what a target had before, and what is behind the end is cut off', async () => {
  const file = `${tempDir()}/target`
  const before = await createFileDevice(file, { size: 2 * mebibyte })
  await before.write(0, new Uint8Array(2 * mebibyte).fill(9))
  await before.close()
  const source = await filled(mebibyte, [[5, randomBytes(5)]])
  const target = await openFileDevice(file, { writable: true })
  await copyImage(source, target)
  expect(target.size).toBe(mebibyte)
  expect(await firstDifference(source, target)).toBeUndefined()
  await target.close()
})

test('the resume point is behind the last segment that is complete for certain', () => {
  expect([0, 1, copySegmentBytes, copySegmentBytes + 1, 3 * copySegmentBytes].map(resumePoint)).toEqual([
    0,
    0,
    0,
    copySegmentBytes,
    2 * copySegmentBytes,
  ])
})

test('a cancelled copy leaves a size that tells where to go on', async () => {
  const source = await filled(copySegmentBytes + mebibyte, [
    [0, randomBytes(mebibyte)],
    [copySegmentBytes, randomBytes(mebibyte)],
  ])
  const target = await createFileDevice(`${tempDir()}/target`, { size: 0, exactSize: true })
  const abort = new AbortController()
  const onProgress = ({ doneBytes }: { doneBytes: number }): void => {
    if (doneBytes >= copySegmentBytes) abort.abort()
  }
  await expect(copyImage(source, target, { signal: abort.signal, onProgress })).rejects.toMatchObject({
    code: 'ABORT_ERR',
  })
  const start = resumePoint(target.size)
  expect(await startsAlike(source, target, start)).toBe(true)
  await copyImage(source, target, { start })
  expect(await firstDifference(source, target)).toBeUndefined()
  await target.close()
})

test('the first difference is found to the byte, in content and in size', async () => {
  const bytes = randomBytes(3 * mebibyte)
  const other = Buffer.from(bytes)
  other[2_500_001]! ^= 1
  other[2_900_000]! ^= 1
  const [a, b] = await Promise.all([bytes, other].map((each) => filled(each.length, [[0, each]])))
  expect(await firstDifference(a!, b!)).toBe(2_500_001)
  expect(await firstDifference(a!, await filled(2 * mebibyte, [[0, bytes.subarray(0, 2 * mebibyte)]]))).toBe(
    2 * mebibyte,
  )
  expect(await startsAlike(a!, b!, 2_600_000)).toBe(false)
})

test('a range is streamed in order, and a stream goes where it should', async () => {
  const bytes = randomBytes(5 * mebibyte)
  const source = await filled(bytes.length, [[0, bytes]])
  const parts: Buffer[] = []
  for await (const chunk of readRange(source, 1000, 4 * mebibyte)) parts.push(Buffer.from(chunk))
  expect(Buffer.concat(parts).equals(bytes.subarray(1000, 1000 + 4 * mebibyte))).toBe(true)
  const target = new MemoryDevice({ size: 5 * mebibyte })
  expect(await writeRange(target, 1000, parts)).toBe(4 * mebibyte)
  const back = new Uint8Array(4 * mebibyte)
  await target.read(1000, back)
  expect(Buffer.compare(back, Buffer.concat(parts))).toBe(0)
  await expect(writeRange(target, 2 * mebibyte, parts)).rejects.toMatchObject({ code: 'EINVAL' })
})
