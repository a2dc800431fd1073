// chacha20-poly1305@openssh.com (OpenSSH PROTOCOL.chacha20poly1305; draft-ietf-sshm-chacha20-poly1305).
// Two ChaCha20 keys: K_2, the first half of the key, for the body and the Poly1305 key; K_1, the second half, for
// packet_length alone, which is thereby hidden but known before the packet is whole. The nonce is the sequence number.
// The tag covers the encrypted length and body and is checked before the body is decrypted. Keys are copied; payloads are
// views of the packet, decrypted in place.

import type { CryptoProvider } from '../crypto/provider.ts'
import { IntegrityError, UsageError } from '../errors.ts'
import { readU32, writeU32 } from '../wire/bytes.ts'
import type { CipherSuite, DirectionKeys, Opener, Sealer } from './cipher.ts'
import { checkPacketLength, lengthFieldBytes, payloadOf } from './frame.ts'

const keyBytes = 32
const tagLength = 16
/** PROTOCOL.chacha20poly1305, "Negotiation": padding goes to multiples of 8, as without a block cipher. */
const blockSize = 8

/** The keys of one direction and the buffers every packet needs; what opener and sealer share. */
class ChaChaDirection {
  readonly #crypto: CryptoProvider
  readonly #keys: Uint8Array
  readonly #bodyKey: Uint8Array
  readonly #lengthKey: Uint8Array
  readonly #nonce = new Uint8Array(8)
  readonly #polyKey = new Uint8Array(keyBytes)
  #destroyed = false

  constructor(crypto: CryptoProvider, keys: DirectionKeys) {
    this.#crypto = crypto
    this.#keys = keys.key.slice()
    this.#bodyKey = this.#keys.subarray(0, keyBytes)
    this.#lengthKey = this.#keys.subarray(keyBytes)
  }

  /** Sets the nonce: the sequence number as a big-endian u64. */
  #use(sequence: number): void {
    if (this.#destroyed) throw new UsageError('this cipher was destroyed')
    writeU32(this.#nonce, 4, sequence)
  }

  /** En- or decrypts a packet_length field in place. */
  cryptLength(field: Uint8Array, sequence: number): void {
    this.#use(sequence)
    this.#crypto.chacha20InPlace(this.#lengthKey, this.#nonce, 0, field)
  }

  /** En- or decrypts a body in place: block 0 of its key stream is the Poly1305 key's, so it starts at block 1. */
  cryptBody(body: Uint8Array, sequence: number): void {
    this.#use(sequence)
    this.#crypto.chacha20InPlace(this.#bodyKey, this.#nonce, 1, body)
  }

  /** Poly1305 of the encrypted length and body. */
  tag(encrypted: Uint8Array, sequence: number): Uint8Array {
    this.#use(sequence)
    this.#polyKey.fill(0)
    this.#crypto.chacha20InPlace(this.#bodyKey, this.#nonce, 0, this.#polyKey)
    return this.#crypto.poly1305(this.#polyKey, encrypted)
  }

  destroy(): void {
    this.#destroyed = true
    this.#keys.fill(0)
    this.#polyKey.fill(0)
  }
}

class ChaChaOpener implements Opener {
  readonly headerLength = lengthFieldBytes
  readonly lookahead = 1
  readonly #crypto: CryptoProvider
  readonly #direction: ChaChaDirection
  readonly #length = new Uint8Array(lengthFieldBytes)

  constructor(crypto: CryptoProvider, keys: DirectionKeys) {
    this.#crypto = crypto
    this.#direction = new ChaChaDirection(crypto, keys)
  }

  sealedLength(bytes: Uint8Array, at: number, sequence: number): number {
    // A copy is decrypted: the tag is over the field as it came.
    this.#length.set(bytes.subarray(at, at + lengthFieldBytes))
    this.#direction.cryptLength(this.#length, sequence)
    const packetLength = readU32(this.#length, 0)
    checkPacketLength(packetLength, blockSize, false)
    return lengthFieldBytes + packetLength + tagLength
  }

  open(sealed: Uint8Array, sequence: number): Uint8Array {
    const end = sealed.length - tagLength
    const expected = this.#direction.tag(sealed.subarray(0, end), sequence)
    if (!this.#crypto.timingSafeEqual(expected, sealed.subarray(end))) throw new IntegrityError(sequence)
    const body = sealed.subarray(lengthFieldBytes, end)
    this.#direction.cryptBody(body, sequence)
    return payloadOf(body)
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

class ChaChaSealer implements Sealer {
  readonly blockSize = blockSize
  readonly lengthInBlock = false
  readonly tagLength = tagLength
  readonly #direction: ChaChaDirection

  constructor(crypto: CryptoProvider, keys: DirectionKeys) {
    this.#direction = new ChaChaDirection(crypto, keys)
  }

  seal(packet: Uint8Array, sequence: number): void {
    const end = packet.length - tagLength
    this.#direction.cryptLength(packet.subarray(0, lengthFieldBytes), sequence)
    this.#direction.cryptBody(packet.subarray(lengthFieldBytes, end), sequence)
    packet.set(this.#direction.tag(packet.subarray(0, end), sequence), end)
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

/** The suite of chacha20-poly1305@openssh.com. */
export function chacha20Poly1305Suite(crypto: CryptoProvider, name: string): CipherSuite {
  return {
    name,
    ivLength: 0,
    keyLength: 2 * keyBytes,
    macKeyLength: 0,
    opener: (keys) => new ChaChaOpener(crypto, keys),
    sealer: (keys) => new ChaChaSealer(crypto, keys),
  }
}
