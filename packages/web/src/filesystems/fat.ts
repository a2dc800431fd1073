// FAT12, FAT16 and FAT32, read-only, with long names. Microsoft's "FAT: General Overview of On-Disk Format" (fatgen103);
// section names are given at the lines.

import {
  byName,
  contentOfRuns,
  type FileSystem,
  type FileSystemEntry,
  FileSystemError,
  labelText,
  type Run,
  type Volume,
  viewOf,
  wholeContent,
} from './file-system.ts'

const entryBytes = 32
/** "FAT Directory Structure": 65536 entries. */
const maxDirectoryBytes = 65_536 * entryBytes

/** Whether the first sector may be a FAT volume's ("Boot Sector and BPB Structure"). */
export function looksLikeFat(sector: DataView): boolean {
  const sectorBytes = sector.getUint16(11, true)
  const sectorsPerCluster = sector.getUint8(13)
  const isPower = (value: number) => value !== 0 && (value & (value - 1)) === 0
  return (
    [0xeb, 0xe9].includes(sector.getUint8(0)) &&
    isPower(sectorBytes) &&
    sectorBytes >= 512 &&
    sectorBytes <= 4096 &&
    isPower(sectorsPerCluster) &&
    sector.getUint16(14, true) > 0 &&
    [1, 2].includes(sector.getUint8(16)) &&
    sector.getUint8(21) >= 0xf0
  )
}

/** Opens a FAT volume. @throws FileSystemError */
export async function openFat(volume: Volume): Promise<FileSystem> {
  const boot = await viewOf(volume, 0, 512)
  if (!looksLikeFat(boot)) throw new FileSystemError('no FAT volume')
  return FatVolume.open(volume, boot)
}

interface Geometry {
  readonly bits: 12 | 16 | 32
  readonly clusterBytes: number
  readonly clusters: number
  readonly fatAt: number
  readonly rootAt: number
  readonly rootBytes: number
  readonly rootCluster: number
  readonly dataAt: number
}

function geometryOf(boot: DataView): Geometry {
  const sectorBytes = boot.getUint16(11, true)
  const clusterBytes = boot.getUint8(13) * sectorBytes
  const reserved = boot.getUint16(14, true)
  const rootBytes = boot.getUint16(17, true) * entryBytes
  const totalSectors = boot.getUint16(19, true) || boot.getUint32(32, true)
  const fatSectors = boot.getUint16(22, true) || boot.getUint32(36, true)
  const fatAt = reserved * sectorBytes
  const rootAt = fatAt + boot.getUint8(16) * fatSectors * sectorBytes
  const dataAt = rootAt + Math.ceil(rootBytes / sectorBytes) * sectorBytes
  const clusters = Math.floor((totalSectors * sectorBytes - dataAt) / clusterBytes)
  if (!(clusters > 0)) throw new FileSystemError('the FAT volume has no clusters')
  // "FAT Type Determination": by the number of clusters and nothing else.
  const bits = clusters < 4085 ? 12 : clusters < 65_525 ? 16 : 32
  const fatBytes = fatSectors * sectorBytes
  if (((clusters + 2) * bits) / 8 > fatBytes) throw new FileSystemError('the FAT is too small for its volume')
  const rootCluster = bits === 32 ? boot.getUint32(44, true) : 0
  return { bits, clusterBytes, clusters, fatAt, rootAt, rootBytes, rootCluster, dataAt }
}

class FatVolume implements FileSystem {
  readonly kind: string
  readonly label: string
  readonly notes: readonly string[] = []
  readonly root: FileSystemEntry
  readonly #volume: Volume
  readonly #geometry: Geometry

  private constructor(volume: Volume, geometry: Geometry, label: string) {
    this.#volume = volume
    this.#geometry = geometry
    this.kind = `FAT${geometry.bits}`
    this.label = label
    const directory = (): AsyncIterable<Run> =>
      geometry.bits === 32 ? this.#chain(geometry.rootCluster) : this.#fixedRoot()
    this.root = this.#directory('', undefined, directory)
  }

  static async open(volume: Volume, boot: DataView): Promise<FatVolume> {
    const geometry = geometryOf(boot)
    const labelAt = geometry.bits === 32 ? 71 : 43
    const label = labelText(new Uint8Array(boot.buffer, boot.byteOffset + labelAt, 11))
    return new FatVolume(volume, geometry, label === 'NO NAME' ? '' : label)
  }

  async *#fixedRoot(): AsyncGenerator<Run> {
    yield { at: this.#geometry.rootAt, length: this.#geometry.rootBytes }
  }

