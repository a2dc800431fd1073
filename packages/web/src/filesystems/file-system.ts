// What the page needs of a file system inside an image: names, sizes and contents, read-only. Images are data from somebody
// else: whoever reads one checks every number before it is used, and ends with a FileSystemError, never in a loop.

/** Bytes of a partition, or of a whole image. */
export interface Volume {
  /** Bytes. */
  readonly size: number
  /** Fills `into` wholly. */
  read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<void>
}

export type FileType = 'file' | 'directory' | 'symlink' | 'other'

export interface FileSystemEntry {
  /** As in the image: may hold anything but '/' and NUL. Show it through safeText. */
  readonly name: string
  readonly type: FileType
  /** Bytes; 0 for what is no file. */
  readonly size: number
  readonly modified: Date | undefined
  /** What a directory holds, without '.' and '..', sorted by name. @throws FileSystemError; the volume's errors */
  entries(): Promise<FileSystemEntry[]>
  /** What a file holds, in order; a symbolic link holds its target. @throws FileSystemError; the volume's errors */
  content(options?: {
    signal?: AbortSignal | undefined
  }): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined>
}

export interface FileSystem {
  /** 'ext4', 'FAT16', ... */
  readonly kind: string
  readonly label: string
  /** What its user should know, e.g. that a journal was not replayed. */
  readonly notes: readonly string[]
  readonly root: FileSystemEntry
}

/** The image is damaged, or uses something that is not supported; the message says which. */
export class FileSystemError extends Error {
  override readonly name = 'FileSystemError'
}

/** Reads a part of a volume into a view; @throws FileSystemError where it lies outside. */
export async function viewOf(volume: Volume, offset: number, length: number): Promise<DataView<ArrayBuffer>> {
  if (offset < 0 || !Number.isSafeInteger(offset) || offset + length > volume.size)
    throw new FileSystemError(`the image refers to byte ${offset + length}, but has ${volume.size}`)
  const bytes = new Uint8Array(length)
  await volume.read(offset, bytes)
  return new DataView(bytes.buffer)
}

/** A stretch of a file: where it lies in the volume, or undefined for a hole, which reads as zeros. */
export interface Run {
  readonly at: number | undefined
  readonly length: number
}

const pieceBytes = 1024 * 1024

/** The bytes of the runs, cut at `size`, in pieces of at most 1 MiB; zeros for what no run covers. */
export async function* contentOfRuns(
  volume: Volume,
  runs: AsyncIterable<Run>,
  size: number,
  signal?: AbortSignal | undefined,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  let left = size
  for await (const { at, length } of runs) {
    if (left === 0) return
    const end = Math.min(length, left)
    for (let done = 0; done < end; done += pieceBytes) {
      signal?.throwIfAborted()
      const piece = new Uint8Array(Math.min(pieceBytes, end - done))
      if (at !== undefined) {
        if (at + done + piece.length > volume.size)
          throw new FileSystemError('a file lies outside the volume: the image is damaged or cut off')
        await volume.read(at + done, piece, { signal })
      }
      yield piece
    }
    left -= end
  }
  for (; left > 0; left -= Math.min(pieceBytes, left)) yield new Uint8Array(Math.min(pieceBytes, left))
}

/** All bytes of something small. @throws FileSystemError where it is larger than `maxBytes` */
export async function wholeContent(
  pieces: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const piece of pieces) {
    length += piece.length
    if (length > maxBytes) throw new FileSystemError(`a directory has more than ${maxBytes} bytes`)
    parts.push(piece)
  }
  const whole = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** 'file 10' behind 'file 9'. */
const names = new Intl.Collator(undefined, { numeric: true })

export function byName(a: FileSystemEntry, b: FileSystemEntry): number {
  const folders = Number(b.type === 'directory') - Number(a.type === 'directory')
  return folders || names.compare(a.name, b.name)
}

/** Trailing blanks and NULs off. */
export function labelText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)).trim()
}
