// How a range of a file is cut into READs and WRITEs, and how many bytes of them are in flight. Pure arithmetic on
// numbers: no handles, no buffers; time is passed in. Used by every read, write, transfer and stream alike.
// - FlightWindow: bytes in flight in one direction of a channel; starts small, grows while it is what limits.
// - PieceSize: what one file's server gives per READ; shrinks when answers are clipped.
// - ReadPlan, WritePlan: one call's range, its pieces, and what came of them.

import { minPieceBytes } from '../limits.ts'
import { RoundTrip } from './round-trip.ts'

/** Servers move data in pages: pieces that end on them never make two WRITEs share one. */
const alignment = 4096
/** Pieces below this are not aligned: it would cost more requests than it saves. */
const alignedFromBytes = 4 * alignment

/**
 * Length of the piece that starts at file offset `offset`, of at most `pieceBytes` and `remaining` bytes. As few pieces as
 * can be, of about the same length, rather than full ones and a crumb.
 */
export function pieceLength(offset: number, remaining: number, pieceBytes: number): number {
  if (remaining <= pieceBytes) return remaining
  const even = Math.ceil(remaining / Math.ceil(remaining / pieceBytes))
  if (pieceBytes < alignedFromBytes) return even
  const past = (offset + even) % alignment
  const roundedUp = past === 0 ? even : even + alignment - past
  if (roundedUp <= pieceBytes) return Math.min(roundedUp, remaining)
  return even - past
}

/** Part of the limit that stays in flight before more is sent, once the limit was met: several requests then leave together. */
const refillBelow = 0.875

/**
 * An answer that took this many times the fastest one has waited in a queue: there is more in flight than the way to the
 * server and back holds, and still more would only wait longer.
 */
const queuedFactor = 4
/** Answers below this say nothing of queues, in milliseconds: that much a busy machine, or a browser, takes over anything. */
const unhurriedMs = 20
/**
 * An answer that took less than this many times the fastest one, on a way that is longer than `unhurriedMs`, has met no
 * queue at all: there the limit goes up fourfold a round trip instead of twofold, for each round trip is long.
 */
const unqueuedFactor = 1.5
const farGrowth = 3

/**
 * Bytes and requests in flight in one direction. Grows as slow start does, by what is answered while it is the limit (by more
 * where the way is long and no queue is met), up to about four times bandwidth x delay.
 */
export class FlightWindow {
  readonly #maxBytes: number
  readonly #maxRequests: number
  readonly #roundTrip: RoundTrip
  #limitBytes: number
  #bytes = 0
  #requests = 0
  /** Whether the byte limit refused a piece since it was last found wide enough. */
  #limiting = false

  /** `roundTrip` is that of the channel, and measured here too; without it all answers are fast. */
  constructor(
    initialBytes: number,
    maxBytes: number,
    maxRequests: number,
    roundTrip: RoundTrip = new RoundTrip(() => 0),
  ) {
    this.#roundTrip = roundTrip
    this.#limitBytes = Math.min(initialBytes, maxBytes)
    this.#maxBytes = maxBytes
    this.#maxRequests = maxRequests
  }

  get limitBytes(): number {
    return this.#limitBytes
  }

  get bytesInFlight(): number {
    return this.#bytes
  }

  get requestsInFlight(): number {
    return this.#requests
  }

