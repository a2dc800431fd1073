// The device on an SFTP server that clips, reorders, lies and breaks off.

import { SftpClient } from '@sshblock/sftp'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MemoryDevice } from '../../packages/blockdev/src/memory-device.ts'
import {
  createDeviceOnSftp,
  openDeviceOnSftp,
  type SftpDeviceOptions,
} from '../../packages/blockdev/src/sftp-device.ts'
import { replies, requests, statusCode } from '../../packages/sftp/src/messages/index.ts'
import {
  packetOf,
  type ScriptedRequest,
  ScriptedServer,
  type ScriptedServerOptions,
} from '../sftp/scripted-server.ts'
import { pattern, rejection, seededRandom } from './scripted-file.ts'

const path = '/disk.img'
const fsync = ['fsync@openssh.com', '1'] as const

async function serve(content: Uint8Array | undefined, options: ScriptedServerOptions = {}) {
  const server = new ScriptedServer({
    extensions: [fsync],
    ...options,
    files: content === undefined ? [] : [[path, content]],
  })
  return { server, sftp: await SftpClient.open(server.channel) }
}

async function open(
  content: Uint8Array,
  options: ScriptedServerOptions = {},
  deviceOptions: SftpDeviceOptions = {},
) {
  const { server, sftp } = await serve(content, options)
  return { server, device: await openDeviceOnSftp(sftp, path, { writable: true, ...deviceOptions }) }
}

function refuse(server: ScriptedServer, request: ScriptedRequest, code: number, text = ''): true {
  server.status(request, code, text)
  return true
}

const named = (name: string) => (request: ScriptedRequest) =>
  request.name === name || request.extension === name

describe('clipped reads', () => {
  test.each([1, 100, 4096, 32_767])(
    'a server that gives at most %s bytes: every byte is right, no tail is missing',
    async (clipReads) => {
      const content = pattern(clipReads === 1 ? 3000 : 200_000)
      const { device } = await open(content, { clipReads })
      const whole = new Uint8Array(content.length)
      await device.read(0, whole)
      expect(Buffer.compare(whole, content)).toBe(0)
      for (let at = 0; at < content.length; at += 700) {
        const into = new Uint8Array(Math.min(700, content.length - at))
        await device.read(at, into)
        expect(Buffer.compare(into, content.subarray(at, at + into.length))).toBe(0)
      }
      await device.close()
    },
  )
})

describe('answers in any order and any cut', () => {
  const call = fc.record({
    op: fc.constantFrom('read', 'write', 'writeZeroes', 'stream'),
    offset: fc.integer({ min: 0, max: 99_999 }),
    length: fc.integer({ min: 0, max: 50_000 }),
  })

  test('random histories agree with the memory device', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 25 }), fc.integer(), async (calls, seed) => {
        const content = pattern(100_000)
        const random = seededRandom(seed)
        const { server, device } = await open(content, {
          clipReads: 5000,
          order: (answers) =>
            answers
              .map((answer) => ({ answer, at: random(1000) }))
              .sort((a, b) => a.at - b.at)
              .map(({ answer }) => answer),
          *cut() {
            for (;;) yield 1 + random(9000)
          },
        })
        const model = new MemoryDevice({ content })
        const checks: Promise<void>[] = []
        const compare = async (offset: number, length: number) => {
          const expected = new Uint8Array(length)
          const found = new Uint8Array(length)
          await Promise.all([model.read(offset, expected), device.read(offset, found)])
          expect(Buffer.compare(found, expected)).toBe(0)
        }
        for (const [i, { op, offset, length: wanted }] of calls.entries()) {
          const length = Math.min(wanted, 100_000 - offset)
          if (op === 'read') checks.push(compare(offset, length))
          else if (op === 'stream')
            for (let at = offset, n = 0; n < 6 && at + 3000 <= 100_000; n++, at += 3000)
              await compare(at, 3000)
          else if (op === 'write') {
            const data = pattern(length, i + 2)
            checks.push(model.write(offset, data), device.write(offset, data))
          } else checks.push(model.writeZeroes(offset, length), device.writeZeroes(offset, length))
        }
        await Promise.all(checks)
        await device.close()
        expect(Buffer.compare(server.files.get(path)!, model.snapshot())).toBe(0)
        expect(server.handles.size).toBe(0)
      }),
      { numRuns: 30 },
    )
  })
})

