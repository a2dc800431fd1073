import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SftpClient, type SftpClientOptions } from '../../packages/sftp/src/index.ts'
import { packetType, replies, requests } from '../../packages/sftp/src/messages/index.ts'
import { ManualClock } from './manual-clock.ts'
import {
  packetOf,
  pattern,
  type ScriptedReply,
  ScriptedServer,
  type ScriptedServerOptions,
  settle,
} from './scripted-server.ts'

const limits = (bytes: number) => ({
  maxPacketLength: 262_144n,
  maxReadLength: BigInt(bytes),
  maxWriteLength: BigInt(bytes),
  maxOpenHandles: 0n,
})

async function opened(options: ScriptedServerOptions, clientOptions: SftpClientOptions = {}) {
  const server = new ScriptedServer(options)
  const client = await SftpClient.open(server.channel, clientOptions)
  await client.limitsKnown
  return { server, client, file: await client.open('/f') }
}

/** [offset, length] of each READ that the server got. */
function reads(server: ScriptedServer): [number, number][] {
  return server.requests('READ').map(({ packet }) => {
    const { offset, len } = requests.read.decode(packet)
    return [offset, len]
  })
}

const hash = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex')

/** A reordering with a seed. */
function shuffled<T>(list: readonly T[], seed: number): T[] {
  const out = [...list]
  let state = seed >>> 0
  for (let i = out.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const j = state % (i + 1)
    ;[out[i], out[j]] = [out[j]!, out[i]!]
  }
  return out
}

