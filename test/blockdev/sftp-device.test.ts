// The device on OpenSSH's own sftp-server over a pipe; the file is then looked at directly.

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect } from 'vitest'
import { MemoryDevice } from '../../packages/blockdev/src/memory-device.ts'
import {
  type CreateOptions,
  createDeviceOnSftp,
  openDeviceOnSftp,
  type SftpDeviceOptions,
} from '../../packages/blockdev/src/sftp-device.ts'
import { copyPieceBytes } from '../../packages/blockdev/src/sftp-zero-copier.ts'
import { tempDir } from '../support/temp-dir.ts'
import { mountTmpfs, needsTmpfs } from '../support/tmpfs.ts'
import {
  imageFile,
  needsSftpServer,
  needsStrace,
  type ServerOptions,
  startServer,
  testWith,
} from './private-sftp-server.ts'
import { pattern, rejection } from './scripted-file.ts'

const withServer = testWith(needsSftpServer)
const withStrace = testWith(needsSftpServer, needsStrace)
const withMount = testWith(needsSftpServer, () => needsTmpfs)

async function openOn(path: string, options: SftpDeviceOptions = {}, serverOptions: ServerOptions = {}) {
  const server = await startServer(serverOptions)
  return { ...server, device: await openDeviceOnSftp(server.sftp, path, options) }
}

async function createOn(path: string, options: CreateOptions, serverOptions: ServerOptions = {}) {
  const server = await startServer(serverOptions)
  return { ...server, device: await createDeviceOnSftp(server.sftp, path, options) }
}

async function readAt(
  device: { read(offset: number, into: Uint8Array): Promise<void> },
  offset: number,
  length: number,
) {
  const into = new Uint8Array(length).fill(0xcc)
  await device.read(offset, into)
  return into
}

