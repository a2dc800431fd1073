// Partitions of a disk: the table of the master boot record with its logical partitions, and GUID partition tables (UEFI
// Specification, "GUID Partition Table (GPT) Disk Layout").

import { type Volume, viewOf } from './file-system.ts'
import { gptTypeName, mbrTypeName } from './partition-types.ts'

export interface Partition {
  /** As Linux counts: logical ones from 5 on; 0 for a disk without a table. */
  readonly number: number
  /** Bytes. */
  readonly start: number
  readonly length: number
  /** For people: 'Linux', 'EFI system', ... */
  readonly type: string
  /** Of GPT; '' where there is none. */
  readonly name: string
  readonly bootable: boolean
}

export interface PartitionTable {
  readonly scheme: 'MBR' | 'GPT' | 'none'
  readonly partitions: readonly Partition[]
  /** What is wrong with the table, for people. */
  readonly notes: readonly string[]
}

const sectorBytes = 512
const maxLogical = 128
const extendedTypes = new Set([0x05, 0x0f, 0x85])

/** Reads the table. A disk without one has a single entry of number 0: itself. */
export async function readPartitionTable(disk: Volume): Promise<PartitionTable> {
  const whole = { number: 0, start: 0, length: disk.size, type: 'whole disk', name: '', bootable: false }
  const none: PartitionTable = { scheme: 'none', partitions: [whole], notes: [] }
  if (disk.size < sectorBytes) return none
  const sector = await viewOf(disk, 0, sectorBytes)
  if (sector.getUint16(510, true) !== 0xaa55) return none
  const primary = mbrEntries(sector)
  if (primary.some(({ type }) => type === 0xee)) {
    const gpt = await readGpt(disk)
    if (gpt !== undefined) return gpt
  }
  // A boot sector of a volume without a table has the same signature, and code or text where the table would be.
  const isTable =
    primary.length > 0 &&
    primary.every(({ status, start, sectors }) => {
      const end = (start + sectors) * sectorBytes
      return (status === 0 || status === 0x80) && start > 0 && sectors > 0 && end <= disk.size + 1024 * 1024
    })
  if (!isTable) return none
  const partitions: Partition[] = []
  for (const entry of primary) {
    partitions.push(partitionOf(entry, entry.index + 1))
    if (extendedTypes.has(entry.type)) partitions.push(...(await logicalPartitions(disk, entry.start)))
  }
  return { scheme: 'MBR', partitions, notes: [] }
}

interface MbrEntry {
  readonly index: number
  readonly status: number
  readonly type: number
  /** Sectors. */
  readonly start: number
  readonly sectors: number
}

function mbrEntries(sector: DataView): MbrEntry[] {
  const entries: MbrEntry[] = []
  for (let index = 0; index < 4; index++) {
    const at = 446 + 16 * index
    const type = sector.getUint8(at + 4)
    if (type === 0) continue
    entries.push({
      index,
      status: sector.getUint8(at),
      type,
      start: sector.getUint32(at + 8, true),
      sectors: sector.getUint32(at + 12, true),
    })
  }
  return entries
}

function partitionOf({ status, type, start, sectors }: MbrEntry, number: number): Partition {
  return {
    number,
    start: start * sectorBytes,
    length: sectors * sectorBytes,
    type: mbrTypeName(type),
    name: '',
    bootable: status === 0x80,
  }
}

/** A chain of tables with one partition and one link each. */
async function logicalPartitions(disk: Volume, extended: number): Promise<Partition[]> {
  const found: Partition[] = []
  let table = extended
  while (found.length < maxLogical && (table + 1) * sectorBytes <= disk.size) {
    const sector = await viewOf(disk, table * sectorBytes, sectorBytes)
    if (sector.getUint16(510, true) !== 0xaa55) break
    const entries = mbrEntries(sector)
    const own = entries.find(({ type }) => !extendedTypes.has(type))
    if (own !== undefined) found.push(partitionOf({ ...own, start: table + own.start }, 5 + found.length))
    const link = entries.find(({ type }) => extendedTypes.has(type))
    const next = link === undefined ? 0 : extended + link.start
    // Links go forwards; one that does not would be a circle.
    if (next <= table) break
    table = next
  }
  return found
}

async function readGpt(disk: Volume): Promise<PartitionTable | undefined> {
  const first = await readGptAt(disk, 1)
  if (first !== undefined) return { scheme: 'GPT', partitions: first, notes: [] }
  const backup = await readGptAt(disk, Math.floor(disk.size / sectorBytes) - 1)
  if (backup === undefined) return undefined
  return { scheme: 'GPT', partitions: backup, notes: ['The first table is damaged; this is its copy.'] }
}

async function readGptAt(disk: Volume, sector: number): Promise<Partition[] | undefined> {
  if ((sector + 1) * sectorBytes > disk.size) return undefined
  const header = await viewOf(disk, sector * sectorBytes, sectorBytes)
  if (header.getBigUint64(0, false) !== 0x4546_4920_5041_5254n) return undefined
  const headerBytes = header.getUint32(12, true)
  const [count, entryBytes] = [header.getUint32(80, true), header.getUint32(84, true)]
  const tableAt = Number(header.getBigUint64(72, true)) * sectorBytes
  if (headerBytes < 92 || headerBytes > sectorBytes || entryBytes < 128 || entryBytes > 4096 || count > 1024)
    return undefined
  if (tableAt + count * entryBytes > disk.size) return undefined
  const checked = new Uint8Array(header.buffer.slice(0, headerBytes))
  checked.fill(0, 16, 20)
  if (crc32(checked) !== header.getUint32(16, true)) return undefined
  const table = await viewOf(disk, tableAt, count * entryBytes)
  if (crc32(new Uint8Array(table.buffer)) !== header.getUint32(88, true)) return undefined
  const partitions: Partition[] = []
  for (let i = 0; i < count; i++) {
    const at = i * entryBytes
    const type = guid(table, at)
    if (/^[0-]+$/.test(type)) continue
    const start = Number(table.getBigUint64(at + 32, true))
    const last = Number(table.getBigUint64(at + 40, true))
    partitions.push({
      number: i + 1,
      start: start * sectorBytes,
      length: Math.max(0, last - start + 1) * sectorBytes,
      type: gptTypeName(type),
      name: new TextDecoder('utf-16le')
        .decode(new Uint8Array(table.buffer, at + 56, 72))
        .replace(/\0.*$/s, ''),
      bootable: (table.getUint8(at + 48) & 4) !== 0,
    })
  }
  return partitions
}

/** Mixed-endian, as UEFI has it ("EFI GUID"). */
function guid(view: DataView, at: number): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0')
  const tail = Array.from({ length: 8 }, (_, i) => hex(view.getUint8(at + 8 + i), 2)).join('')
  return [
    hex(view.getUint32(at, true), 8),
    hex(view.getUint16(at + 4, true), 4),
    hex(view.getUint16(at + 6, true), 4),
    tail.slice(0, 4),
    tail.slice(4),
  ].join('-')
}

/** ISO 3309, reflected: of headers and tables of a few KiB. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0xedb8_8320)
  }
  return ~crc >>> 0
}