describe('a read', () => {
  test.each([
    [0, 0, 0],
    [0, 1, 1],
    [0, 100_000, 100_000],
    [5000, 70_000, 70_000],
    [99_990, 100, 10],
    [100_000, 100, 0],
    [1_000_000, 10, 0],
    [0, 300_000, 100_000],
  ])('from %i of %i bytes gives %i of a file of 100000', async (offset, length, expected) => {
    const contents = pattern(100_000)
    const { file } = await opened({ files: [['/f', contents]] })
    const into = new Uint8Array(length).fill(0xcc)
    await expect(file.read(offset, into)).resolves.toBe(expected)
    expect(hash(into.subarray(0, expected))).toBe(hash(contents.subarray(offset, offset + expected)))
    // What lies behind the end is left as it was.
    expect(into.subarray(expected).every((byte) => byte === 0xcc)).toBe(true)
  })

  test('asks for 32 KiB at a time where the server tells no limits, all at once', async () => {
    const { server, file } = await opened({ files: [['/f', pattern(200_000)]] })
    server.hold()
    const read = file.read(0, new Uint8Array(131_072))
    await settle(1)
    expect(reads(server)).toEqual([
      [0, 32_768],
      [32_768, 32_768],
      [65_536, 32_768],
      [98_304, 32_768],
    ])
    server.release()
    await read
  })

  test('asks for what limits@openssh.com allows, never for 256 KiB', async () => {
    const { server, client, file } = await opened({
      files: [['/f', pattern(2_000_000)]],
      limits: limits(2 ** 40),
    })
    expect(client.limits.maxReadBytes).toBe(261_120)
    await file.read(0, new Uint8Array(2_000_000))
    expect(Math.max(...reads(server).map(([, length]) => length))).toBeLessThanOrEqual(261_120)
    expect(reads(server).length).toBeLessThanOrEqual(9)
  })

  test.each([1, 100, 4096, 32_767, 32_768, 64_512])(
    'is complete where the server clips answers at %i bytes',
    async (clipReads) => {
      const length = clipReads === 1 ? 3000 : 200_000
      const contents = pattern(length)
      const { server, file } = await opened({ files: [['/f', contents]], clipReads, limits: limits(261_120) })
      const into = new Uint8Array(length + 100)
      await expect(file.read(0, into)).resolves.toBe(length)
      expect(hash(into.subarray(0, length))).toBe(hash(contents))
      // Later requests ask for no more than the server gives, so that none has a tail that must wait for its head.
      const before = reads(server).length
      await file.read(0, new Uint8Array(length))
      const later = reads(server).slice(before)
      expect(Math.max(...later.map(([, asked]) => asked))).toBeLessThanOrEqual(Math.max(1024, clipReads))
      if (clipReads >= 1024) expect(later.length).toBeLessThanOrEqual(Math.ceil(length / clipReads) + 1)
    },
  )

  test('re-requests only the missing tail', async () => {
    const { server, file } = await opened({ files: [['/f', pattern(10_000)]], clipReads: 4096 })
    await file.read(0, new Uint8Array(10_000))
    expect(reads(server)).toEqual([
      [0, 10_000],
      [4096, 5904],
      [8192, 1808],
    ])
  })

  test('gives the same bytes for any cut and any order of the answers', async () => {
    const contents = pattern(400_000)
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.integer({ min: 1, max: 50_000 }),
        fc.constantFrom(undefined, 4096, 30_000),
        async (seed, part, clipReads) => {
          const { file } = await opened({
            files: [['/f', contents]],
            order: (answers) => shuffled(answers, seed),
            *cut(length) {
              for (let at = 0; at < length; at += part) yield part
            },
            ...(clipReads === undefined ? {} : { clipReads }),
          })
          const into = new Uint8Array(410_000)
          expect(await file.read(0, into)).toBe(400_000)
          expect(hash(into.subarray(0, 400_000))).toBe(hash(contents))
        },
      ),
      { numRuns: 25 },
    )
  })

  test('64 answers in flight are matched by id in any permutation, and none resolves with wrong bytes', async () => {
    const contents = pattern(64 * 1000)
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const { server, file } = await opened({ files: [['/f', contents]] })
        server.hold()
        const buffers = Array.from({ length: 64 }, () => new Uint8Array(1000))
        const calls = buffers.map((into, i) => file.read(1000 * i, into))
        await settle(2)
        server.release((answers: ScriptedReply[]) => {
          expect(answers).toHaveLength(64)
          return shuffled(answers, seed)
        })
        await Promise.all(calls)
        buffers.forEach((into, i) => {
          expect(hash(into)).toBe(hash(contents.subarray(1000 * i, 1000 * i + 1000)))
        })
      }),
      { numRuns: 10 },
    )
  })

  test('many at once share the window and take turns', async () => {
    const { server, client, file } = await opened({ files: [['/f', pattern(4_000_000)]] })
    server.hold()
    const large = file.read(0, new Uint8Array(4_000_000))
    await settle(1)
    const before = reads(server).length
    expect(before).toBe(client.bytesInFlightLimit.read / 32_768)
    const small = file.read(123, new Uint8Array(10))
    server.release()
    server.hold()
    await settle(2)
    // The small one did not wait for the whole of the large one.
    expect(reads(server).slice(before, before + 4)).toContainEqual([123, 10])
    server.release()
    await Promise.all([large, small])
  })

  test('bytes in flight start at 1 MiB, grow while they limit, and end at the maximum asked for', async () => {
    const files = [['/f', pattern(8_000_000)]] as const
    const { client, file } = await opened(
      { files },
      { maxBytesInFlight: 3_000_000, clock: new ManualClock() },
    )
    expect(client.bytesInFlightLimit.read).toBe(1_048_576)
    await file.read(0, new Uint8Array(32_768))
    expect(client.bytesInFlightLimit.read).toBe(1_048_576)
    await file.read(0, new Uint8Array(8_000_000))
    expect(client.bytesInFlightLimit.read).toBe(3_000_000)
  })

  test('a refusal rejects at once; answers that come later touch nothing', async () => {
    let asked = 0
    const { server, client, file } = await opened({
      files: [['/f', pattern(200_000)]],
      onRequest: (request, scripted) => {
        if (request.name !== 'READ' || ++asked !== 2) return false
        scripted.status(request, 4, 'disk on fire\u001b[2J')
        return true
      },
    })
    server.hold()
    const into = new Uint8Array(131_072)
    const read = file.read(0, into)
    await settle()
    // The refusal first, the data behind it.
    server.release((answers) => [answers[1]!, answers[0]!, ...answers.slice(2)])
    const error = await read.then(
      () => expect.unreachable(),
      (reason) => reason,
    )
    expect(error).toMatchObject({
      code: 'EIO',
      status: 4,
      operation: 'READ',
      path: '/f',
      serverMessage: 'disk on fire\u001b[2J',
    })
    expect(error.message).toBe('READ "/f" failed: FAILURE, "disk on fire\\u{1b}[2J"')
    expect(into.every((byte) => byte === 0)).toBe(true)
    await expect(client.stat('/f')).resolves.toMatchObject({ size: 200_000 })
    await expect(file.read(0, into)).resolves.toBe(131_072)
  })

  test('cancelled, rejects at once and never touches the buffer again; the client goes on', async () => {
    const contents = pattern(200_000)
    const { server, file } = await opened({ files: [['/f', contents]] })
    server.hold()
    const cancel = new AbortController()
    const into = new Uint8Array(131_072)
    const read = file.read(0, into, { signal: cancel.signal })
    await settle()
    cancel.abort(new Error('enough'))
    await expect(read).rejects.toMatchObject({ code: 'ABORT_ERR', cause: new Error('enough') })
    server.release()
    await settle()
    expect(into.every((byte) => byte === 0)).toBe(true)
    await expect(file.read(0, into)).resolves.toBe(131_072)
    expect(hash(into)).toBe(hash(contents.subarray(0, 131_072)))
  })

  test('cancelled in the middle of a DATA, touches nothing from then on', async () => {
    const { server, file } = await opened({ files: [['/f', pattern(50_000)]] })
    server.hold()
    const cancel = new AbortController()
    const into = new Uint8Array(1000)
    const read = file.read(0, into, { signal: cancel.signal })
    await settle()
    const packet = packetOf(replies.data, {
      id: server.requests('READ')[0]!.id,
      data: new Uint8Array(1000).fill(7),
    })
    server.sendRaw(packet.subarray(0, 13 + 400))
    cancel.abort()
    await expect(read).rejects.toMatchObject({ code: 'ABORT_ERR' })
    const then = into.slice()
    server.sendRaw(packet.subarray(13 + 400))
    expect(into).toEqual(then)
    server.release(() => [])
    await expect(file.read(0, new Uint8Array(10))).resolves.toBe(10)
  })

  test('buffers handed out never change later', async () => {
    const { client } = await opened({ files: [['/f', pattern(100_000)]] })
    const first = await client.readFile('/f')
    const then = hash(first)
    for (let i = 0; i < 20; i++) await client.readFile('/f')
    expect(hash(first)).toBe(then)
  })

  test('of a hundred calls with one signal listens once, and no more when they ended', async () => {
    const { file } = await opened({ files: [['/f', pattern(100_000)]] })
    const { signal } = new AbortController()
    let listeners = 0
    const add = signal.addEventListener.bind(signal)
    const remove = signal.removeEventListener.bind(signal)
    signal.addEventListener = ((...args: Parameters<typeof add>) => {
      listeners++
      add(...args)
    }) as typeof signal.addEventListener
    signal.removeEventListener = ((...args: Parameters<typeof remove>) => {
      listeners--
      remove(...args)
    }) as typeof signal.removeEventListener
    const calls = Array.from({ length: 100 }, (_, i) => file.read(i, new Uint8Array(10), { signal }))
    expect(listeners).toBe(1)
    await Promise.all(calls)
    expect(listeners).toBe(0)
  })

  test.each([-1, 0.5, Number.NaN, 2 ** 53, Number.MAX_SAFE_INTEGER])(
    'at offset %d is refused before anything is sent',
    async (offset) => {
      const { server, file } = await opened({ files: [['/f', pattern(10)]] })
      await expect(file.read(offset, new Uint8Array(10))).rejects.toMatchObject({ code: 'ERR_USAGE' })
      expect(server.log.some(({ type }) => type === packetType.read)).toBe(false)
    },
  )

  test('at the largest offset carries it exactly', async () => {
    const { server, file } = await opened({ files: [['/f', pattern(10)]] })
    const offset = Number.MAX_SAFE_INTEGER - 10
    await expect(file.read(offset, new Uint8Array(10))).resolves.toBe(0)
    expect(reads(server)).toEqual([[offset, 10]])
  })
})
