// What a block may hold. The oracle is told of every call when it is made and when it ends, and knows for each block which
// writes count: a write is a number, higher than that of every write before it on the device.
//   - A read shows, for each block, the newest write that was acknowledged of those called before the read, or a newer one
//     whose outcome nobody knows. Overlapping calls take effect in the order in which they were called.
//   - After a flush that succeeded nothing older than the newest write acknowledged before it is ever seen again.
//   - A write that failed or was cancelled is unknown: it may be there, or not, or come later, until a newer one succeeds.
//   - When a flush failed, what was acknowledged since the last good one is in doubt: it may be there or not.
// What it finds is a list of sentences; none means that all is well.

import type { Stamp } from './model/block-stamp.ts'
import { blockBytes, readBlock } from './model/block-stamp.ts'

type Outcome = 'pending' | 'acknowledged' | 'unknown'

export interface WriteRecord {
  readonly sequence: number
  readonly first: number
  readonly count: number
  readonly zeros: boolean
  /** Force unit access: acknowledged means durable. */
  outcome: Outcome
}

interface Block {
  /** Writes that may still be seen, oldest first; the first is what is there at least. */
  writes: WriteRecord[]
  /** The newest write that a flush made certain; what an in-doubt block may fall back to. */
  durable: WriteRecord
}

export interface FlushRecord {
  /** Writes acknowledged before it was called. */
  readonly covered: readonly WriteRecord[]
}

export interface ReadRecord {
  readonly first: number
  readonly count: number
  /** Highest write called before it. */
  readonly upTo: number
}

export interface OracleOptions {
  readonly file: number
  readonly blocks: number
}

export class Oracle {
  readonly violations: string[] = []
  readonly #file: number
  readonly #blocks: Block[] = []
  #sequence = 0
  /** Acknowledged and not covered by a good flush. */
  #volatile = new Set<WriteRecord>()
  /** A flush failed, and none succeeded since. */
  #inDoubt = false

  /** The file starts with write 0 everywhere, durable. */
  constructor({ file, blocks }: OracleOptions) {
    this.#file = file
    const initial: WriteRecord = {
      sequence: 0,
      first: 0,
      count: blocks,
      zeros: false,
      outcome: 'acknowledged',
    }
    for (let block = 0; block < blocks; block++) this.#blocks.push({ writes: [initial], durable: initial })
  }

  get sequence(): number {
    return this.#sequence
  }

  get isInDoubt(): boolean {
    return this.#inDoubt
  }

  // ---- Writes ----

