/**
 * "All write commands that the server completes (i.e. replies to) prior to processing a NBD_CMD_FLUSH MUST be written to
 * non-volatile storage prior to replying to that NBD_CMD_FLUSH", across connections (NBD_FLAG_CAN_MULTI_CONN), and FUA.
 *
 * A model storage with a volatile cache finishes calls in random order; random clients write, flush and crash it. Every
 * reply is checked against what is on the model's platter at the moment the reply arrives.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { CMD, FLAG } from './support/messages.ts'
import type { RawClient } from './support/raw-client.ts'
import { serve } from './support/serve.ts'
import { TestDisk } from './support/test-disk.ts'

const blockBytes = 512
const blocks = 8

/** A disk whose writes reach a cache at once and the platter by flush or FUA, each call when `release` says so. */
class CachedDisk extends TestDisk {
  /** The number that each block holds in the cache, and on the platter; later writes have higher numbers. */
  readonly #cache = new Array<number>(blocks).fill(0)
  readonly #platter = new Array<number>(blocks).fill(0)
  readonly #held: (() => void)[] = []
  /** Flushes to come that fail. */
  failing = 0

  constructor() {
    super({ size: blocks * blockBytes })
  }

  /** From now on calls wait for `release`. */
  hold(): void {
    this.before = (call) =>
      new Promise<void>((resolve, reject) => {
        this.#held.push(() => {
          if (call.kind === 'flush' && this.failing > 0) {
            this.failing--
            reject(new BlockDeviceError('EIO', 'the platter did not turn'))
          } else resolve()
        })
      })
  }

  get held(): number {
    return this.#held.length
  }

  /** Lets one held call take effect. */
  release(choice: number): void {
    const [release] = this.#held.splice(choice % this.#held.length, 1)
    release?.()
  }

  /** What a crash would leave. */
  durable(block: number): number {
    return this.#platter[block]!
  }

  override async write(
    offset: number,
    from: Uint8Array,
    options?: { fua?: boolean; signal?: AbortSignal },
  ): Promise<void> {
    await super.write(offset, from, options)
    const block = offset / blockBytes
    this.#cache[block] = new DataView(from.buffer, from.byteOffset).getUint32(0)
    if (options?.fua === true) this.#platter[block] = this.#cache[block]!
  }

  override async flush(options?: { signal?: AbortSignal }): Promise<void> {
    // The barrier covers what completed before the call, no more.
    const covered = [...this.#cache]
    await super.flush(options)
    covered.forEach((number, block) => {
      this.#platter[block] = Math.max(this.#platter[block]!, number)
    })
  }
}

type Step =
  | { readonly kind: 'write'; readonly client: number; readonly block: number; readonly fua: boolean }
  | { readonly kind: 'flush'; readonly client: number; readonly fails: boolean }
  | { readonly kind: 'release'; readonly choice: number }

const client = fc.nat(1)
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('write' as const), client, block: fc.nat(blocks - 1), fua: fc.boolean() }),
    fc.record({ kind: fc.constant('flush' as const), client, fails: fc.nat(3).map((n) => n === 0) }),
    fc.record({ kind: fc.constant('release' as const), choice: fc.nat(100) }),
    fc.record({ kind: fc.constant('release' as const), choice: fc.nat(100) }),
  ),
  { minLength: 10, maxLength: 60 },
)

/** Waits until the server had its turns. */
async function settle(): Promise<void> {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve))
}

describe('FLUSH and FUA', () => {
  test('cover every write answered before, on any connection, in any order of the storage', {
    timeout: 20_000,
  }, async () => {
    const disk = new CachedDisk()
    const server = await serve(disk)
    const clients: RawClient[] = []
    let checks = 0
    for (let i = 0; i < 2; i++) {
      const next = await server.client()
      await next.go()
      clients.push(next)
    }
    disk.hold()

    let writes = 0
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        /** Numbers of writes answered, by block; a block is written again only when its last write was answered. */
        const answered = new Map<number, number>()
        const pendingBlocks = new Set<number>()
        const replies: Promise<void>[] = []
        const waiting = clients.map(() => new Map<bigint, (error: number) => void>())

        const post = (
          which: number,
          type: number,
          fields: object,
          onReply: (error: number) => void,
        ): void => {
          waiting[which]!.set(clients[which]!.post(type, fields), onReply)
          replies.push(
            clients[which]!.reply().then((reply) => {
              waiting[which]!.get(reply.cookie)!(reply.error)
            }),
          )
        }

        for (const step of plan) {
          if (step.kind === 'release') {
            if (disk.held > 0) disk.release(step.choice)
          } else if (step.kind === 'write') {
            if (pendingBlocks.has(step.block)) continue
            pendingBlocks.add(step.block)
            const number = ++writes
            const payload = new Uint8Array(blockBytes)
            new DataView(payload.buffer).setUint32(0, number)
            post(
              step.client,
              CMD.WRITE,
              {
                offset: step.block * blockBytes,
                payload,
                flags: step.fua ? FLAG.FUA : 0,
              },
              (error) => {
                expect(error).toBe(0)
                if (step.fua) expect(disk.durable(step.block)).toBe(number)
                answered.set(step.block, number)
                pendingBlocks.delete(step.block)
              },
            )
          } else {
            // What the client knows to be answered when it asks; a later write of the same block may be there instead.
            const due = new Map(answered)
            if (step.fails) disk.failing++
            post(step.client, CMD.FLUSH, {}, (error) => {
              if (error !== 0) return
              for (const [block, number] of due) {
                expect(disk.durable(block)).toBeGreaterThanOrEqual(number)
                checks++
              }
            })
          }
          await settle()
        }
        disk.failing = 0
        await releaseUntil(disk, Promise.all(replies))
      }),
      { numRuns: 300 },
    )
    disk.before = () => {}
    expect(checks).toBeGreaterThan(200)
  })
})

/** Lets every held call go until `done` settles. */
async function releaseUntil(disk: CachedDisk, done: Promise<unknown>): Promise<void> {
  let settled = false
  const watched = done.finally(() => {
    settled = true
  })
  while (!settled) {
    if (disk.held > 0) disk.release(0)
    await settle()
  }
  await watched
}
