// A block device as a hard disk of the v86 emulator. What v86 wants of a disk is not written down; found in its source and
// by trying (0.5.462): `get` and `set` with callbacks, one request at a time, whole sectors.
//   - No way to report an error, neither of a read nor of a write. So a failed read is tried again until it succeeds, and
//     writes never leave memory: they go into a copy-on-write overlay, which reads see at once.
//   - The data given to `set` are a view of a buffer that is used again: copied before `set` returns.
//   - The emulator's FLUSH never arrives here. So nothing reaches the server but by an explicit `commit`.

import { UsageError } from '@sshblock/transport/errors'
import type { BlockDevice } from '../device.ts'
import { BlockDeviceError } from '../errors.ts'
import { abortedError } from '../layers/abort.ts'
import { BlockCache, type BlockCacheOptions } from './block-cache.ts'
import { WriteOverlay } from './write-overlay.ts'

export interface V86DiskOptions extends BlockCacheOptions {
  /** A cache that others share, of this device; the cache's options are not used then. */
  cache?: BlockCache
  /**
   * Is told of a read that failed and will be tried again: how often it has failed, and in how many milliseconds it is tried
   * again. The emulator stands still meanwhile.
   */
  onReadError?: (error: unknown, attempt: number, retryMs: number) => void
  /** First pause before a failed read is tried again, in milliseconds; doubles up to 5 s. Default 200. */
  retryMs?: number
}

export interface CommitProgress {
  readonly writtenBytes: number
  readonly totalBytes: number
}

export interface CommitOptions {
  signal?: AbortSignal
  onProgress?: (progress: CommitProgress) => void
}

/** Calls back with the bytes; they are the receiver's. */
type Done = (data: Uint8Array) => void

const maxRetryMs = 5000
const commitRunBytes = 512 * 1024
const commitRunsInFlight = 8

/** What to give to v86 as `hda`: `{ hda: toV86Disk(device) }`. */
export class V86Disk {
  readonly byteLength: number
  /** Set by v86; called when the first sector is there. */
  onload: ((event: object) => void) | undefined
  /** Set by v86; not called: nothing is loaded as a whole. */
  onprogress: ((event: object) => void) | undefined
  readonly #device: BlockDevice
  readonly #cache: BlockCache
  readonly #onReadError: NonNullable<V86DiskOptions['onReadError']>
  readonly #retryMs: number
  #written = new WriteOverlay()
  /** Being sent by a commit; below `#written`. */
  #sending: WriteOverlay | undefined
  readonly #closed = new AbortController()

  /** Made by `toV86Disk`. */
  constructor(device: BlockDevice, options: V86DiskOptions) {
    const { cache, onReadError = () => {}, retryMs = 200 } = options
    this.#device = device
    // v86 counts whole sectors; a last part of one is not reachable.
    this.byteLength = device.size - (device.size % 512)
    this.#cache = cache ?? new BlockCache(device, options)
    this.#onReadError = onReadError
    this.#retryMs = retryMs
  }

  /** Bytes that were written by the emulated machine and are not on the device. */
  get uncommittedBytes(): number {
    return this.#written.bytes + (this.#sending?.bytes ?? 0)
  }

  /** Called by v86 once. Fetches the first block, where the partition table and boot sector are. */
  load(): void {
    this.get(0, Math.min(512, this.byteLength), () => this.onload?.({}))
  }