  /** The clusters of a file, neighbours joined ("FAT Data Structure"). */
  async *#chain(first: number): AsyncGenerator<Run> {
    const { clusterBytes, clusters, dataAt } = this.#geometry
    if (first === 0) return
    let cluster = first
    let begin = first
    let count = 0
    for (let seen = 0; ; seen++) {
      if (cluster < 2 || cluster >= clusters + 2 || seen > clusters)
        throw new FileSystemError('a chain of clusters leads nowhere: the volume is damaged')
      count++
      const next = await this.#next(cluster)
      if (next === cluster + 1) {
        cluster = next
        continue
      }
      yield { at: dataAt + (begin - 2) * clusterBytes, length: count * clusterBytes }
      if (next === undefined) return
      cluster = next
      begin = next
      count = 0
    }
  }

  /** Undefined at the end of a chain. */
  async #next(cluster: number): Promise<number | undefined> {
    const { bits, fatAt } = this.#geometry
    const volume = this.#volume
    if (bits === 12) {
      const pair = (await viewOf(volume, fatAt + Math.floor((cluster * 3) / 2), 2)).getUint16(0, true)
      const next = (cluster & 1) === 0 ? pair & 0xfff : pair >>> 4
      return next >= 0xff8 ? undefined : next
    }
    if (bits === 16) {
      const next = (await viewOf(volume, fatAt + cluster * 2, 2)).getUint16(0, true)
      return next >= 0xfff8 ? undefined : next
    }
    const next = (await viewOf(volume, fatAt + cluster * 4, 4)).getUint32(0, true) & 0x0fff_ffff
    return next >= 0x0fff_fff8 ? undefined : next
  }

  #directory(name: string, modified: Date | undefined, runs: () => AsyncIterable<Run>): FileSystemEntry {
    return {
      name,
      type: 'directory',
      size: 0,
      modified,
      entries: async () => {
        const pieces = contentOfRuns(this.#volume, bounded(runs()), maxDirectoryBytes)
        const content = await wholeContent(untilEnd(pieces), maxDirectoryBytes)
        return this.#parse(new DataView(content.buffer)).sort(byName)
      },
      content: nothing,
    }
  }

  /** "FAT Directory Structure" and "FAT Long Directory Entries". */
  #parse(entries: DataView<ArrayBuffer>): FileSystemEntry[] {
    const found: FileSystemEntry[] = []
    let longName: { text: string; checksum: number; left: number } | undefined
    for (let at = 0; at + entryBytes <= entries.byteLength; at += entryBytes) {
      const first = entries.getUint8(at)
      if (first === 0) break
      const attributes = entries.getUint8(at + 11)
      if (first === 0xe5) {
        longName = undefined
        continue
      }
      if ((attributes & 0x3f) === 0x0f) {
        const number = first & 0x3f
        const checksum = entries.getUint8(at + 13)
        const part = longPart(entries, at)
        if ((first & 0x40) !== 0) longName = { text: part, checksum, left: number - 1 }
        else if (longName?.left === number && longName.checksum === checksum)
          longName = { text: part + longName.text, checksum, left: number - 1 }
        else longName = undefined
        continue
      }
      const raw = new Uint8Array(entries.buffer, at, 11)
      const long = longName?.left === 0 && longName.checksum === checksumOf(raw) ? longName.text : undefined
      longName = undefined
      // A volume's label is no file.
      if ((attributes & 0x08) !== 0 || first === 0x2e) continue
      found.push(this.#entry(entries, at, long ?? shortText(raw, entries.getUint8(at + 12))))
    }
    return found
  }

  #entry(entries: DataView, at: number, name: string): FileSystemEntry {
    const high = this.#geometry.bits === 32 ? entries.getUint16(at + 20, true) : 0
    const cluster = high * 65_536 + entries.getUint16(at + 26, true)
    const modified = timeOf(entries.getUint16(at + 24, true), entries.getUint16(at + 22, true))
    if ((entries.getUint8(at + 11) & 0x10) !== 0)
      return this.#directory(name, modified, () => this.#chain(cluster))
    const size = entries.getUint32(at + 28, true)
    return {
      name,
      type: 'file',
      size,
      modified,
      entries: notADirectory,
      content: ({ signal } = {}) => contentOfRuns(this.#volume, this.#chain(cluster), size, signal),
    }
  }
}

/** Ends a directory at its first free entry, so that the rest of a long chain is not read. */
async function* untilEnd(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    yield piece
    for (let at = 0; at < piece.length; at += entryBytes) if (piece[at] === 0) return
  }
}

/** A directory has no size of its own: it ends with its chain. */
async function* bounded(runs: AsyncIterable<Run>): AsyncGenerator<Run> {
  let bytes = 0
  for await (const run of runs) {
    bytes += run.length
    if (bytes > maxDirectoryBytes) throw new FileSystemError('a directory is longer than FAT allows')
    yield run
  }
}

async function* nothing(): AsyncGenerator<Uint8Array<ArrayBuffer>> {}

async function notADirectory(): Promise<never> {
  throw new FileSystemError('not a directory')
}

const longPlaces = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]

function longPart(entries: DataView, at: number): string {
  let text = ''
  for (const place of longPlaces) {
    const unit = entries.getUint16(at + place, true)
    if (unit === 0 || unit === 0xffff) break
    text += String.fromCharCode(unit)
  }
  return text
}

function checksumOf(short: Uint8Array): number {
  let sum = 0
  for (const byte of short) sum = (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff
  return sum
}

/** 'README.TXT'. Byte 12 of Windows NT: stem or ending in small letters. */
function shortText(raw: Uint8Array, cases: number): string {
  // A name that begins with 0xe5, which marks free entries, begins with 5 instead.
  const bytes = raw[0] === 0x05 ? Uint8Array.of(0xe5, ...raw.subarray(1)) : raw
  const text = (from: number, to: number): string =>
    String.fromCharCode(...bytes.subarray(from, to)).trimEnd()
  const stem = (cases & 0x08) !== 0 ? text(0, 8).toLowerCase() : text(0, 8)
  const ending = (cases & 0x10) !== 0 ? text(8, 11).toLowerCase() : text(8, 11)
  return ending === '' ? stem : `${stem}.${ending}`
}

/** Local time of an unknown place, taken as UTC. */
function timeOf(date: number, time: number): Date | undefined {
  if (date === 0) return undefined
  const [year, month, day] = [1980 + (date >> 9), (date >> 5) & 15, date & 31]
  return new Date(Date.UTC(year, month - 1, day, time >> 11, (time >> 5) & 63, (time & 31) * 2))
}
