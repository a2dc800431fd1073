// A handful of short stretches of the image, with their bytes, so that after a loss a file that is another one can be told
// from the right one (SFTP version 3 tells no inode number). Taken at open and from what is read and made durable anyway.
// A write that touches a sample adds what may be there from now on: after a loss each byte may be the old one, or that of
// any write since, until a sync makes the latest one certain. What a write that failed left behind is its bytes or older ones,
// until that place was written again. The bytes themselves are kept, not hashes: they are few.
// Nothing is sampled where a write is under way, or ended since the last sync, or where nobody knows what lies there.
// Every write is told here, so that this holds for samples that are taken while it waits to be sent, too.

import { IntervalSet } from '../layers/interval-set.ts'

const sampleBytes = 512
const maxSamples = 64
/** Writes to one sample that are told apart; what more of them touch may be anything. */
const maxVersions = 16
/** With so many that are known throughout, others are let go. */
const enoughSamples = 4

interface Version {
  /** Relative to the sample. */
  readonly start: number
  readonly end: number
  /** Undefined: zeros. */
  readonly bytes: Uint8Array | undefined
  readonly touch: Touch
  /** Number of the change in which the write ended; infinite before. */
  ended: number
  /** It may have failed, or be lost: older bytes are possible even after a sync. */
  isDoubtful: boolean
}

interface Sample {
  readonly offset: number
  readonly bytes: Uint8Array
  /** Of writes since `bytes` was certain, in their order. */
  versions: Version[]
  /** Of old sessions that may still write at any time. */
  ghosts: Version[]
  /** Places that may hold anything until a sync that begins after change `unsureUntil`; then it is `bytes`. */
  unsure: Uint8Array | undefined
  unsureUntil: number
  /** Places that may hold anything. */
  unknown: Uint8Array | undefined
}

/** A write that was begun. */
export interface Touch {
  readonly start: number
  readonly end: number
  samples: readonly unknown[]
}

/**
 * What became of a write: 'unsent' where no server ever saw it; 'unfinished' where it is followed by another one to the same
 * place, 'failed' where it may be there or not, and only in memory.
 */
export type Outcome = 'acknowledged' | 'unsent' | 'unfinished' | 'failed'

const noSamples: readonly Sample[] = []

export class ContentSamples {
  readonly #random: () => number
  #samples: Sample[] = []
  #seen = 0
  #changes = 0
  #syncs = 0
  readonly #underWay = new Set<Touch>()
  /** Written and not synced: by writes that ended before the sync that is under way, and later. */
  readonly #beforeSync = new IntervalSet('join')
  readonly #sinceSync = new IntervalSet('join')
  /** What is read there need not be what is on stable storage, whatever is synced. */
  readonly #untrusted = new IntervalSet('join')

  /** @param random 0 to below 1. */
  constructor(random: () => number) {
    this.#random = random
  }

  get size(): number {
    return this.#samples.length
  }

  /** Whether there is any byte by which another file could be told. */
  get proves(): boolean {
    return this.#samples.some(({ unknown }) => unknown === undefined || unknown.includes(0))
  }

  /** Whether there are so few that more should be taken. */
  get isScarce(): boolean {
    return this.#samples.filter(isKnown).length < enoughSamples
  }

  /** A read begins; what it returns is for `seen`. */
  readBegins(): number {
    return this.#syncs
  }

