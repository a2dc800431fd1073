// Which file system a partition holds: by its own marks, not by what the partition table says.

import { looksLikeExt, openExt } from './ext.ts'
import { looksLikeFat, openFat } from './fat.ts'
import { type FileSystem, FileSystemError, type Volume, viewOf } from './file-system.ts'

/** A part of a volume as a volume of its own; reads never leave it. */
export function partOf(volume: Volume, start: number, length: number): Volume {
  const size = Math.max(0, Math.min(length, volume.size - start))
  return {
    size,
    async read(offset, into, options) {
      if (offset < 0 || offset + into.length > size) throw new FileSystemError('a read leaves its partition')
      await volume.read(start + offset, into, options)
    },
  }
}

const others: readonly { readonly name: string; readonly at: number; readonly text: string }[] = [
  { name: 'NTFS', at: 3, text: 'NTFS    ' },
  { name: 'exFAT', at: 3, text: 'EXFAT   ' },
  { name: 'XFS', at: 0, text: 'XFSB' },
  { name: 'LUKS (encrypted)', at: 0, text: 'LUKS' },
  { name: 'squashfs', at: 0, text: 'hsqs' },
  { name: 'LVM', at: 536, text: 'LVM2' },
  { name: 'Linux swap', at: 4086, text: 'SWAPSPACE2' },
  { name: 'ISO 9660', at: 32_769, text: 'CD001' },
  { name: 'btrfs', at: 65_600, text: '_BHRfS_M' },
]

export type OpenedVolume =
  | { readonly fileSystem: FileSystem }
  /** Known by its marks, but not read here; undefined where nothing was recognised. */
  | { readonly fileSystem: undefined; readonly recognised: string | undefined }

/** Looks at a volume. @throws FileSystemError where it is of a kind that is read here, but damaged */
export async function openVolume(volume: Volume): Promise<OpenedVolume> {
  const head = await viewOf(volume, 0, Math.min(volume.size, 72 * 1024))
  const text = (at: number, length: number): string =>
    at + length > head.byteLength ? '' : String.fromCharCode(...new Uint8Array(head.buffer, at, length))
  const other = others.find((mark) => text(mark.at, mark.text.length) === mark.text)
  if (other !== undefined) return { fileSystem: undefined, recognised: other.name }
  if (head.byteLength >= 2048 && looksLikeExt(new DataView(head.buffer, 1024)))
    return { fileSystem: await openExt(volume) }
  if (head.byteLength >= 512 && looksLikeFat(head)) return { fileSystem: await openFat(volume) }
  return { fileSystem: undefined, recognised: undefined }
}
