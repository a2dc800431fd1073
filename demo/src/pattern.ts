// The bytes of the demo: every block tells where it belongs and which round wrote it, so a block in the wrong place, an old
// one, or a torn one is seen.

export const blockBytes = 4096

/** Fills `into` (whole blocks) with the pattern of `round` for the blocks that start at byte `offset`. */
export function fillPattern(into: Uint8Array, offset: number, seed: number, round: number): void {
  const words = new Uint32Array(into.buffer, into.byteOffset, into.byteLength / 4)
  for (let at = 0; at < words.length; at += blockBytes / 4) {
    const block = offset / blockBytes + (at * 4) / blockBytes
    let state =
      (Math.imul(block + 1, 0x9e37_79b1) ^
        Math.imul(seed + 1, 0x85eb_ca6b) ^
        Math.imul(round + 1, 0xc2b2_ae35)) >>>
        0 || 1
    for (let i = 0; i < blockBytes / 4; i++) {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      words[at + i] = state
    }
  }
}

/** Random block-aligned places, each block at most once, inside `size`. */
export function randomPlaces(count: number, size: number, seed: number): number[] {
  const blocks = size / blockBytes
  const chosen = new Set<number>()
  let state = seed + 12_345
  while (chosen.size < Math.min(count, Math.floor(blocks / 2))) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    chosen.add(Math.floor((state / 2 ** 32) * blocks))
  }
  return [...chosen].map((block) => block * blockBytes)
}