  /**
   * Bytes that were read, or made durable. Each stretch that is seen has the same chance to be kept.
   * @param began of a read: what `readBegins` returned.
   */
  seen(offset: number, bytes: Uint8Array, began = this.#syncs): void {
    // A write may have come and been synced since.
    if (bytes.length === 0 || began !== this.#syncs) return
    this.#seen++
    let slot = this.#samples.length
    if (slot >= maxSamples) {
      slot = Math.floor(this.#random() * this.#seen)
      if (slot >= maxSamples) return
    }
    const length = Math.min(sampleBytes, bytes.length)
    const at = Math.floor(this.#random() * (bytes.length - length + 1))
    const start = offset + at
    // A place twice would crowd out others.
    if (this.#samples.some((other, i) => i !== slot && overlap(other, start, start + length))) return
    if (!this.#isCertain(start, start + length)) return
    this.#samples[slot] = {
      offset: start,
      bytes: bytes.slice(at, at + length),
      versions: [],
      ghosts: [],
      unsure: undefined,
      unsureUntil: 0,
      unknown: undefined,
    }
  }

  /** A write was asked for; `bytes` undefined for zeros. To be told to `ended`. */
  begin(offset: number, length: number, bytes: Uint8Array | undefined): Touch {
    const end = offset + length
    const touch: Touch = { start: offset, end, samples: noSamples }
    let touched: Sample[] | undefined
    for (const sample of this.#samples) {
      if (!overlap(sample, offset, end)) continue
      touched ??= []
      touched.push(sample)
      const start = Math.max(0, offset - sample.offset)
      const stop = Math.min(sample.bytes.length, end - sample.offset)
      const from = sample.offset + start - offset
      const copy = bytes?.slice(from, from + stop - start)
      if (sample.versions.length >= maxVersions) forgetOldest(sample)
      sample.versions.push({ start, end: stop, bytes: copy, touch, ended: Infinity, isDoubtful: false })
    }
    if (touched !== undefined) touch.samples = touched
    this.#underWay.add(touch)
    return touch
  }

  /** The write was answered, or given up. */
  ended(touch: Touch, outcome: Outcome): void {
    const touched = touch.samples as readonly Sample[]
    this.#underWay.delete(touch)
    this.#changes++
    for (const sample of touched) {
      if (outcome === 'unsent') sample.versions = sample.versions.filter((version) => version.touch !== touch)
      for (const version of sample.versions) {
        if (version.touch !== touch) continue
        version.ended = this.#changes
        version.isDoubtful = outcome !== 'acknowledged'
      }
    }
    if (outcome === 'unsent') return
    this.#sinceSync.add(touch.start, touch.end)
    if (outcome === 'failed') this.#untrusted.add(touch.start, touch.end)
  }

  /** The file is cut, or grown, at this place. */
  forget(start: number, end: number): void {
    this.#untrusted.add(start, end)
    this.#samples = this.#samples.filter((sample) => !overlap(sample, start, end))
  }

  /** What was sent to this place, and is not durable, may come once more at any time. */
  haunted(start: number, end: number): void {
    this.#untrusted.add(start, end)
    for (const sample of this.#samples) {
      if (!overlap(sample, start, end)) continue
      const { offset, versions, ghosts, unsure } = sample
      for (const version of versions) {
        if (offset + version.start >= end || offset + version.end <= start) continue
        if (ghosts.length < maxVersions) ghosts.push(version)
        else mark(sample, version)
      }
      for (const [i, isUnsure] of unsure?.entries() ?? [])
        if (isUnsure === 1) mark(sample, { start: i, end: i + 1 })
    }
  }

  /** A sync begins; what it returns is for `durable`. */
  syncBegins(): number {
    this.#beforeSync.addAll(this.#sinceSync)
    this.#sinceSync.clear()
    return this.#changes
  }

  /** The sync that began then is done: what was not touched since is certain. */
  durable(began: number): void {
    this.#syncs++
    this.#beforeSync.clear()
    for (const sample of this.#samples) settle(sample, began)
    // Places that may hold anything tell nothing: others are worth more.
    if (!this.isScarce) this.#samples = this.#samples.filter(isKnown)
  }

  /** What was acknowledged and not synced may be lost, and is not written again. */
  lostUnsynced(): void {
    for (const sample of this.#samples) {
      for (const version of sample.versions) if (version.ended < Infinity) version.isDoubtful = true
      for (const [i, isUnsure] of sample.unsure?.entries() ?? [])
        if (isUnsure === 1) mark(sample, { start: i, end: i + 1 })
    }
  }

  /** A sync failed, and nothing is written again: what is read need never reach stable storage. */
  syncFailed(): void {
    this.lostUnsynced()
    this.#untrusted.addAll(this.#beforeSync)
    this.#untrusted.addAll(this.#sinceSync)
  }

  /**
   * Reads all samples again. Returns the offset of the first that differs, undefined where all are the same.
   * @param read fills its buffer; resolves to how many bytes there were.
   */
  async firstDifference(
    read: (offset: number, into: Uint8Array) => Promise<number>,
  ): Promise<number | undefined> {
    const found = await Promise.all(
      this.#samples.map(async (sample) => {
        const into = new Uint8Array(sample.bytes.length)
        const count = await read(sample.offset, into)
        const at = differsAt(sample, into, count)
        return at === undefined ? undefined : sample.offset + at
      }),
    )
    return found.find((offset) => offset !== undefined)
  }

  #isCertain(start: number, end: number): boolean {
    for (const each of this.#underWay) if (each.start < end && start < each.end) return false
    return !(
      this.#sinceSync.overlaps(start, end) ||
      this.#beforeSync.overlaps(start, end) ||
      this.#untrusted.overlaps(start, end)
    )
  }
}

// The first place that holds what neither was there nor was written since. What is missing at the end is not judged here.
function differsAt(sample: Sample, found: Uint8Array, count: number): number | undefined {
  const { bytes, versions, ghosts, unsure, unknown } = sample
  for (let i = 0; i < count; i++) {
    if (found[i] === bytes[i] || unknown?.[i] === 1 || unsure?.[i] === 1) continue
    const isOf = ({ start, end, bytes: written }: Version) =>
      start <= i && i < end && (written?.[i - start] ?? 0) === found[i]
    if (!versions.some(isOf) && !ghosts.some(isOf)) return i
  }
  return undefined
}

// After a sync that began at this change.
function settle(sample: Sample, began: number): void {
  const isCertain = ({ ended, isDoubtful }: Version) => ended <= began && !isDoubtful
  const all = sample.versions
  // What was written over since is not there any more.
  const isOver = (version: Version, i: number) =>
    all.some((next, j) => j > i && isCertain(next) && next.start <= version.start && version.end <= next.end)
  const left = all.filter((version, i) => !isOver(version, i))
  while (left[0] !== undefined && isCertain(left[0])) {
    const { start, end } = left[0]
    apply(sample, left.shift()!)
    sample.unknown?.fill(0, start, end)
  }
  sample.versions = left
  if (sample.unsureUntil <= began) sample.unsure = undefined
  if (sample.unknown?.includes(1) === false) sample.unknown = undefined
}

function isKnown({ unknown }: Sample): boolean {
  return unknown === undefined
}

function forgetOldest(sample: Sample): void {
  const oldest = sample.versions.shift()!
  if (oldest.isDoubtful || oldest.ended === Infinity) return mark(sample, oldest)
  sample.unsure ??= new Uint8Array(sample.bytes.length)
  sample.unsure.fill(1, oldest.start, oldest.end)
  sample.unsureUntil = Math.max(sample.unsureUntil, oldest.ended)
  apply(sample, oldest)
}

function apply(sample: Sample, { start, end, bytes }: Version): void {
  if (bytes === undefined) sample.bytes.fill(0, start, end)
  else sample.bytes.set(bytes, start)
}

function mark(sample: Sample, { start, end }: { start: number; end: number }): void {
  sample.unknown ??= new Uint8Array(sample.bytes.length)
  sample.unknown.fill(1, start, end)
}

function overlap({ offset, bytes }: Sample, start: number, end: number): boolean {
  return offset < end && start < offset + bytes.length
}