describe('open', () => {
  withServer('reads, writes, flushes, closes; the file is what it should be', async () => {
    const content = pattern(1 << 20)
    const path = imageFile(content)
    const { device } = await openOn(path, { writable: true })
    expect(device).toMatchObject({
      size: 1 << 20,
      readOnly: false,
      durability: 'durable',
      hasZeroInit: false,
      kind: 'file',
    })
    expect(Buffer.compare(await readAt(device, 0, 1 << 20), content)).toBe(0)
    const data = pattern(300_000, 9)
    await Promise.all([device.write(12_345, data), device.writeZeroes(700_000, 5000)])
    await device.flush()
    await device.close()
    content.set(data, 12_345)
    content.fill(0, 700_000, 705_000)
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  })

  withServer('tells what it knows', async () => {
    const path = imageFile(pattern(4096))
    const { device } = await openOn(path, {})
    const { info } = device
    expect(info).toMatchObject({
      path,
      size: 4096,
      kind: 'file',
      readOnly: true,
      flushPolicy: 'strict',
      durability: 'durable',
      channels: 1,
      server: undefined,
    })
    expect(info.extensions.get('fsync@openssh.com')).toBe('1')
    expect(info.limits.maxReadBytes).toBeGreaterThan(32_768)
    expect(device.preferredBlockSize).toBe(128 * 1024)
    await device.close()
  })

  withServer('1000-byte file: 512 bytes at 512 are 488 bytes and 24 zeros', async () => {
    const content = pattern(1000)
    const { device } = await openOn(imageFile(content))
    const into = await readAt(device, 512, 512)
    expect(into.subarray(0, 488)).toEqual(content.subarray(512))
    expect(into.subarray(488)).toEqual(new Uint8Array(24))
    await device.close()
  })

  withServer('a missing file is ENOENT with path, "No such file" and SFTP status 2', async () => {
    const path = join(tempDir(), 'nothing', 'disk.img')
    const error = await rejection(openOn(path))
    expect(error).toMatchObject({ code: 'ENOENT' })
    expect(error.message).toContain(path)
    expect(error.message).toMatch(/No such file \(SFTP status 2/)
  })

  withServer('a directory is refused', async () => {
    expect(await rejection(openOn(tempDir()))).toMatchObject({
      code: 'EISDIR',
      message: expect.stringMatching(/is a directory/),
    })
  })

  withServer('a fifo is refused at once, though opening it would block the server', async () => {
    const path = join(tempDir(), 'fifo')
    execFileSync('mkfifo', [path])
    const server = await startServer()
    for (const writable of [false, true]) {
      expect(await rejection(openDeviceOnSftp(server.sftp, path, { writable }))).toMatchObject({
        code: 'EINVAL',
        message: expect.stringMatching(/is a fifo/),
      })
    }
    await server.sftp.stat('/')
  })

  withServer('/dev/zero has length 0, or the size that is given', async () => {
    const { sftp } = await startServer()
    const empty = await openDeviceOnSftp(sftp, '/dev/zero')
    expect(empty).toMatchObject({ size: 0, kind: 'character-device' })
    await empty.close()
    const sized = await openDeviceOnSftp(sftp, '/dev/zero', { size: 8192 })
    expect(await readAt(sized, 4000, 4192)).toEqual(new Uint8Array(4192))
    await sized.close()
  })

  withServer('a wrong explicit size of a file is refused', async () => {
    const path = imageFile(pattern(1000))
    expect(await rejection(openOn(path, { size: 1024 }))).toMatchObject({
      code: 'EINVAL',
      message: expect.stringMatching(/has 1000 bytes, and "size" says 1024/),
    })
  })

  withServer(
    'a read-only server (-R) refuses to open for writing with a permission error, and reads',
    async () => {
      const content = pattern(5000)
      const path = imageFile(content)
      const { sftp } = await startServer({ args: ['-R'] })
      const error = await rejection(openDeviceOnSftp(sftp, path, { writable: true }))
      expect(error).toMatchObject({
        code: 'EACCES',
        message: expect.stringMatching(/Permission denied \(SFTP status 3.*read-only/),
      })
      const device = await openDeviceOnSftp(sftp, path)
      expect(await readAt(device, 0, 5000)).toEqual(content)
      expect(await rejection(device.write(0, new Uint8Array(1)))).toMatchObject({ code: 'EROFS' })
      await device.close()
    },
  )

  withServer(
    'without fsync@openssh.com: strict refuses to write, and leaves no handle, no file',
    async () => {
      const path = imageFile(pattern(1000))
      const { sftp, requests } = await startServer({ args: ['-P', 'fsync'] })
      expect(
        await rejection(openDeviceOnSftp(sftp, path, { writable: true, serverName: 'h' })),
      ).toMatchObject({
        code: 'ENOTSUP',
        message: expect.stringMatching(/server "h" has no fsync@openssh.com/),
      })
      expect(await rejection(createDeviceOnSftp(sftp, `${path}2`, { size: 512 }))).toMatchObject({
        code: 'ENOTSUP',
      })
      expect(requests.filter((name) => name === 'OPEN')).toHaveLength(1)
      expect(requests.at(-1)).toBe('CLOSE')
      expect(existsSync(`${path}2`)).toBe(false)
      await (await openDeviceOnSftp(sftp, path)).close()
    },
  )

  withServer('without fsync@openssh.com: unsafe writes, warns once, and says so in info', async () => {
    const path = imageFile(pattern(1000))
    const warnings: string[] = []
    const { sftp, requests } = await startServer({ args: ['-P', 'fsync'] })
    const device = await openDeviceOnSftp(sftp, path, {
      writable: true,
      flushPolicy: 'unsafe',
      serverName: 'h',
      onWarning: (message) => warnings.push(message),
    })
    for (let i = 0; i < 3; i++) {
      await device.write(i, new Uint8Array(1))
      await device.flush()
    }
    expect(device.info).toMatchObject({ flushPolicy: 'unsafe', durability: 'volatile' })
    await device.close()
    expect(warnings).toEqual(['server "h" has no fsync@openssh.com; data may be lost on a crash'])
    expect(requests).not.toContain('fsync@openssh.com')
  })
})

describe('files that change underneath', () => {
  withServer('truncated: EIO by default', async () => {
    const content = pattern(100_000)
    const path = imageFile(content)
    const { device } = await openOn(path)
    truncateSync(path, 50_000)
    expect(await rejection(device.read(49_152, new Uint8Array(4096)))).toMatchObject({
      code: 'EIO',
      offset: 49_152,
      length: 4096,
    })
    expect(await readAt(device, 0, 50_000)).toEqual(content.subarray(0, 50_000))
    await device.close()
  })

  withServer('truncated: zeros on request', async () => {
    const content = pattern(100_000)
    const path = imageFile(content)
    const { device } = await openOn(path, { onShrink: 'zeros' })
    truncateSync(path, 50_000)
    const into = await readAt(device, 49_152, 4096)
    expect(into.subarray(0, 848)).toEqual(content.subarray(49_152, 50_000))
    expect(into.subarray(848)).toEqual(new Uint8Array(4096 - 848))
    await device.close()
  })

  withServer('replaced: further channels do not read the new file, nor write zeros to it', async () => {
    const path = imageFile(pattern(4 << 20))
    const { sftp } = await startServer()
    const channels: string[][] = []
    const openChannel = async () => {
      const more = await startServer()
      channels.push(more.requests)
      return more.sftp
    }
    const device = await openDeviceOnSftp(sftp, path, { writable: true, openChannel })
    const other = pattern(4 << 20, 77)
    writeFileSync(`${path}.new`, other)
    renameSync(`${path}.new`, path)
    await device.write(0, new Uint8Array(10))
    await device.writeZeroes(1 << 20, 1 << 20)
    await device.close()
    expect(device.info.channels).toBe(1)
    expect(channels).toHaveLength(2)
    expect(channels.flat()).not.toContain('copy-data')
    expect(Buffer.compare(readFileSync(path), other)).toBe(0)
  })
})

describe('create', () => {
  withServer('rounds up to 512, reads as zeros, is durable, mode 0644', async () => {
    const path = join(tempDir(), 'new.img')
    const { device, requests } = await createOn(path, { size: 1_000_001 })
    expect(device).toMatchObject({ size: 1_000_448, readOnly: false, hasZeroInit: true })
    expect(device.extents(0, 1_000_448)).toEqual([{ offset: 0, length: 1_000_448, zero: true }])
    expect(requests).toContain('fsync@openssh.com')
    const { size, mode, blocks } = statSync(path)
    expect([size, mode & 0o777 & ~process.umask(), blocks]).toEqual([1_000_448, 0o644 & ~process.umask(), 0])
    expect(await readAt(device, 1_000_000, 448)).toEqual(new Uint8Array(448))
    await device.close()
  })

  withServer('takes the exact size on request', async () => {
    const path = join(tempDir(), 'new.img')
    const { device } = await createOn(path, { size: 1_000_001, exactSize: true })
    await device.close()
    expect(statSync(path).size).toBe(1_000_001)
  })

  withServer('does not touch a file that exists, unless it is to be overwritten', async () => {
    const content = pattern(1000)
    const path = imageFile(content)
    const { sftp } = await startServer()
    expect(await rejection(createDeviceOnSftp(sftp, path, { size: 512 }))).toMatchObject({
      code: 'EEXIST',
      message: expect.stringContaining(path),
    })
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
    const device = await createDeviceOnSftp(sftp, path, { size: 512, overwrite: true })
    await device.close()
    expect(Buffer.compare(readFileSync(path), new Uint8Array(512))).toBe(0)
  })

  withServer('in a folder that is not there: names path and "No such file" (SFTP status 2)', async () => {
    const path = join(tempDir(), 'nothing', 'new.img')
    const error = await rejection(createOn(path, { size: 4_194_304 }))
    expect(error).toMatchObject({ code: 'ENOENT' })
    expect(error.message).toContain(path)
    expect(error.message).toMatch(/No such file \(SFTP status 2/)
  })

  withServer('over a directory, a fifo or a device is refused', async () => {
    const folder = tempDir()
    execFileSync('mkfifo', [join(folder, 'fifo')])
    const { sftp } = await startServer()
    expect(await rejection(createDeviceOnSftp(sftp, folder, { size: 512, overwrite: true }))).toMatchObject({
      code: 'EISDIR',
    })
    expect(
      await rejection(createDeviceOnSftp(sftp, join(folder, 'fifo'), { size: 512, overwrite: true })),
    ).toMatchObject({ code: 'EINVAL' })
    expect(
      await rejection(createDeviceOnSftp(sftp, '/dev/null', { size: 512, overwrite: true })),
    ).toMatchObject({ code: 'EINVAL' })
  })

  withServer('grows by one zero byte where FSETSTAT is refused', async () => {
    const path = join(tempDir(), 'new.img')
    const { device } = await createOn(path, { size: 1 << 20 }, { args: ['-P', 'fsetstat'] })
    await device.close()
    expect(Buffer.compare(readFileSync(path), new Uint8Array(1 << 20))).toBe(0)
  })

  withServer('removes the file again when growing fails', async () => {
    const folder = tempDir()
    const path = join(folder, 'new.img')
    const error = await rejection(createOn(path, { size: 1 << 20 }, { args: ['-P', 'fsetstat,write'] }))
    expect(error).toMatchObject({ code: 'EACCES', message: expect.stringContaining(path) })
    expect(readdirSync(folder)).toEqual([])
  })

  withServer('leaves a file that was there before, when overwriting fails', async () => {
    const path = imageFile(pattern(1000))
    await rejection(createOn(path, { size: 1 << 20, overwrite: true }, { args: ['-P', 'fsetstat,write'] }))
    expect(existsSync(path)).toBe(true)
  })

  withStrace('removes the file again when the first fsync fails', async () => {
    const folder = tempDir()
    const path = join(folder, 'new.img')
    const error = await rejection(
      createOn(path, { size: 4096 }, { inject: ['inject=fsync:error=EIO:when=1'] }),
    )
    expect(error).toMatchObject({ code: 'EIO' })
    expect(readdirSync(folder)).toEqual([])
  })

  withServer('with a size that is none is refused', async () => {
    const { sftp } = await startServer()
    for (const size of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(await rejection(createDeviceOnSftp(sftp, join(tempDir(), 'x'), { size }))).toMatchObject({
        code: 'EINVAL',
      })
    }
  })
})

describe('resize', () => {
  withServer('grows with zeros, shrinks when asked', async () => {
    const content = pattern(10_000)
    const path = imageFile(content)
    const { device } = await openOn(path, { writable: true })
    await device.resize(1 << 30)
    expect(statSync(path).size).toBe(1 << 30)
    expect(statSync(path).blocks).toBeLessThan(100)
    expect(await readAt(device, 9000, 2000)).toEqual(
      Uint8Array.from([...content.subarray(9000), ...new Uint8Array(1000)]),
    )
    expect(await rejection(device.resize(5000))).toMatchObject({ code: 'EINVAL' })
    await device.resize(5000, { shrink: true })
    await device.close()
    expect(Buffer.compare(readFileSync(path), content.subarray(0, 5000))).toBe(0)
  })
})

describe('faults of the storage', () => {
  withMount('a full file system is ENOSPC with offset and length, and the device goes on', async () => {
    const path = join(await mountTmpfs(65_536), 'disk.img')
    const { device } = await createOn(path, { size: 1 << 20 })
    await device.write(0, pattern(16_384))
    const error = await rejection(device.write(65_536, pattern(262_144)))
    expect(error).toMatchObject({ code: 'ENOSPC', offset: 65_536, length: 262_144, cause: { status: 4 } })
    expect(await readAt(device, 0, 16_384)).toEqual(pattern(16_384))
    await device.write(0, pattern(16_384, 5))
    await device.flush()
    await device.close()
    expect(Buffer.compare(readFileSync(path).subarray(0, 16_384), pattern(16_384, 5))).toBe(0)
  })

  withStrace('a short write on the server is EIO and not silently short', async () => {
    const path = imageFile(pattern(65_536))
    const { device } = await openOn(
      path,
      { writable: true },
      { onFile: path, inject: ['inject=write,pwrite64:retval=100:when=1'] },
    )
    expect(await rejection(device.write(4096, new Uint8Array(8192)))).toMatchObject({
      code: 'EIO',
      offset: 4096,
      length: 8192,
    })
    await device.write(4096, pattern(8192, 3))
    expect(await readAt(device, 4096, 8192)).toEqual(pattern(8192, 3))
    await device.close()
  })

  withStrace('a failed read is EIO for that call, and never zeros', async () => {
    const content = pattern(65_536)
    const path = imageFile(content)
    const { device } = await openOn(
      path,
      {},
      { onFile: path, inject: ['inject=read,pread64:error=EIO:when=1'] },
    )
    expect(await rejection(device.read(0, new Uint8Array(512)))).toMatchObject({
      code: 'EIO',
      offset: 0,
      length: 512,
    })
    expect(await readAt(device, 0, 512)).toEqual(content.subarray(0, 512))
    await device.close()
  })

  withStrace(
    'a failed fsync stays failed until everything is written again, though the next fsync says OK',
    async () => {
      const path = imageFile(pattern(65_536))
      const { device, requests } = await openOn(
        path,
        { writable: true },
        { inject: ['inject=fsync:error=EIO:when=1'] },
      )
      await device.write(0, pattern(4096, 2))
      expect(await rejection(device.flush())).toMatchObject({ code: 'EIO', cause: { status: 4 } })
      expect(await rejection(device.flush())).toMatchObject({ code: 'EIO' })
      expect(requests.filter((name) => name === 'fsync@openssh.com')).toHaveLength(1)
      await device.write(0, pattern(4096, 2))
      await device.flush()
      await device.close()
    },
  )

  withStrace('reads go on while a flush is under way, on a channel of their own', async () => {
    const content = pattern(65_536)
    const path = imageFile(content)
    const { sftp } = await startServer({ inject: ['inject=fsync:delay_enter=1500000'] })
    const device = await openDeviceOnSftp(sftp, path, {
      writable: true,
      openChannel: async () => (await startServer()).sftp,
    })
    await device.write(0, content.subarray(0, 512))
    for (const started = performance.now(); device.info.channels < 2; ) {
      expect(performance.now() - started).toBeLessThan(10_000)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    let flushed = false
    const flushing = device.flush().then(() => {
      flushed = true
    })
    for (let i = 0; i < 20; i++)
      expect(await readAt(device, i * 1024, 512)).toEqual(content.subarray(i * 1024, i * 1024 + 512))
    expect(flushed).toBe(false)
    await flushing
    await device.close()
  })

  withServer('a server that dies fails what is pending, and every later call, at once', async () => {
    const path = imageFile(pattern(1 << 20))
    const { device, process } = await openOn(path, { writable: true })
    process.kill('SIGSTOP')
    const pending = [
      device.read(0, new Uint8Array(512)),
      device.write(4096, new Uint8Array(512)),
      device.read(8192, new Uint8Array(512)),
    ]
    const outcomes = Promise.all(pending.map(rejection))
    process.kill('SIGKILL')
    for (const error of await outcomes) expect(error).toMatchObject({ code: 'EIO', length: 512 })
    expect(await rejection(device.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EIO' })
    expect(await rejection(device.flush())).toMatchObject({ code: 'EIO' })
    expect(await rejection(device.close())).toMatchObject({ code: 'EIO' })
  })

  withServer(
    'a write cancelled under way: a later write of the same range wins, whatever the server does with the first',
    async () => {
      const path = imageFile(pattern(8 << 20))
      const { device, process } = await openOn(path, { writable: true })
      process.kill('SIGSTOP')
      const abort = new AbortController()
      const first = device.write(0, new Uint8Array(6 << 20).fill(1), { signal: abort.signal })
      await new Promise((resolve) => setTimeout(resolve, 50))
      abort.abort()
      const second = device.write(0, new Uint8Array(6 << 20).fill(2))
      process.kill('SIGCONT')
      expect(await rejection(first)).toMatchObject({ code: 'ABORT_ERR' })
      await second
      await device.close()
      expect(
        readFileSync(path)
          .subarray(0, 6 << 20)
          .every((byte) => byte === 2),
      ).toBe(true)
    },
  )

  withServer(
    'a write that is not answered in time: its range is closed to writes, because it may still arrive',
    async () => {
      const path = imageFile(pattern(65_536))
      const { device, process } = await openOn(path, { writable: true }, { requestTimeoutMs: 200 })
      process.kill('SIGSTOP')
      expect(await rejection(device.write(4096, new Uint8Array(4096)))).toMatchObject({
        code: 'EIO',
        offset: 4096,
        cause: { code: 'ERR_SSH_TIMEOUT' },
      })
      process.kill('SIGCONT')
      expect(await rejection(device.write(8191, new Uint8Array(1)))).toMatchObject({
        code: 'EIO',
        message: expect.stringMatching(/may still arrive/),
      })
      await device.write(8192, new Uint8Array(1))
      expect(await readAt(device, 4096, 4096)).toEqual(new Uint8Array(4096))
      await device.close()
    },
  )

  withServer('permission lost after opening changes nothing; opening again fails', async () => {
    const content = pattern(4096)
    const path = imageFile(content)
    const { device, sftp } = await openOn(path, { writable: true })
    chmodSync(path, 0)
    await device.write(0, content.subarray(0, 10))
    expect(await readAt(device, 0, 4096)).toEqual(content)
    await device.close()
    if (process.getuid?.() !== 0)
      expect(await rejection(openDeviceOnSftp(sftp, path))).toMatchObject({ code: 'EACCES' })
  })
})

describe('write zeroes by copy-data', () => {
  const size = copyPieceBytes + (4 << 20)

  withServer(
    'long ranges are copied on the server, on a channel of its own, and flushed; no scratch file stays',
    async () => {
      const folder = tempDir()
      const content = pattern(size)
      const path = imageFile(content, folder)
      const { sftp, requests } = await startServer()
      const channels: string[][] = []
      const device = await openDeviceOnSftp(sftp, path, {
        writable: true,
        openChannel: async () => {
          const more = await startServer()
          channels.push(more.requests)
          return more.sftp
        },
      })
      await device.writeZeroes(1000, size - 2000)
      expect(readdirSync(folder)).toEqual(['disk.img'])
      await device.flush()
      const copies = channels.find((names) => names.includes('copy-data'))!
      expect(copies.filter((name) => name === 'copy-data')).toHaveLength(2)
      expect(copies).toContain('fsync@openssh.com')
      expect(requests).not.toContain('copy-data')
      await device.close()
      content.fill(0, 1000, size - 1000)
      expect(Buffer.compare(readFileSync(path), content)).toBe(0)
    },
  )

  withServer('without copy-data zeros go over the wire', async () => {
    const content = pattern(1 << 20)
    const path = imageFile(content)
    const { sftp } = await startServer()
    const device = await openDeviceOnSftp(sftp, path, {
      writable: true,
      openChannel: async () => (await startServer({ args: ['-P', 'copy-data'] })).sftp,
    })
    await device.writeZeroes(0, 1 << 20)
    await device.close()
    expect(Buffer.compare(readFileSync(path), new Uint8Array(1 << 20))).toBe(0)
  })

  withServer(
    'where no other channel can be had zeros go over the wire, and reads on the only channel',
    async () => {
      const path = imageFile(pattern(1 << 20))
      const { sftp } = await startServer()
      const device = await openDeviceOnSftp(sftp, path, {
        writable: true,
        openChannel: async () => {
          throw new Error('one channel is all you get')
        },
      })
      await device.writeZeroes(0, 1 << 20)
      expect(device.info.channels).toBe(1)
      await device.close()
      expect(Buffer.compare(readFileSync(path), new Uint8Array(1 << 20))).toBe(0)
    },
  )
})

describe('random histories', () => {
  const span = 600_000
  const call = fc.record({
    op: fc.constantFrom('read', 'read', 'write', 'write', 'writeZeroes', 'flush', 'stream'),
    offset: fc.integer({ min: 0, max: span - 1 }),
    length: fc.integer({ min: 0, max: 70_000 }),
  })

  withServer('agree with the memory device, and the file with both', async () => {
    const { sftp } = await startServer()
    const content = pattern(span)
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 5, maxLength: 40 }), async (calls) => {
        const path = imageFile(content)
        const device = await openDeviceOnSftp(sftp, path, { writable: true, maxInFlightBytes: 500_000 })
        const model = new MemoryDevice({ content })
        const checks: Promise<void>[] = []
        const compare = async (offset: number, length: number) => {
          const expected = new Uint8Array(length)
          const found = new Uint8Array(length)
          await Promise.all([model.read(offset, expected), device.read(offset, found)])
          expect(Buffer.compare(found, expected)).toBe(0)
        }
        for (const [i, { op, offset, length: wanted }] of calls.entries()) {
          const length = Math.min(wanted, span - offset)
          if (op === 'read') checks.push(compare(offset, length))
          else if (op === 'flush') checks.push(device.flush())
          else if (op === 'stream')
            for (let at = offset, n = 0; at + 8192 <= span && n < 12; at += 8192, n++) await compare(at, 8192)
          else if (op === 'write') {
            const data = pattern(length, i + 2)
            checks.push(model.write(offset, data), device.write(offset, data))
          } else checks.push(model.writeZeroes(offset, length), device.writeZeroes(offset, length))
        }
        await Promise.all(checks)
        await device.close()
        expect(Buffer.compare(readFileSync(path), model.snapshot())).toBe(0)
      }),
      { numRuns: 25 },
    )
  })
})
