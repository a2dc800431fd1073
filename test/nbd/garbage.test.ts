/** Whatever a client sends, the server answers or hangs up, and serves the next client. */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  bothClientFlags,
  concat,
  counted,
  infoData,
  metaData,
  OPT,
  option,
  request,
  u16,
  u32,
} from './support/messages.ts'
import { type Served, serve, until } from './support/serve.ts'
import { pattern, TestDisk } from './support/test-disk.ts'

/** Deterministic noise. */
function noise(seed: string, length: number): Uint8Array {
  return new Uint8Array(createHash('shake256', { outputLength: length }).update(seed).digest())
}

const greeting = bothClientFlags
const entered = concat(
  greeting,
  option(OPT.STRUCTURED_REPLY),
  option(OPT.SET_META_CONTEXT, metaData('', 'base:allocation')),
  option(OPT.GO, infoData('')),
)

/** Pieces of sessions, right and wrong, to be strung together. */
const pieces: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.constantFrom(greeting, entered),
  fc
    .tuple(fc.integer({ min: 0, max: 13 }), fc.uint8Array({ maxLength: 40 }))
    .map(([type, data]) => option(type, data)),
  fc
    .tuple(fc.integer({ min: 0, max: 13 }), fc.uint8Array({ maxLength: 40 }), fc.nat(0xffff_ffff))
    .map(([type, data, length]) => option(type, data, length)),
  fc
    .tuple(fc.constantFrom(6, 7, 9, 10), fc.nat(20), fc.nat(4), fc.nat(4))
    .map(([type, length, count, there]) =>
      option(type, concat(u32(length), counted('base:'), u16(count), new Uint8Array(2 * there))),
    ),
  fc
    .record({
      type: fc.integer({ min: 0, max: 9 }),
      flags: fc.constantFrom(0, 1, 2, 4, 8, 16, 0x8000),
      offset: fc.constantFrom(0n, 1n, 511n, 65_536n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
      length: fc.constantFrom(0, 1, 512, 65_536, 65_537, 2 ** 25, 2 ** 25 + 1, 2 ** 31, 2 ** 32 - 1),
      payload: fc.uint8Array({ maxLength: 600 }),
      honest: fc.boolean(),
    })
    .map(({ type, honest, length, payload, ...fields }) =>
      request(type, { ...fields, payload, length: honest && type === 1 ? payload.length : length }),
    ),
)

describe('garbage', () => {
  let server: Served
  let disk: TestDisk
  const unhandled: unknown[] = []
  const onUnhandled = (reason: unknown): void => void unhandled.push(reason)

  beforeEach(async () => {
    disk = new TestDisk({ size: 65_536, canDiscard: true }).put(0, pattern(65_536))
    server = await serve(disk)
    unhandled.length = 0
    process.on('unhandledRejection', onUnhandled)
    process.on('uncaughtException', onUnhandled)
  })

  afterEach(() => {
    process.off('unhandledRejection', onUnhandled)
    process.off('uncaughtException', onUnhandled)
    expect(unhandled).toEqual([])
  })

  /** Sends bytes, then ends; waits until nothing of the client is left. */
  async function visit(...chunks: readonly Uint8Array[]): Promise<void> {
    const client = await server.client()
    client.socket.setNoDelay(true)
    for (const chunk of chunks) {
      client.send(chunk)
      await new Promise((resolve) => setImmediate(resolve))
    }
    client.socket.end()
    await until(() => server.statistics().clients === 0)
  }

  async function serves(): Promise<void> {
    const client = await server.client()
    await client.go()
    expect(await client.call(0, { offset: 60_000, length: 512 })).toMatchObject({ error: 0 })
    client.socket.destroy()
    await until(() => server.statistics().clients === 0)
    expect(server.statistics()).toMatchObject({ requestsInFlight: 0, bytesInFlight: 0 })
    expect(disk.pending).toBe(0)
  }

  test('of any kind at any stage ends in a reply or a hang-up', async () => {
    for (let i = 0; i < 40; i++) {
      const bytes = noise(`${i}`, 3000)
      await visit(bytes)
      await visit(concat(greeting, bytes))
      await visit(concat(entered, bytes))
    }
    await serves()
  })

  test('made of real messages in any order ends in a reply or a hang-up', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(pieces, { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        async (session, start) => {
          await visit(...(start ? [entered] : []), ...session)
        },
      ),
      { numRuns: 250 },
    )
    await serves()
  })

  test('in each byte of a good session in turn ends in a reply or a hang-up', async () => {
    const session = concat(
      entered,
      request(0, { length: 512, cookie: 1 }),
      request(1, { payload: pattern(64), cookie: 2 }),
      request(3, { cookie: 3 }),
      request(2),
    )
    for (let at = 0; at < session.length; at++) {
      const broken = session.slice()
      broken[at]! ^= 0xff
      await visit(broken)
    }
    await serves()
  })
})
