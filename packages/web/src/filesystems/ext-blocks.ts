// Where the blocks of an ext2, ext3 or ext4 file lie: extents, or the older tables of tables. The Linux kernel's
// Documentation/filesystems/ext4, "The Contents of inode.i_block".

import { FileSystemError, type Run, type Volume, viewOf } from './file-system.ts'

export interface BlockMap {
  readonly blockBytes: number
  /** Of the whole volume. */
  readonly blocks: number
  /** i_block: 60 bytes. */
  readonly map: DataView<ArrayBuffer>
  readonly usesExtents: boolean
  /** Blocks of the file, holes included. */
  readonly fileBlocks: number
}

/** The file's runs in order, holes included. @throws FileSystemError where the map makes no sense */
export async function* extRuns(volume: Volume, map: BlockMap): AsyncGenerator<Run> {
  const { blockBytes, blocks, fileBlocks } = map
  let done = 0
  const stretches = map.usesExtents ? extents(volume, map, map.map, 0) : indirect(volume, map)
  for await (const { logical, physical, count } of stretches) {
    if (logical >= fileBlocks) return
    if (logical < done) throw new FileSystemError('the blocks of a file are out of order')
    if (logical > done) yield { at: undefined, length: (logical - done) * blockBytes }
    if (physical !== undefined && physical + count > blocks)
      throw new FileSystemError('a file lies outside the volume: the image is damaged or cut off')
    yield { at: physical === undefined ? undefined : physical * blockBytes, length: count * blockBytes }
    done = logical + count
  }
}

interface Stretch {
  readonly logical: number
  /** Undefined: allocated, but never written. */
  readonly physical: number | undefined
  readonly count: number
}

const extentMagic = 0xf30a
const extentBytes = 12
const maxDepth = 5

/** "Extent Tree". */
async function* extents(
  volume: Volume,
  map: BlockMap,
  node: DataView,
  level: number,
): AsyncGenerator<Stretch> {
  const depth = node.getUint16(6, true)
  const count = node.getUint16(2, true)
  if (node.getUint16(0, true) !== extentMagic || level + depth > maxDepth)
    throw new FileSystemError('the extent tree of a file is damaged')
  if (extentBytes * (count + 1) > node.byteLength)
    throw new FileSystemError('the extent tree of a file is damaged')
  for (let i = 1; i <= count; i++) {
    const at = extentBytes * i
    const logical = node.getUint32(at, true)
    if (depth > 0) {
      const child = node.getUint16(at + 8, true) * 2 ** 32 + node.getUint32(at + 4, true)
      const below = await viewOf(volume, child * map.blockBytes, map.blockBytes)
      // A child of another depth than it must have would let a tree bite its own tail.
      if (below.getUint16(6, true) !== depth - 1)
        throw new FileSystemError('the extent tree of a file is damaged')
      yield* extents(volume, map, below, level + 1)
      continue
    }
    const length = node.getUint16(at + 4, true)
    const physical = node.getUint16(at + 6, true) * 2 ** 32 + node.getUint32(at + 8, true)
    // Lengths above 32768 mark what was allocated and not written.
    if (length > 32_768) yield { logical, physical: undefined, count: length - 32_768 }
    else if (length > 0) yield { logical, physical, count: length }
  }
}

/** "Direct/Indirect Block Addressing": twelve blocks, then a table, a table of tables, and one of those. */
async function* indirect(volume: Volume, map: BlockMap): AsyncGenerator<Stretch> {
  let pending: { logical: number; physical: number; count: number } | undefined
  for await (const { logical, physical } of pointers(volume, map)) {
    if (
      pending !== undefined &&
      pending.physical + pending.count === physical &&
      pending.logical + pending.count === logical
    ) {
      pending.count++
      continue
    }
    if (pending !== undefined) yield pending
    pending = { logical, physical, count: 1 }
  }
  if (pending !== undefined) yield pending
}

async function* pointers(
  volume: Volume,
  map: BlockMap,
): AsyncGenerator<{ logical: number; physical: number }> {
  const { map: block, fileBlocks, blockBytes } = map
  const perTable = blockBytes / 4
  for (let logical = 0; logical < Math.min(12, fileBlocks); logical++) {
    const physical = block.getUint32(4 * logical, true)
    if (physical !== 0) yield { logical, physical }
  }
  let logical = 12
  for (let level = 1; level <= 3; level++) {
    const table = block.getUint32(4 * (11 + level), true)
    yield* tablePointers(volume, map, table, level, logical)
    logical += perTable ** level
  }
}

async function* tablePointers(
  volume: Volume,
  map: BlockMap,
  table: number,
  level: number,
  first: number,
): AsyncGenerator<{ logical: number; physical: number }> {
  const { blockBytes, fileBlocks } = map
  if (table === 0 || first >= fileBlocks) return
  const perTable = blockBytes / 4
  const span = perTable ** (level - 1)
  const view = await viewOf(volume, table * blockBytes, blockBytes)
  for (let i = 0; i < perTable; i++) {
    const logical = first + i * span
    if (logical >= fileBlocks) return
    const physical = view.getUint32(4 * i, true)
    if (physical === 0) continue
    if (level === 1) yield { logical, physical }
    else yield* tablePointers(volume, map, physical, level - 1, logical)
  }
}