  writeCalled(first: number, count: number, zeros: boolean): WriteRecord {
    const write: WriteRecord = { sequence: ++this.#sequence, first, count, zeros, outcome: 'pending' }
    for (let block = first; block < first + count; block++) this.#blocks[block]!.writes.push(write)
    return write
  }

  writeAcknowledged(write: WriteRecord, durable: boolean): void {
    write.outcome = 'acknowledged'
    this.#volatile.add(write)
    if (durable) this.#madeDurable(write)
    else this.#forgetOld(write)
  }

  /** It failed, or was cancelled. */
  writeUnknown(write: WriteRecord): void {
    write.outcome = 'unknown'
  }

  // ---- Flushes ----

  flushCalled(): FlushRecord {
    return { covered: [...this.#volatile] }
  }

  flushSucceeded(flush: FlushRecord): void {
    for (const write of flush.covered) this.#madeDurable(write)
  }

  /** Whatever it covered may be lost; the range of a FUA write that failed so is in doubt as all else is. */
  flushFailed(): void {
    this.#inDoubt = true
  }

  /** A flush that began after the failure succeeded: everything that is not in doubt again. */
  flushSucceededAfterFailure(): void {
    this.#inDoubt = false
  }

  /** The rules allow that what is not durable is gone: a loss, and no copy of it was kept. */
  volatileMayBeLost(): void {
    this.#inDoubt = true
  }

  #madeDurable(write: WriteRecord): void {
    this.#volatile.delete(write)
    for (let block = write.first; block < write.first + write.count; block++) {
      const known = this.#blocks[block]!
      if (known.durable.sequence < write.sequence) known.durable = write
    }
    this.#forgetOld(write)
  }

  #forgetOld(write: WriteRecord): void {
    for (let block = write.first; block < write.first + write.count; block++) {
      const known = this.#blocks[block]!
      const floor = known.durable.sequence
      // Older ones stay while they are what the block may fall back to.
      known.writes = known.writes.filter((each) => each.sequence >= floor)
    }
  }

  // ---- What is seen ----

  readCalled(first: number, count: number): ReadRecord {
    return { first, count, upTo: this.#sequence }
  }

  /** @param mayBeZeros blocks that somebody else cut off and put back. */
  readReturned(
    read: ReadRecord,
    bytes: Uint8Array,
    mayBeZeros: (block: number) => boolean = () => false,
  ): void {
    this.#check('a read', read.first, bytes, read.upTo, mayBeZeros)
  }

  /** The file itself, when nothing is under way: everything acknowledged must be there. */
  checkContent(what: string, bytes: Uint8Array): void {
    this.#check(what, 0, bytes, this.#sequence)
  }

  /** The file after a crash: what was made durable must be there. */
  checkDurable(what: string, bytes: Uint8Array, except: (block: number) => boolean = () => false): void {
    for (let at = 0; at < bytes.length; at += blockBytes) {
      const block = at / blockBytes
      if (except(block)) continue
      const known = this.#blocks[block]!
      this.#checkBlock(
        what,
        block,
        bytes.subarray(at, at + blockBytes),
        known.durable.sequence,
        this.#sequence,
      )
    }
  }

  /** Blocks of writes whose outcome is unknown. */
  unknownBlocks(): Set<number> {
    const blocks = new Set<number>()
    for (const [block, { writes }] of this.#blocks.entries())
      if (writes.some(({ outcome }) => outcome !== 'acknowledged')) blocks.add(block)
    return blocks
  }

  #check(
    what: string,
    first: number,
    bytes: Uint8Array,
    upTo: number,
    mayBeZeros: (block: number) => boolean = () => false,
  ): void {
    for (let at = 0; at < bytes.length; at += blockBytes) {
      const block = first + at / blockBytes
      if (mayBeZeros(block) && readBlock(bytes.subarray(at, at + blockBytes)).kind === 'zeros') continue
      const known = this.#blocks[block]!
      let floor = known.durable.sequence
      if (!this.#inDoubt) {
        for (const { sequence, outcome } of known.writes)
          if (outcome === 'acknowledged' && sequence <= upTo) floor = Math.max(floor, sequence)
      }
      this.#checkBlock(what, block, bytes.subarray(at, at + blockBytes), floor, upTo)
    }
  }

  #checkBlock(what: string, block: number, bytes: Uint8Array, floor: number, upTo: number): void {
    const content = readBlock(bytes)
    if (content.kind === 'broken') {
      this.violations.push(`${what} of block ${block}: ${content.why}`)
      return
    }
    const { writes } = this.#blocks[block]!
    const legal = writes.filter(({ sequence }) => sequence >= floor && sequence <= upTo)
    if (content.kind === 'zeros') {
      if (!legal.some(({ zeros }) => zeros))
        this.violations.push(`${what} of block ${block} shows zeros, legal are ${names(legal)}`)
      return
    }
    const problem = this.#problem(content.stamp, block, legal)
    if (problem !== undefined) this.violations.push(`${what} of block ${block} ${problem}`)
  }

  #problem(stamp: Stamp, block: number, legal: readonly WriteRecord[]): string | undefined {
    if (stamp.file !== this.#file) return `shows a block of another file (${stamp.file})`
    if (stamp.block !== block) return `shows what was written for block ${stamp.block}`
    if (legal.some(({ sequence, zeros }) => sequence === stamp.sequence && !zeros)) return undefined
    const newest = legal.at(-1)?.sequence ?? 0
    const age = stamp.sequence < newest ? 'stale' : 'from nowhere'
    return `is ${age}: it shows write ${stamp.sequence}, legal are ${names(legal)}`
  }
}

function names(writes: readonly WriteRecord[]): string {
  return (
    writes
      .map(({ sequence, outcome, zeros }) => `${sequence} (${zeros ? 'zeros, ' : ''}${outcome})`)
      .join(', ') || 'none'
  )
}