describe('what the server says of the file', () => {
  test('a reply without a size is an error', async () => {
    const { sftp } = await serve(pattern(1000), {
      onRequest: (request, server) => {
        if (request.name !== 'FSTAT' && request.name !== 'STAT') return undefined
        server.answer(request, packetOf(replies.attrs, { id: request.id, attrs: { permissions: 0o100644 } }))
        return true
      },
    })
    expect(await rejection(openDeviceOnSftp(sftp, path))).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/does not tell its size/),
    })
  })

  test('a block device without a size: it is searched for, where places behind the end are refused too', async () => {
    const content = pattern(300 * 512)
    const { sftp } = await serve(content, {
      onRequest: (request, server) => {
        if (request.name === 'FSTAT' || request.name === 'STAT') {
          server.answer(
            request,
            packetOf(replies.attrs, { id: request.id, attrs: { permissions: 0o060660, size: 0 } }),
          )
          return true
        }
        if (request.name !== 'READ' || requests.read.decode(request.packet).offset <= content.length)
          return undefined
        return refuse(server, request, statusCode.badMessage)
      },
    })
    const device = await openDeviceOnSftp(sftp, path)
    expect(device).toMatchObject({ kind: 'block-device', size: content.length })
    const whole = new Uint8Array(content.length)
    await device.read(0, whole)
    expect(Buffer.compare(whole, content)).toBe(0)
    await device.close()
  })

  test('a reply without permissions: the image opens, and is not believed to be zero when it is new', async () => {
    const { server, sftp } = await serve(undefined, {
      onRequest: (request, server) => {
        if (request.name !== 'FSTAT') return undefined
        server.answer(
          request,
          packetOf(replies.attrs, { id: request.id, attrs: { size: server.files.get(path)!.length } }),
        )
        return true
      },
    })
    const device = await createDeviceOnSftp(sftp, path, { size: 4096 })
    expect(device).toMatchObject({ kind: 'unknown', hasZeroInit: false })
    expect(device.extents(0, 4096)).toEqual([{ offset: 0, length: 4096, zero: false }])
    await device.close()
    expect(server.handles.size).toBe(0)
  })

  test('FSETSTAT that says OK and does nothing: creating falls back to one zero byte', async () => {
    const { server, sftp } = await serve(undefined, {
      onRequest: (request, server) => {
        if (request.name !== 'FSETSTAT') return undefined
        server.status(request, statusCode.ok)
        return true
      },
    })
    const device = await createDeviceOnSftp(sftp, path, { size: 8192 })
    await device.close()
    expect(server.files.get(path)).toEqual(new Uint8Array(8192))
    expect(server.requests('FSETSTAT')).toHaveLength(1)
  })

  test('FSETSTAT that empties the file before it sets the size: growing keeps the content', async () => {
    const content = pattern(5000)
    const { server, device } = await open(content, {
      onRequest: (request, server) => {
        if (request.name === 'FSETSTAT') server.files.set(path, new Uint8Array(0))
        return undefined
      },
    })
    await device.resize(10_000)
    await device.close()
    expect(server.files.get(path)!.subarray(0, 5000)).toEqual(content)
    expect(server.files.get(path)).toHaveLength(10_000)
  })

  test('creating where neither way of growing works: removed again, handle closed', async () => {
    const { server, sftp } = await serve(undefined, {
      onRequest: (request, server) => {
        if (request.name !== 'FSETSTAT' && request.name !== 'WRITE') return undefined
        server.status(request, statusCode.failure, 'Disk quota exceeded')
        return true
      },
    })
    expect(await rejection(createDeviceOnSftp(sftp, path, { size: 8192 }))).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/Disk quota exceeded/),
    })
    expect(server.log.slice(-2).map(({ name }) => name)).toEqual(['CLOSE', 'REMOVE'])
    expect(server.handles.size).toBe(0)
  })

  test('an opening that fails after OPEN leaves no handle', async () => {
    const { server, sftp } = await serve(pattern(1000), {
      onRequest: (request, server) =>
        request.name === 'FSTAT' ? refuse(server, request, statusCode.failure) : undefined,
    })
    expect(await rejection(openDeviceOnSftp(sftp, path))).toMatchObject({
      code: 'EIO',
      message: expect.stringContaining('"/disk.img"'),
    })
    expect(server.requests('OPEN')).toHaveLength(1)
    expect(server.handles.size).toBe(0)
  })

  test('text of the server in a message is quoted and made visible', async () => {
    const { sftp } = await serve(pattern(1000), {
      onRequest: (request, server) =>
        request.name === 'STAT'
          ? refuse(server, request, statusCode.permissionDenied, 'no\n\u001b[31mway')
          : undefined,
    })
    const error = await rejection(openDeviceOnSftp(sftp, path))
    expect(error.code).toBe('EACCES')
    expect(error.message).not.toMatch(/\p{Cc}/u)
  })
})

