// Requests that wait for their answer, by id (draft-ietf-secsh-filexfer-02 s3), and which of them have waited too long.
// An id is never given to a second request while the first may be answered, so a duplicate or late answer is always
// told from a right one. Requests that timed out stay known in a second table until they are answered: an answer that
// comes late is dropped, not mistaken for a breach.
// Knows no clock: `expire` is told the time.

import { SftpProtocolError } from '../errors.ts'
import { maxUnansweredRequests } from '../limits.ts'

/** A request on its way. */
export interface Pending {
  /** 'OPEN', 'READ', 'fsync@openssh.com': for people. */
  readonly operation: string
  /** The packet type of a success; STATUS where OK is all that comes. A STATUS that refuses is always legal. */
  readonly expects: number
  /** A STATUS packet with its code. Throws SftpProtocolError where it cannot answer this request. */
  status(code: number, packet: Uint8Array): void
  /** The packet of type `expects`, unless that is STATUS. The packet is a view. Throws WireError. */
  reply(packet: Uint8Array): void
  /** No answer will be waited for. */
  fail(error: Error): void
  /** Gives back what the request holds while it is in flight. Called once: when answered, or when given up. */
  release(): void
}

export class PendingTable {
  /** In the order in which they were added. */
  readonly #waiting = new Map<number, Pending>()
  readonly #unanswered = new Map<number, Pending>()
  #nextId = 0
  /** The latest of the requests that were answered. */
  #latestAnswered = 0xffff_ffff
  /** Watch over the oldest request: since when it is that, the latest request of then, and what had come until then. */
  #oldestId: number | undefined
  #oldestSince = 0
  #latestThen = 0
  #receivedThen = 0

  get size(): number {
    return this.#waiting.size
  }

  /** Gives the request an id of its own. */
  add(request: Pending): number {
    let id = this.#nextId
    while (this.#waiting.has(id) || this.#unanswered.has(id)) id = (id + 1) >>> 0
    this.#nextId = (id + 1) >>> 0
    this.#waiting.set(id, request)
    return id
  }

  /** The request that an answer with this id belongs to. */
  find(id: number): Pending | undefined {
    return this.#waiting.get(id) ?? this.#unanswered.get(id)
  }

  /** The request was answered in full. */
  answered(id: number): void {
    if (!isBefore(id, this.#latestAnswered)) this.#latestAnswered = id
    const request = this.#waiting.get(id)
    if (request === undefined) {
      this.#unanswered.delete(id)
      return
    }
    this.#waiting.delete(id)
    request.release()
  }

  /**
   * Gives up on the request that was the oldest for `timeoutMs`, and with it on those sent meanwhile that share its fate:
   * all, where nothing came, else those that a later one was answered before. A request that only waits for its turn
   * behind others is never late, however slow the link. `received` is any number that grows when something comes.
   * Returns what was given up, not yet failed.
   */
  expire(now: number, timeoutMs: number, received: number): Pending[] {
    const [oldest] = this.#waiting.keys()
    if (oldest === undefined || oldest !== this.#oldestId) {
      this.#oldestId = oldest
      this.#oldestSince = now
      this.#latestThen = (this.#nextId - 1) >>> 0
      this.#receivedThen = received
      return []
    }
    if (now - this.#oldestSince < timeoutMs) return []
    const silent = received === this.#receivedThen
    const expired: Pending[] = []
    for (const [id, request] of this.#waiting) {
      const isLost = id === oldest || silent || isBefore(id, this.#latestAnswered)
      if (!isLost || isBefore(this.#latestThen, id)) break
      this.#waiting.delete(id)
      this.#unanswered.set(id, request)
      request.release()
      expired.push(request)
    }
    this.#oldestId = undefined
    if (this.#unanswered.size > maxUnansweredRequests) {
      throw new SftpProtocolError(`${this.#unanswered.size} requests were never answered`)
    }
    return expired
  }

  /** Gives up on everything and returns what was still waiting, oldest first, not yet failed. */
  clear(): Pending[] {
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    this.#unanswered.clear()
    for (const request of waiting) request.release()
    return waiting
  }
}

/** Whether an id was given before another one; ids wrap around. */
function isBefore(id: number, other: number): boolean {
  return id !== other && (other - id) >>> 0 < 0x8000_0000
}
