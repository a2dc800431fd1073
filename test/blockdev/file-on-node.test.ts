// Local disk images: the same device on a file of this machine.

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createFileDevice, openFileDevice } from '../../packages/blockdev/src/node.ts'
import { requirePeers } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { mountTmpfs, needsTmpfs } from '../support/tmpfs.ts'
import { pattern, rejection } from './scripted-file.ts'

describe('a local disk image', () => {
  test('is created, written, flushed, resized, closed; opened again and read', async () => {
    const path = join(tempDir(), 'disk.img')
    const made = await createFileDevice(path, { size: 1_000_001 })
    expect(made).toMatchObject({
      size: 1_000_448,
      hasZeroInit: true,
      readOnly: false,
      durability: 'durable',
      kind: 'file',
    })
    await made.write(5000, pattern(3000), { fua: true })
    await made.writeZeroes(6000, 100)
    await made.resize(2_000_000)
    await made.close()
    const expected = new Uint8Array(2_000_000)
    expected.set(pattern(3000), 5000)
    expected.fill(0, 6000, 6100)
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0)
    const again = await openFileDevice(path)
    const into = new Uint8Array(2_000_000)
    await again.read(0, into)
    expect(Buffer.compare(into, expected)).toBe(0)
    expect(await rejection(again.write(0, into))).toMatchObject({ code: 'EROFS' })
    await again.close()
  })

  test('1000 bytes: 512 at 512 are 488 bytes and 24 zeros; truncated underneath it is EIO', async () => {
    const path = join(tempDir(), 'disk.img')
    writeFileSync(path, pattern(1000))
    const device = await openFileDevice(path)
    const into = new Uint8Array(512).fill(1)
    await device.read(512, into)
    expect(into.subarray(0, 488)).toEqual(pattern(1000).subarray(512))
    expect(into.subarray(488)).toEqual(new Uint8Array(24))
    truncateSync(path, 100)
    expect(await rejection(device.read(0, into))).toMatchObject({ code: 'EIO' })
    await device.close()
  })

  test('what is no image is refused, each with its own error', async () => {
    const folder = tempDir()
    const fifo = join(folder, 'fifo')
    execFileSync('mkfifo', [fifo])
    const path = join(folder, 'disk.img')
    writeFileSync(path, pattern(1000))
    expect(await rejection(openFileDevice(folder))).toMatchObject({ code: 'EISDIR' })
    expect(await rejection(openFileDevice(fifo))).toMatchObject({ code: 'EINVAL' })
    expect(await rejection(openFileDevice(join(folder, 'nothing')))).toMatchObject({ code: 'ENOENT' })
    expect(await rejection(openFileDevice(path, { size: 1024 }))).toMatchObject({ code: 'EINVAL' })
    expect(await rejection(createFileDevice(path, { size: 512 }))).toMatchObject({ code: 'EEXIST' })
    expect(await rejection(createFileDevice(join(folder, 'nothing', 'x'), { size: 512 }))).toMatchObject({
      code: 'ENOENT',
    })
    expect(await rejection(createFileDevice(fifo, { size: 512, overwrite: true }))).toMatchObject({
      code: 'EINVAL',
    })
    expect(readFileSync(path)).toHaveLength(1000)
    await (await createFileDevice(path, { size: 512, overwrite: true })).close()
    expect(Buffer.compare(readFileSync(path), new Uint8Array(512))).toBe(0)
    const zero = await openFileDevice('/dev/zero')
    expect(zero.size).toBe(0)
    await zero.close()
  })

  test('a full file system is ENOSPC', async () => {
    requirePeers([needsTmpfs])
    const path = join(await mountTmpfs(65_536), 'disk.img')
    const device = await createFileDevice(path, { size: 1 << 20 })
    expect(statSync(path).blocks).toBe(0)
    expect(await rejection(device.write(0, new Uint8Array(262_144).fill(1)))).toMatchObject({
      code: 'ENOSPC',
      offset: 0,
      length: 262_144,
    })
    await device.close()
    expect(existsSync(path)).toBe(true)
  })
})
