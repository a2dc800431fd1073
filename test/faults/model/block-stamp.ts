// What a block says of itself: which file and place it was written for, by which write, and a checksum over all of it. A
// block of 512 bytes is what a disk writes as a whole, so a stamp is there in full or not at all.
//   0 magic | 4 file | 8 block | 12 sequence number | 16..507 filler made from these | 508 checksum

export const blockBytes = 512
const magic = 0x5b10c4d5

export interface Stamp {
  readonly file: number
  readonly block: number
  readonly sequence: number
}

export type Content =
  | { readonly kind: 'stamp'; readonly stamp: Stamp }
  | { readonly kind: 'zeros' }
  | { readonly kind: 'broken'; readonly why: string }

/** Fills `blocks` whole blocks of `into` for one write. */
export function stampBlocks(into: Uint8Array, file: number, firstBlock: number, sequence: number): void {
  for (let at = 0; at < into.length; at += blockBytes) {
    stampBlock(into.subarray(at, at + blockBytes), {
      file,
      block: firstBlock + at / blockBytes,
      sequence,
    })
  }
}

function stampBlock(into: Uint8Array, { file, block, sequence }: Stamp): void {
  const view = new DataView(into.buffer, into.byteOffset, blockBytes)
  view.setUint32(0, magic)
  view.setUint32(4, file)
  view.setUint32(8, block)
  view.setUint32(12, sequence)
  let word = fillerSeed(file, block, sequence)
  let sum = word
  for (let at = 16; at < 508; at += 4) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0
    view.setUint32(at, word)
    sum = (Math.imul(sum, 31) + word) >>> 0
  }
  view.setUint32(508, sum)
}

function fillerSeed(file: number, block: number, sequence: number): number {
  return (
    (Math.imul(file + 1, 0x9e3779b1) ^
      Math.imul(block + 1, 0x85ebca77) ^
      Math.imul(sequence + 1, 0xc2b2ae3d)) >>>
    0
  )
}

/** What a block of 512 bytes holds. */
export function readBlock(block: Uint8Array): Content {
  const view = new DataView(block.buffer, block.byteOffset, blockBytes)
  if (view.getUint32(0) !== magic) {
    for (let at = 0; at < blockBytes; at += 4) {
      if (view.getUint32(at) !== 0)
        return { kind: 'broken', why: `no block was ever written that starts with ${hex(block)}` }
    }
    return { kind: 'zeros' }
  }
  const stamp: Stamp = { file: view.getUint32(4), block: view.getUint32(8), sequence: view.getUint32(12) }
  let word = fillerSeed(stamp.file, stamp.block, stamp.sequence)
  let sum = word
  for (let at = 16; at < 508; at += 4) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0
    if (view.getUint32(at) !== word)
      return { kind: 'broken', why: `a block of write ${stamp.sequence} is torn at byte ${at}` }
    sum = (Math.imul(sum, 31) + word) >>> 0
  }
  if (view.getUint32(508) !== sum)
    return { kind: 'broken', why: `a block of write ${stamp.sequence} has the wrong checksum` }
  return { kind: 'stamp', stamp }
}

function hex(bytes: Uint8Array): string {
  return [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
}