  /** Whether `bytes` more may be sent. One request is always admitted, however large. */
  admits(bytes: number): boolean {
    if (this.#requests === 0) return true
    if (this.#bytes + bytes > (this.#limiting ? this.#limitBytes * refillBelow : this.#limitBytes)) {
      this.#limiting = true
      return false
    }
    this.#limiting = false
    return this.#requests < this.#maxRequests
  }

  /** A request for `bytes` leaves. Returns when, for `answered`. */
  sent(bytes: number): number {
    this.#bytes += bytes
    this.#requests++
    return this.#roundTrip.now()
  }

  /** A request for `bytes` that left at `sentAt` was answered, or given up. */
  answered(bytes: number, sentAt = 0): void {
    this.#bytes -= bytes
    this.#requests--
    const elapsedMs = this.#roundTrip.measured(sentAt)
    const { leastMs } = this.#roundTrip
    if (!this.#limiting || elapsedMs > Math.max(queuedFactor * leastMs, unhurriedMs)) return
    const growth = leastMs >= unhurriedMs && elapsedMs < unqueuedFactor * leastMs ? farGrowth * bytes : bytes
    this.#limitBytes = Math.min(this.#maxBytes, this.#limitBytes + growth)
  }
}

/** Bytes per request for one file. `ceiling` is asked each time, because the server's limits may come later than the file. */
export class PieceSize {
  readonly #ceiling: () => number
  #clippedBytes = Number.POSITIVE_INFINITY

  constructor(ceiling: () => number) {
    this.#ceiling = ceiling
  }

  get bytes(): number {
    return Math.min(this.#ceiling(), this.#clippedBytes)
  }

  /** An answer had only `received` bytes although the file went on behind them: ask for no more next time. */
  clipped(received: number): void {
    this.#clippedBytes = Math.max(minPieceBytes, Math.min(this.#clippedBytes, received))
  }
}

/** A run of bytes asked for, or about to be, relative to the start of the call. */
export interface Piece {
  start: number
  length: number
}

export interface ReadPiece extends Piece {
  /** Bytes of the short answer that this piece is the missing tail of; 0 where it is none. */
  clippedBytes: number
  /** Whether an answer without any byte came for it. */
  emptied: boolean
}

/** What an answer with `received` bytes means for its piece. */
export type ReadProgress = 'done' | 'again' | 'stuck'

/** One call's read of `length` bytes from `offset`. The end of the file shows only as STATUS EOF. */
export class ReadPlan<P extends ReadPiece> {
  readonly #offset: number
  readonly #pieceSize: PieceSize
  readonly #create: (start: number, length: number) => P
  readonly #tails: P[] = []
  #next = 0
  /** No byte at or behind this is there, or wanted. */
  #end: number

  constructor(
    offset: number,
    length: number,
    pieceSize: PieceSize,
    create: (start: number, length: number) => P,
  ) {
    this.#offset = offset
    this.#end = length
    this.#pieceSize = pieceSize
    this.#create = create
  }

  /** Bytes that the call has when every piece is answered. */
  get length(): number {
    return this.#end
  }

  /** Whether take() would give a piece. */
  get hasMore(): boolean {
    return this.#tails.length > 0 || this.#next < this.#end
  }

  /** Length of the piece that take() would give. */
  get nextLength(): number {
    const tail = this.#tails.at(-1)
    if (tail !== undefined) return tail.length
    return pieceLength(this.#offset + this.#next, this.#end - this.#next, this.#pieceSize.bytes)
  }

  /** The next piece to ask for: missing tails first. Only while `hasMore`. */
  take(): P {
    const tail = this.#tails.pop()
    if (tail !== undefined) return tail
    const piece = this.#create(this.#next, this.nextLength)
    this.#next += piece.length
    return piece
  }

  /**
   * `received` bytes (0 to piece.length) came for a piece. A short answer makes the piece its own missing tail, to be
   * taken again; 'stuck' is a second answer without a byte, which would go on for ever.
   */
  data(piece: P, received: number): ReadProgress {
    if (received === 0) {
      if (piece.emptied) return 'stuck'
      piece.emptied = true
      return this.#again(piece)
    }
    // The file goes on behind the short answer before this one, so the server clips.
    if (piece.clippedBytes > 0) this.#pieceSize.clipped(piece.clippedBytes)
    if (received === piece.length) return 'done'
    piece.start += received
    piece.length -= received
    piece.clippedBytes = received
    piece.emptied = false
    return this.#again(piece)
  }

  #again(piece: P): ReadProgress {
    if (piece.start >= this.#end) return 'done'
    this.#tails.push(piece)
    return 'again'
  }

  /** STATUS EOF came for a piece: the file ends at its start or before. */
  eof(piece: P): void {
    this.#end = Math.min(this.#end, piece.start)
    for (let i = this.#tails.length - 1; i >= 0; i--) {
      if (this.#tails[i]!.start >= this.#end) this.#tails.splice(i, 1)
    }
  }
}

/** One call's write of `length` bytes to `offset`. */
export class WritePlan<P extends Piece> {
  readonly #offset: number
  readonly #pieceBytes: () => number
  readonly #create: (start: number, length: number) => P
  readonly #length: number
  #next = 0
  #confirmed = 0
  /** Acknowledged runs behind a gap: start to end. */
  readonly #ahead = new Map<number, number>()

  constructor(
    offset: number,
    length: number,
    pieceBytes: () => number,
    create: (start: number, length: number) => P,
  ) {
    this.#offset = offset
    this.#length = length
    this.#pieceBytes = pieceBytes
    this.#create = create
  }

  /** Bytes from the start that are acknowledged without a gap. */
  get confirmedBytes(): number {
    return this.#confirmed
  }

  get hasMore(): boolean {
    return this.#next < this.#length
  }

  get nextLength(): number {
    return pieceLength(this.#offset + this.#next, this.#length - this.#next, this.#pieceBytes())
  }

  /** The next piece to write. Only while `hasMore`. */
  take(): P {
    const piece = this.#create(this.#next, this.nextLength)
    this.#next += piece.length
    return piece
  }

  acknowledged(piece: Piece): void {
    if (piece.start !== this.#confirmed) {
      this.#ahead.set(piece.start, piece.start + piece.length)
      return
    }
    let end: number | undefined = piece.start + piece.length
    while (end !== undefined) {
      this.#confirmed = end
      end = this.#ahead.get(end)
      if (end !== undefined) this.#ahead.delete(this.#confirmed)
    }
  }
}
