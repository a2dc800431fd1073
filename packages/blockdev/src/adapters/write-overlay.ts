// Sectors that were written and are not on the device yet: a copy-on-write overlay. Pages of 4 KiB with a bit a sector, so
// that a written sector needs nothing read around it. `freeze` sets what is there aside, to be sent while new writes go on
// above it. Pure memory: no promises.

const sectorBytes = 512
const pageBytes = 4096
const sectorsPerPage = pageBytes / sectorBytes

interface Page {
  readonly bytes: Uint8Array
  /** Bit i: sector i was written. */
  written: number
}

/** A stretch of written sectors. */
export interface WrittenRun {
  readonly offset: number
  readonly length: number
}

export class WriteOverlay {
  #pages = new Map<number, Page>()
  #sectors = 0

  /** Bytes written and held. */
  get bytes(): number {
    return this.#sectors * sectorBytes
  }

  /** Keeps a copy. Offset and length are multiples of 512. */
  write(offset: number, from: Uint8Array): void {
    for (let at = 0; at < from.length; ) {
      const number = Math.floor((offset + at) / pageBytes)
      const inPage = (offset + at) % pageBytes
      const length = Math.min(pageBytes - inPage, from.length - at)
      let page = this.#pages.get(number)
      if (page === undefined) {
        page = { bytes: new Uint8Array(pageBytes), written: 0 }
        this.#pages.set(number, page)
      }
      page.bytes.set(from.subarray(at, at + length), inPage)
      const firstSector = inPage / sectorBytes
      for (let sector = firstSector; sector < firstSector + length / sectorBytes; sector++)
        this.#mark(page, sector)
      at += length
    }
  }

  /** Puts what was written over `into`, which holds the bytes from `offset` on. Any alignment. */
  apply(offset: number, into: Uint8Array): void {
    if (this.#pages.size === 0) return
    this.#each(offset, into.length, (page, from, to, at) => {
      into.set(page.bytes.subarray(from, to), at - offset)
    })
  }

  /** Whether every byte of the range was written. */
  covers(offset: number, length: number): boolean {
    let covered = 0
    this.#each(offset, length, (_page, from, to) => {
      covered += to - from
    })
    return covered === length
  }

  /** Stretches of written sectors in order, none longer than `maxBytes`. */
  runs(maxBytes: number): WrittenRun[] {
    const runs: { offset: number; length: number }[] = []
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const { written } = this.#pages.get(number)!
      for (let sector = 0; sector < sectorsPerPage; sector++) {
        if ((written & (1 << sector)) === 0) continue
        const offset = number * pageBytes + sector * sectorBytes
        const last = runs.at(-1)
        if (last !== undefined && last.offset + last.length === offset && last.length < maxBytes)
          last.length += sectorBytes
        else runs.push({ offset, length: sectorBytes })
      }
    }
    return runs
  }

  /** Takes in what another one holds, where this one has nothing newer. */
  putBelow(older: WriteOverlay): void {
    for (const [number, page] of older.#pages) {
      const mine = this.#pages.get(number)
      if (mine === undefined) {
        this.#pages.set(number, page)
        this.#sectors += bits(page.written)
        continue
      }
      for (let sector = 0; sector < sectorsPerPage; sector++) {
        if ((page.written & ~mine.written & (1 << sector)) === 0) continue
        const at = sector * sectorBytes
        mine.bytes.set(page.bytes.subarray(at, at + sectorBytes), at)
        this.#mark(mine, sector)
      }
    }
  }

  #mark(page: Page, sector: number): void {
    if ((page.written & (1 << sector)) !== 0) return
    page.written |= 1 << sector
    this.#sectors++
  }

  /** Every written stretch inside the range: its page, from where to where in it, and where that is on the device. */
  #each(
    offset: number,
    length: number,
    visit: (page: Page, from: number, to: number, at: number) => void,
  ): void {
    const end = offset + length
    for (let number = Math.floor(offset / pageBytes); number * pageBytes < end; number++) {
      const page = this.#pages.get(number)
      if (page === undefined) continue
      const base = number * pageBytes
      for (let sector = 0; sector < sectorsPerPage; sector++) {
        if ((page.written & (1 << sector)) === 0) continue
        const from = Math.max(sector * sectorBytes, offset - base)
        const to = Math.min((sector + 1) * sectorBytes, end - base)
        if (from < to) visit(page, from, to, base + from)
      }
    }
  }
}

function bits(value: number): number {
  let count = 0
  for (let rest = value; rest !== 0; rest &= rest - 1) count++
  return count
}
