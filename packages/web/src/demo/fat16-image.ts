// Makes a FAT16 volume with files in it: enough to ship a disk image without shipping one. Microsoft's "FAT: General
// Overview of On-Disk Format" (fatgen103) has the layout; section names are given at the lines.
// Everything is written once, in order, without fragments. Only what is not zero is handed out.

const sectorBytes = 512
const sectorsPerCluster = 4
const clusterBytes = sectorBytes * sectorsPerCluster
const rootEntries = 512
const entryBytes = 32
const reservedSectors = 1
const endOfChain = 0xffff

/** A file or folder to be put into the volume. */
export interface NewEntry {
  /** Long names are kept; at most 255 UTF-16 units, without \ / : * ? " < > |. */
  readonly name: string
  readonly content: Uint8Array | readonly NewEntry[]
}

/** A stretch of an image that is not zero. */
export interface ImagePiece {
  /** Bytes from the beginning of the volume. */
  readonly offset: number
  readonly bytes: Uint8Array
}

export interface Fat16Options {
  /** A multiple of 512. FAT16 wants between 4085 and 65524 clusters of 2 KiB: about 8 to 128 MiB. */
  readonly volumeBytes: number
  /** Sectors before the volume on its disk. */
  readonly hiddenSectors: number
  /** At most 11 characters of ASCII in capitals. */
  readonly label: string
  /** Of all files; to two seconds, from 1980 on, taken as UTC. */
  readonly modified: Date
}

/** Makes the volume. @throws RangeError where it does not fit, or is too small or too large for FAT16 */
export function makeFat16(entries: readonly NewEntry[], options: Fat16Options): ImagePiece[] {
  return new Fat16Writer(options).write(entries)
}

class Fat16Writer {
  readonly #options: Fat16Options
  readonly #totalSectors: number
  readonly #fatSectors: number
  readonly #clusters: number
  readonly #fat: Uint16Array
  readonly #pieces: ImagePiece[] = []
  #nextCluster = 2