describe('answers that are wrong', () => {
  test('EOF inside the file: EIO, never zeros', async () => {
    const { device } = await open(pattern(10_000), {
      onRequest: (request, server) =>
        request.name === 'READ' ? refuse(server, request, statusCode.eof) : undefined,
    })
    expect(await rejection(device.read(0, new Uint8Array(100)))).toMatchObject({
      code: 'EIO',
      offset: 0,
      length: 100,
    })
    await device.close()
  })

  test('one DATA without a byte is asked again; a server that gives nothing for ever ends the session with EIO', async () => {
    let empty = 1
    const content = pattern(10_000)
    const { device } = await open(
      content,
      {
        onRequest: (request, server) => {
          if (request.name !== 'READ' || empty-- <= 0) return undefined
          server.answer(request, packetOf(replies.data, { id: request.id, data: new Uint8Array(0) }))
          return true
        },
      },
      { readAhead: false },
    )
    const into = new Uint8Array(1000)
    await device.read(0, into)
    expect(into).toEqual(content.subarray(0, 1000))
    empty = Number.POSITIVE_INFINITY
    expect(await rejection(device.read(0, into))).toMatchObject({
      code: 'EIO',
      cause: { code: 'ERR_SFTP_PROTOCOL' },
    })
  })

  test('one WRITE of many refused: the call fails with its whole range, whatever came after', async () => {
    let writes = 0
    const { device } = await open(pattern(200_000), {
      onRequest: (request, server) =>
        request.name === 'WRITE' && ++writes === 2 ? refuse(server, request, statusCode.failure) : undefined,
    })
    expect(await rejection(device.write(1000, new Uint8Array(150_000)))).toMatchObject({
      code: 'EIO',
      offset: 1000,
      length: 150_000,
      cause: { status: statusCode.failure, confirmedBytes: expect.any(Number) },
    })
    await device.write(1000, new Uint8Array(150_000))
    await device.close()
  })

  test('a channel that ends fails everything at once, flush and close included', async () => {
    const { server, device } = await open(pattern(100_000))
    await device.write(0, new Uint8Array(10))
    server.hold()
    const pending = [
      device.read(0, new Uint8Array(10)),
      device.write(5000, new Uint8Array(10)),
      device.flush(),
    ]
    const outcomes = Promise.all(pending.map(rejection))
    await new Promise((resolve) => setImmediate(resolve))
    server.close()
    for (const error of await outcomes) expect(error).toMatchObject({ code: 'EIO' })
    expect(await rejection(device.close())).toMatchObject({ code: 'EIO' })
  })
})

describe('flush on the wire', () => {
  test('one fsync for many flushes and FUA writes at once, and none where nothing was written', async () => {
    const { server, device } = await open(pattern(100_000))
    await device.flush()
    expect(server.log.filter(named('fsync@openssh.com'))).toHaveLength(0)
    await Promise.all(
      Array.from({ length: 10 }, (_, i) => device.write(i * 512, new Uint8Array(512), { fua: true })),
    )
    expect(server.log.filter(named('fsync@openssh.com')).length).toBeLessThanOrEqual(3)
    await device.close()
  })

  test('close: fsync, then CLOSE, each once', async () => {
    const { server, device } = await open(pattern(1000))
    await device.write(0, new Uint8Array(10))
    await device.close()
    expect(server.log.slice(-3).map(({ name, extension }) => extension ?? name)).toEqual([
      'WRITE',
      'fsync@openssh.com',
      'CLOSE',
    ])
  })
})
