// ext2, ext3 and ext4, read-only. The Linux kernel's Documentation/filesystems/ext4 has the layout; its page titles are given
// at the lines. A journal is not replayed: what was written last before a crash may be missing or old, which is noted.

import { extRuns } from './ext-blocks.ts'
import {
  byName,
  contentOfRuns,
  type FileSystem,
  type FileSystemEntry,
  FileSystemError,
  type FileType,
  labelText,
  type Volume,
  viewOf,
  wholeContent,
} from './file-system.ts'

const superBlockAt = 1024
const magic = 0xef53
const maxDirectoryBytes = 64 * 1024 * 1024
const maxLinkBytes = 4096

/** "Super Block", s_feature_incompat. */
const incompat = { recover: 0x4, metaBlockGroups: 0x10, extents: 0x40, bits64: 0x80 } as const
/** Those whose presence changes nothing for a reader, and those that are understood. */
const readable =
  0x2 |
  incompat.recover |
  incompat.extents |
  incompat.bits64 |
  0x100 |
  0x200 |
  0x400 |
  0x2000 |
  0x4000 |
  0x8000 |
  0x20000

const inodeFlags = { encrypted: 0x800, extents: 0x80000, inlineData: 0x1000_0000 } as const

/** Whether the bytes at 1024 may be a super block. */
export function looksLikeExt(superBlock: DataView): boolean {
  return superBlock.getUint16(56, true) === magic
}

/** Opens an ext2, ext3 or ext4 volume. @throws FileSystemError */
export async function openExt(volume: Volume): Promise<FileSystem> {
  return ExtVolume.open(volume, await viewOf(volume, superBlockAt, 1024))
}

/** "Super Block". */
interface Layout {
  readonly blockBytes: number
  readonly blocks: number
  readonly inodes: number
  readonly inodesPerGroup: number
  readonly inodeBytes: number
  readonly descriptorsAt: number
  readonly descriptorBytes: number
  readonly is64Bit: boolean
}

interface Inode {
  readonly number: number
  readonly type: FileType
  readonly size: number
  readonly modified: Date
  readonly flags: number
  /** i_block: 60 bytes. */
  readonly block: DataView<ArrayBuffer>
  readonly usedSectors: number
}

class ExtVolume implements FileSystem {
  readonly kind: string
  readonly label: string
  readonly notes: readonly string[]
  readonly root: FileSystemEntry
  readonly #volume: Volume
  readonly #layout: Layout

  private constructor(volume: Volume, layout: Layout, about: Pick<FileSystem, 'kind' | 'label' | 'notes'>) {
    this.#volume = volume
    this.#layout = layout
    this.kind = about.kind
    this.label = about.label
    this.notes = about.notes
    this.root = {
      name: '',
      type: 'directory',
      size: 0,
      modified: undefined,
      // "Special inodes": 2 is the root directory.
      entries: async () => this.#list(await this.#inode(2)),
      content: async function* () {},
    }
  }

  static open(volume: Volume, superBlock: DataView<ArrayBuffer>): ExtVolume {
    if (!looksLikeExt(superBlock)) throw new FileSystemError('no ext2, ext3 or ext4 volume')
    const u32 = (at: number): number => superBlock.getUint32(at, true)
    const features = u32(96)
    if ((features & ~readable) !== 0)
      throw new FileSystemError(
        `the ext volume uses features that are not supported here (${hex(features & ~readable)})`,
      )
    const logBlock = u32(24)
    if (logBlock > 6) throw new FileSystemError('the ext volume has blocks of an impossible size')
    const blockBytes = 1024 << logBlock
    const isOld = u32(76) === 0
    const is64Bit = (features & incompat.bits64) !== 0
    const layout: Layout = {
      blockBytes,
      blocks: u32(4) + (is64Bit ? u32(336) * 2 ** 32 : 0),
      inodes: u32(0),
      inodesPerGroup: u32(40),
      inodeBytes: isOld ? 128 : superBlock.getUint16(88, true),
      descriptorsAt: (u32(20) + 1) * blockBytes,
      descriptorBytes: is64Bit ? superBlock.getUint16(254, true) : 32,
      is64Bit,
    }
    const { inodeBytes, descriptorBytes, inodesPerGroup } = layout
    if (inodeBytes < 128 || inodeBytes > blockBytes || descriptorBytes < 32 || inodesPerGroup === 0)
      throw new FileSystemError('the super block of the ext volume makes no sense')
    const hasJournal = (u32(92) & 0x4) !== 0
    const modern = (features & (incompat.extents | incompat.bits64 | 0x200)) !== 0
    return new ExtVolume(volume, layout, {
      kind: modern ? 'ext4' : hasJournal ? 'ext3' : 'ext2',
      label: labelText(new Uint8Array(superBlock.buffer, 120, 16)),
      notes:
        (features & incompat.recover) === 0
          ? []
          : [
              'The volume was not unmounted. Its journal is not replayed here: the last changes may be missing.',
            ],
    })
  }