  constructor(options: Fat16Options) {
    this.#options = options
    this.#totalSectors = options.volumeBytes / sectorBytes
    const rootSectors = (rootEntries * entryBytes) / sectorBytes
    // "FAT Data Structure": as many entries as clusters, and the two first ones; a sector too many does no harm.
    this.#fatSectors = Math.ceil(((this.#totalSectors / sectorsPerCluster + 2) * 2) / sectorBytes)
    this.#clusters = Math.floor(
      (this.#totalSectors - reservedSectors - 2 * this.#fatSectors - rootSectors) / sectorsPerCluster,
    )
    // "FAT Type Determination": by the number of clusters and nothing else.
    if (this.#clusters < 4085 || this.#clusters > 65_524)
      throw new RangeError(`a FAT16 volume cannot have ${this.#clusters} clusters`)
    this.#fat = new Uint16Array((this.#fatSectors * sectorBytes) / 2)
    this.#fat[0] = 0xfff8
    this.#fat[1] = endOfChain
  }

  write(entries: readonly NewEntry[]): ImagePiece[] {
    const fatBytes = this.#fatSectors * sectorBytes
    const rootAt = reservedSectors * sectorBytes + 2 * fatBytes
    const label = new Uint8Array(entryBytes)
    putText(label, 0, this.#options.label.padEnd(11))
    label[11] = 0x08
    this.#putTime(label)
    const root = join([label, ...this.#directoryEntries(entries, 0)])
    if (root.length > rootEntries * entryBytes) throw new RangeError('too many entries in the root directory')
    const fat = new Uint8Array(fatBytes)
    const view = new DataView(fat.buffer)
    this.#fat.forEach((value, i) => void view.setUint16(2 * i, value, true))
    return [
      { offset: 0, bytes: this.#bootSector() },
      { offset: reservedSectors * sectorBytes, bytes: fat },
      { offset: reservedSectors * sectorBytes + fatBytes, bytes: fat.slice() },
      { offset: rootAt, bytes: root },
      ...this.#pieces,
    ]
  }

  /** "Boot Sector and BPB Structure". */
  #bootSector(): Uint8Array {
    const { hiddenSectors, label } = this.#options
    const sector = new Uint8Array(sectorBytes)
    const view = new DataView(sector.buffer)
    sector.set([0xeb, 0x3c, 0x90])
    putText(sector, 3, 'MSWIN4.1')
    view.setUint16(11, sectorBytes, true)
    sector[13] = sectorsPerCluster
    view.setUint16(14, reservedSectors, true)
    sector[16] = 2
    view.setUint16(17, rootEntries, true)
    const isSmall = this.#totalSectors < 65_536
    view.setUint16(19, isSmall ? this.#totalSectors : 0, true)
    sector[21] = 0xf8
    view.setUint16(22, this.#fatSectors, true)
    view.setUint16(24, 63, true)
    view.setUint16(26, 255, true)
    view.setUint32(28, hiddenSectors, true)
    view.setUint32(32, isSmall ? 0 : this.#totalSectors, true)
    sector[36] = 0x80
    sector[38] = 0x29
    view.setUint32(39, 0x5553_4831, true)
    putText(sector, 43, label.padEnd(11))
    putText(sector, 54, 'FAT16   ')
    view.setUint16(510, 0xaa55, true)
    return sector
  }

  /** "FAT Directory Structure": 32 bytes an entry, long names in entries before the short one. */
  #directoryEntries(entries: readonly NewEntry[], parent: number): Uint8Array[] {
    const shortNames = new Set<string>()
    return entries.flatMap(({ name, content }) => {
      const isFolder = !(content instanceof Uint8Array)
      const short = shortName(name, shortNames)
      const first = isFolder ? this.#writeFolder(content, parent) : this.#store(content)
      const entry = new Uint8Array(entryBytes)
      const view = new DataView(entry.buffer)
      putText(entry, 0, short)
      entry[11] = isFolder ? 0x10 : 0x20
      this.#putTime(entry)
      view.setUint16(26, first, true)
      view.setUint32(28, isFolder ? 0 : content.length, true)
      return [...longNameEntries(name, short), entry]
    })
  }

  #writeFolder(entries: readonly NewEntry[], parent: number): number {
    // Its own number stands in its first entry, so its clusters are taken before its content is known.
    const count = entries.reduce((sum, { name }) => sum + 1 + Math.ceil(name.length / 13), 2)
    const first = this.#allocate(count * entryBytes)
    const dots = [
      ['.', first],
      ['..', parent],
    ] as const
    const own = dots.map(([name, cluster]) => {
      const entry = new Uint8Array(entryBytes)
      putText(entry, 0, name.padEnd(11))
      entry[11] = 0x10
      this.#putTime(entry)
      new DataView(entry.buffer).setUint16(26, cluster, true)
      return entry
    })
    this.#put(first, join([...own, ...this.#directoryEntries(entries, first)]))
    return first
  }

  /** Returns the first cluster; 0 for an empty file. */
  #store(content: Uint8Array): number {
    if (content.length === 0) return 0
    const first = this.#allocate(content.length)
    this.#put(first, content)
    return first
  }

  #allocate(bytes: number): number {
    const first = this.#nextCluster
    const count = Math.ceil(bytes / clusterBytes)
    if (first + count > this.#clusters + 2) throw new RangeError('the files do not fit into the volume')
    for (let i = 0; i < count; i++) this.#fat[first + i] = i === count - 1 ? endOfChain : first + i + 1
    this.#nextCluster += count
    return first
  }

  #put(cluster: number, bytes: Uint8Array): void {
    const dataAt = (reservedSectors + 2 * this.#fatSectors) * sectorBytes + rootEntries * entryBytes
    this.#pieces.push({ offset: dataAt + (cluster - 2) * clusterBytes, bytes })
  }

  #putTime(entry: Uint8Array): void {
    const { modified } = this.#options
    const view = new DataView(entry.buffer, entry.byteOffset)
    const time =
      (modified.getUTCHours() << 11) | (modified.getUTCMinutes() << 5) | (modified.getUTCSeconds() >> 1)
    const date =
      ((modified.getUTCFullYear() - 1980) << 9) | ((modified.getUTCMonth() + 1) << 5) | modified.getUTCDate()
    for (const [timeAt, dateAt] of [
      [14, 16],
      [22, 24],
    ] as const) {
      view.setUint16(timeAt, time, true)
      view.setUint16(dateAt, date, true)
    }
  }
}

function putText(into: Uint8Array, at: number, text: string): void {
  into.set(new TextEncoder().encode(text), at)
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** Eleven characters: 'READ-M~1TXT'. "Short names" are unique in their directory. */
function shortName(name: string, taken: Set<string>): string {
  const dot = name.lastIndexOf('.')
  const clean = (text: string) => text.toUpperCase().replace(/[^A-Z0-9_-]/g, '')
  const stem = clean(dot > 0 ? name.slice(0, dot) : name)
  const ending = clean(dot > 0 ? name.slice(dot + 1) : '').slice(0, 3)
  for (let number = 1; ; number++) {
    const tail = `~${number}`
    const short = (stem.slice(0, 8 - tail.length) + tail).padEnd(8) + ending.padEnd(3)
    if (taken.has(short)) continue
    taken.add(short)
    return short
  }
}

/** "Long Directory Entries": last part first, 13 UTF-16 units each, with a checksum of the short name. */
function longNameEntries(name: string, short: string): Uint8Array[] {
  let checksum = 0
  for (let i = 0; i < 11; i++)
    checksum = (((checksum & 1) << 7) + (checksum >> 1) + short.charCodeAt(i)) & 0xff
  const count = Math.ceil(name.length / 13)
  const places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
  return Array.from({ length: count }, (_, i) => {
    const part = count - i
    const entry = new Uint8Array(entryBytes)
    const view = new DataView(entry.buffer)
    entry[0] = i === 0 ? part | 0x40 : part
    entry[11] = 0x0f
    entry[13] = checksum
    places.forEach((place, j) => {
      const at = (part - 1) * 13 + j
      const unit = at < name.length ? name.charCodeAt(at) : at === name.length ? 0 : 0xffff
      view.setUint16(place, unit, true)
    })
    return entry
  })
}
