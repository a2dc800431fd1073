// Bytes that both sides of a test can make, and digests of them: piece by piece, because WebCrypto digests no stream.

export const pieceBytes = 1024 * 1024

/** Fills with bytes that depend on seed and position alone. */
export function fillNoise(into: Uint8Array<ArrayBuffer>, seed: number): void {
  const words = new Uint32Array(into.buffer, into.byteOffset, into.length >>> 2)
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1
  for (let i = 0; i < words.length; i++) {
    // xorshift32
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  for (let i = words.length * 4; i < into.length; i++) into[i] = state >>> 3
}

/** The file of a seed as pieces of 1 MiB. */
export function* noisePieces(seed: number, bytes: number): Generator<Uint8Array<ArrayBuffer>> {
  for (let at = 0, piece = 0; at < bytes; at += pieceBytes, piece++) {
    const into = new Uint8Array(Math.min(pieceBytes, bytes - at))
    fillNoise(into, seed + piece)
    yield into
  }
}

/** SHA-256 over the SHA-256 of each 1 MiB: pieces may come in any split, in order. */
export class PieceDigest {
  readonly #digests: Promise<ArrayBuffer>[] = []
  readonly #digest: (bytes: Uint8Array<ArrayBuffer>) => Promise<ArrayBuffer>
  #piece = new Uint8Array(pieceBytes)
  #filled = 0
  bytes = 0

  constructor(digest: (bytes: Uint8Array<ArrayBuffer>) => Promise<ArrayBuffer>) {
    this.#digest = digest
  }

  add(chunk: Uint8Array): void {
    this.bytes += chunk.length
    for (let at = 0; at < chunk.length; ) {
      const count = Math.min(pieceBytes - this.#filled, chunk.length - at)
      this.#piece.set(chunk.subarray(at, at + count), this.#filled)
      this.#filled += count
      at += count
      if (this.#filled === pieceBytes) this.#finishPiece()
    }
  }

  async hex(): Promise<string> {
    if (this.#filled > 0) this.#finishPiece()
    const all = await Promise.all(this.#digests)
    const joined = new Uint8Array(all.length * 32)
    all.forEach((digest, i) => void joined.set(new Uint8Array(digest), i * 32))
    const whole = new Uint8Array(await this.#digest(joined))
    return [...whole].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  }

  #finishPiece(): void {
    this.#digests.push(this.#digest(this.#piece.slice(0, this.#filled)))
    this.#filled = 0
  }
}

export async function noiseDigest(
  seed: number,
  bytes: number,
  digest: (bytes: Uint8Array<ArrayBuffer>) => Promise<ArrayBuffer>,
): Promise<string> {
  const all = new PieceDigest(digest)
  for (const piece of noisePieces(seed, bytes)) all.add(piece)
  return all.hex()
}