  /** Called by v86. Never fails: an unreachable server makes the machine wait. */
  get(offset: number, length: number, done: Done): void {
    const bytes = new Uint8Array(length)
    if (this.#fromMemory(offset, bytes)) {
      // Never from within the call: the emulated controller has not said yet that it is busy.
      queueMicrotask(() => done(bytes))
      return
    }
    void this.#read(offset, bytes).then((isThere) => {
      if (isThere) done(bytes)
    })
  }

  /** Called by v86 before `get`: the bytes where they are in memory. */
  get_from_cache(offset: number, length: number): Uint8Array | undefined {
    const bytes = new Uint8Array(length)
    return this.#fromMemory(offset, bytes) ? bytes : undefined
  }

  /** Called by v86 at its start. */
  get_and_cache(offset: number, length: number, done: Done): void {
    this.get(offset, length, done)
  }

  /**
   * Called by v86. Into the overlay only.
   * @throws UsageError for what ends beyond the disk, which v86 never asks for: it could not be committed
   */
  set(offset: number, data: Uint8Array, done: () => void): void {
    if (offset + data.length > this.byteLength) {
      const range = `${data.length} bytes at ${offset}`
      throw new UsageError(`a write of ${range} ends beyond the disk of ${this.byteLength} bytes`)
    }
    this.#written.write(offset, data)
    queueMicrotask(done)
  }

  /** Called by v86 for a disk that is wholly in memory; this one is not. */
  get_buffer(done: (buffer: ArrayBuffer | undefined) => void): void {
    done(undefined)
  }

  /** Saved states of the emulator would have to hold the overlay; they are not supported. */
  get_state(): never {
    throw new UsageError('a machine with a disk on a server cannot be saved: commit, then boot again')
  }

  /** See get_state. */
  set_state(): never {
    return this.get_state()
  }

  /**
   * Writes everything that the emulated machine has written so far to the device, and flushes it. The machine may go on;
   * what it writes meanwhile is for the next commit. For a consistent file system let it sync or shut down first.
   * Where it fails nothing is lost: the writes stay in the overlay, and commit can be called again.
   * @returns how many bytes were written
   * @throws BlockDeviceError EROFS and as the device's write and flush; ABORT_ERR where the signal was aborted; UsageError where
   *   a commit is under way
   */
  async commit(options: CommitOptions = {}): Promise<number> {
    if (this.#sending !== undefined) throw new UsageError('a commit is under way')
    if (this.#device.readOnly)
      throw new BlockDeviceError('EROFS', 'commit: the device was opened read-only', {})
    const sending = this.#written
    this.#sending = sending
    this.#written = new WriteOverlay()
    try {
      await this.#send(sending, options)
      await this.#device.flush(options.signal === undefined ? {} : { signal: options.signal })
    } catch (error) {
      this.#written.putBelow(sending)
      throw error
    } finally {
      this.#sending = undefined
    }
    return sending.bytes
  }

  /** Forgets what was written and not committed, as if the machine had never written it. Stop it first. */
  discardWrites(): void {
    if (this.#sending !== undefined) throw new UsageError('a commit is under way')
    this.#written = new WriteOverlay()
    // A commit that failed may have left some of it on the device.
    this.#cache.clear()
  }

  /** Ends the waiting of a read that fails again and again; v86 is not answered any more. The device stays open. */
  close(): void {
    this.#closed.abort()
  }

  async #send(overlay: WriteOverlay, { signal, onProgress }: CommitOptions): Promise<void> {
    const runs = overlay.runs(commitRunBytes)
    const totalBytes = overlay.bytes
    let writtenBytes = 0
    let next = 0
    const sendSome = async (): Promise<void> => {
      for (let run = runs[next++]; run !== undefined; run = runs[next++]) {
        if (signal?.aborted === true) throw abortedError('commit', signal, run)
        const bytes = new Uint8Array(run.length)
        overlay.apply(run.offset, bytes)
        try {
          await this.#device.write(run.offset, bytes, signal === undefined ? {} : { signal })
        } catch (error) {
          // The others stop with what they have under way.
          next = runs.length
          throw error
        }
        // Below the overlay, so that the bytes stay right when that is gone.
        this.#cache.replace(run.offset, bytes)
        writtenBytes += run.length
        onProgress?.({ writtenBytes, totalBytes })
      }
    }
    const results = await Promise.allSettled(Array.from({ length: commitRunsInFlight }, sendSome))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  #fromMemory(offset: number, into: Uint8Array): boolean {
    if (!this.#written.covers(offset, into.length) && !this.#cache.tryRead(offset, into)) return false
    this.#overlay(offset, into)
    return true
  }

  #overlay(offset: number, into: Uint8Array): void {
    this.#sending?.apply(offset, into)
    this.#written.apply(offset, into)
  }

  /** What the application does with it must not end the trying. */
  #tell(error: unknown, attempt: number, retryMs: number): void {
    try {
      this.#onReadError(error, attempt, retryMs)
    } catch (failure) {
      queueMicrotask(() => {
        throw failure
      })
    }
  }

  /** Resolves to false where the disk was closed. */
  async #read(offset: number, into: Uint8Array): Promise<boolean> {
    const { signal } = this.#closed
    // What was written before, as it is now: a commit may end while the blocks are on their way with what was there before.
    const [sending, written] = [this.#sending, this.#written]
    let pauseMs = this.#retryMs
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await this.#cache.read(offset, into, { signal })
        sending?.apply(offset, into)
        written.apply(offset, into)
        this.#overlay(offset, into)
        return true
      } catch (error) {
        if (signal.aborted) return false
        this.#tell(error, attempt, pauseMs)
        await pause(pauseMs, signal)
        pauseMs = Math.min(2 * pauseMs, maxRetryMs)
      }
    }
    return false
  }
}

/**
 * Makes a hard disk for the v86 emulator of a block device. Writes stay in memory until `commit`.
 * The device stays the caller's; it must not be written to by others meanwhile.
 */
export function toV86Disk(device: BlockDevice, options: V86DiskOptions = {}): V86Disk {
  return new V86Disk(device, options)
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', over)
      resolve()
    }
    const timer = setTimeout(over, milliseconds)
    signal.addEventListener('abort', over)
  })
}