  /** "Index Nodes", by way of "Block Group Descriptors". */
  async #inode(number: number): Promise<Inode> {
    const { inodes, inodesPerGroup, inodeBytes, descriptorsAt, descriptorBytes, is64Bit, blockBytes } =
      this.#layout
    if (number < 1 || number > inodes) throw new FileSystemError(`there is no inode ${number}`)
    const group = Math.floor((number - 1) / inodesPerGroup)
    const descriptor = await viewOf(this.#volume, descriptorsAt + group * descriptorBytes, descriptorBytes)
    const high = is64Bit && descriptorBytes >= 64 ? descriptor.getUint32(0x28, true) : 0
    const table = (high * 2 ** 32 + descriptor.getUint32(8, true)) * blockBytes
    const at = table + ((number - 1) % inodesPerGroup) * inodeBytes
    const view = await viewOf(this.#volume, at, inodeBytes)
    return inodeOf(number, view)
  }

  /** "Directory Entries": linear in every block; those of hash trees look empty to a linear reader. */
  async #list(directory: Inode): Promise<FileSystemEntry[]> {
    if (directory.type !== 'directory') throw new FileSystemError('not a directory')
    const content = await wholeContent(this.#content(directory), maxDirectoryBytes)
    const view = new DataView(content.buffer)
    const names: { name: string; inode: number }[] = []
    const decoder = new TextDecoder()
    for (let at = 0; at + 8 <= content.length; ) {
      const length = view.getUint16(at + 4, true)
      // Blocks of 64 KiB write their own length as 0 or 65535.
      const step = length === 0 || length === 65_535 ? this.#layout.blockBytes : length
      const nameLength = view.getUint8(at + 6)
      if (step < 8 || step % 4 !== 0 || at + 8 + nameLength > content.length)
        throw new FileSystemError(`the directory with inode ${directory.number} is damaged`)
      const inode = view.getUint32(at, true)
      const name = decoder.decode(content.subarray(at + 8, at + 8 + nameLength))
      if (inode !== 0 && name !== '.' && name !== '..') names.push({ name, inode })
      at += step
    }
    const found: FileSystemEntry[] = []
    for (const { name, inode } of names) found.push(this.#entry(name, await this.#inode(inode)))
    return found.sort(byName)
  }

  #entry(name: string, inode: Inode): FileSystemEntry {
    const { type, modified } = inode
    const hasContent = type === 'file' || type === 'symlink'
    return {
      name,
      type,
      size: type === 'directory' ? 0 : inode.size,
      modified,
      entries: () => this.#list(inode),
      content: hasContent ? ({ signal } = {}) => this.#content(inode, signal) : async function* () {},
    }
  }

  async *#content(
    inode: Inode,
    signal?: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
    const { flags, size, block, type } = inode
    if ((flags & inodeFlags.encrypted) !== 0) throw new FileSystemError('the file is encrypted')
    if ((flags & inodeFlags.inlineData) !== 0)
      throw new FileSystemError(
        'the file is kept inside its inode (inline_data), which is not supported here',
      )
    if (type === 'symlink') {
      if (size > maxLinkBytes) throw new FileSystemError('a symbolic link is longer than Linux allows')
      // "Symbolic Links": a target of less than 60 bytes stands in the inode itself.
      if (size < 60 && inode.usedSectors === 0) {
        yield new Uint8Array(block.buffer.slice(block.byteOffset, block.byteOffset + size))
        return
      }
    }
    const { blockBytes, blocks } = this.#layout
    const runs = extRuns(this.#volume, {
      blockBytes,
      blocks,
      map: block,
      usesExtents: (flags & inodeFlags.extents) !== 0,
      fileBlocks: Math.ceil(size / blockBytes),
    })
    yield* contentOfRuns(this.#volume, runs, size, signal)
  }
}

function inodeOf(number: number, view: DataView<ArrayBuffer>): Inode {
  const types: ReadonlyMap<number, FileType> = new Map([
    [0x8000, 'file'],
    [0x4000, 'directory'],
    [0xa000, 'symlink'],
  ])
  const size = view.getUint32(108, true) * 2 ** 32 + view.getUint32(4, true)
  if (!Number.isSafeInteger(size)) throw new FileSystemError(`inode ${number} has an impossible size`)
  // "Inode Timestamps": two more bits of the seconds where the inode is large enough.
  const hasMore = view.byteLength > 128 && view.getUint16(128, true) >= 12
  const epochs = hasMore ? view.getUint32(136, true) & 3 : 0
  const seconds = view.getInt32(16, true) + epochs * 2 ** 32
  return {
    number,
    type: types.get(view.getUint16(0, true) & 0xf000) ?? 'other',
    size,
    modified: new Date(seconds * 1000),
    flags: view.getUint32(32, true),
    block: new DataView(view.buffer, 40, 60),
    usedSectors: view.getUint32(28, true),
  }
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`
}
