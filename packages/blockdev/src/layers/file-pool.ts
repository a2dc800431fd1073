// One image, opened once or several times (a handle per SFTP channel): which handle a request takes. Reads go to the least
// busy handle that is not in the middle of an fsync, because fsync blocks everything behind it on its channel; writes stay
// on the first `writers` handles, so that a flush has few to sync.
// Deliberately not here: order (range-lock.ts) and durability (flush-barrier.ts).

import type { RandomAccessFile } from '../random-access-file.ts'

export interface PooledFile {
  readonly file: RandomAccessFile
  /** Bytes of reads and writes under way. */
  bytesInFlight: number
  /** An fsync is under way. */
  syncing: boolean
}

export class FilePool {
  readonly #members: PooledFile[]
  readonly #writers: readonly PooledFile[]

  /** @param writers how many of the handles take writes. */
  constructor(files: readonly RandomAccessFile[], writers = 1) {
    this.#members = files.map(pooled)
    this.#writers = this.#members.slice(0, writers)
  }

  /** All handles. */
  get members(): readonly PooledFile[] {
    return this.#members
  }

  /** The handle for calls about the file as a whole. */
  get first(): RandomAccessFile {
    return this.#members[0]!.file
  }

  /** One more handle of the same image, for reads. */
  add(file: RandomAccessFile): void {
    this.#members.push(pooled(file))
  }

  reader(): PooledFile {
    return leastBusy(this.#members)
  }

  writer(): PooledFile {
    return leastBusy(this.#writers)
  }

  /** Reads through the least busy handle; returns the bytes read, fewer than asked only at the end of the file. */
  async read(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<number> {
    const member = this.reader()
    member.bytesInFlight += into.length
    try {
      return await member.file.read(offset, into, { signal })
    } finally {
      member.bytesInFlight -= into.length
    }
  }
}

function pooled(file: RandomAccessFile): PooledFile {
  return { file, bytesInFlight: 0, syncing: false }
}

function leastBusy(members: readonly PooledFile[]): PooledFile {
  let best = members[0]!
  for (const member of members) {
    const better = member.syncing === best.syncing ? member.bytesInFlight < best.bytesInFlight : best.syncing
    if (better) best = member
  }
  return best
}
