// aes128/192/256-ctr (RFC 4344 s4) with an HMAC, in the two orders SSH knows:
// - encrypt-and-MAC (RFC 4253 s6.4): packet_length is encrypted with the rest, the MAC is over the plaintext. The first block
//   is decrypted to learn the length, before anything is authenticated; CTR makes that harmless where CBC was not.
// - encrypt-then-MAC (OpenSSH PROTOCOL, "transport: New MAC algorithms"): packet_length in clear, the MAC over it and the
//   ciphertext, checked before anything is decrypted.
// The counter runs on from packet to packet. Keys are copied; payloads are views of the packet, decrypted in place.

import type { CryptoProvider, Mac, StreamCipher } from '../crypto/provider.ts'
import { IntegrityError, UsageError } from '../errors.ts'
import { readU32, writeU32 } from '../wire/bytes.ts'
import type { CipherSuite, DirectionKeys, Opener, Sealer } from './cipher.ts'
import { checkPacketLength, lengthFieldBytes, payloadOf } from './frame.ts'
import type { MacAlgorithm } from './macs.ts'

const blockSize = 16

/** Cipher and MAC of one direction; what openers and sealers share. */
class CtrDirection {
  readonly #crypto: CryptoProvider
  readonly #key: Uint8Array
  readonly #macKey: Uint8Array
  readonly #sequence = new Uint8Array(4)
  #cipher: StreamCipher | undefined
  readonly #mac: Mac

  constructor(crypto: CryptoProvider, algorithm: MacAlgorithm, keys: DirectionKeys) {
    this.#crypto = crypto
    this.#key = keys.key.slice()
    this.#macKey = keys.macKey.slice()
    this.#cipher = crypto.aesCtr(this.#key, keys.iv)
    this.#mac = crypto.hmac(algorithm.hash, this.#macKey)
  }

  /** En- or decrypts the next bytes of the stream in place. Throws UsageError once destroyed. */
  crypt(bytes: Uint8Array): void {
    if (this.#cipher === undefined) throw new UsageError('this cipher was destroyed')
    if (bytes.length > 0) this.#cipher.applyInPlace(bytes)
  }

  /** mac = MAC(key, sequence_number || packet) (RFC 4253 s6.4). */
  mac(packet: Uint8Array, sequence: number): Uint8Array {
    if (this.#cipher === undefined) throw new UsageError('this cipher was destroyed')
    writeU32(this.#sequence, 0, sequence)
    return this.#mac.compute(this.#sequence, packet)
  }

  /** Throws IntegrityError unless the MAC is the packet's. */
  checkMac(packet: Uint8Array, mac: Uint8Array, sequence: number): void {
    if (!this.#crypto.timingSafeEqual(this.mac(packet, sequence), mac)) throw new IntegrityError(sequence)
  }

  destroy(): void {
    this.#cipher = undefined
    this.#key.fill(0)
    this.#macKey.fill(0)
  }
}

class EncryptAndMacOpener implements Opener {
  readonly headerLength = blockSize
  readonly lookahead = 1
  readonly #direction: CtrDirection
  readonly #macLength: number

  constructor(direction: CtrDirection, macLength: number) {
    this.#direction = direction
    this.#macLength = macLength
  }

  sealedLength(bytes: Uint8Array, at: number): number {
    this.#direction.crypt(bytes.subarray(at, at + blockSize))
    const packetLength = readU32(bytes, at)
    checkPacketLength(packetLength, blockSize, true)
    return lengthFieldBytes + packetLength + this.#macLength
  }

  /** The first block is plaintext since sealedLength. */
  open(sealed: Uint8Array, sequence: number): Uint8Array {
    const end = sealed.length - this.#macLength
    this.#direction.crypt(sealed.subarray(blockSize, end))
    this.#direction.checkMac(sealed.subarray(0, end), sealed.subarray(end), sequence)
    return payloadOf(sealed.subarray(lengthFieldBytes, end))
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

class EncryptAndMacSealer implements Sealer {
  readonly blockSize = blockSize
  readonly lengthInBlock = true
  readonly tagLength: number
  readonly #direction: CtrDirection

  constructor(direction: CtrDirection, macLength: number) {
    this.#direction = direction
    this.tagLength = macLength
  }

  seal(packet: Uint8Array, sequence: number): void {
    const end = packet.length - this.tagLength
    const plaintext = packet.subarray(0, end)
    packet.set(this.#direction.mac(plaintext, sequence), end)
    this.#direction.crypt(plaintext)
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

class EncryptThenMacOpener implements Opener {
  readonly headerLength = lengthFieldBytes
  readonly lookahead = 1
  readonly #direction: CtrDirection
  readonly #macLength: number

  constructor(direction: CtrDirection, macLength: number) {
    this.#direction = direction
    this.#macLength = macLength
  }

  sealedLength(bytes: Uint8Array, at: number): number {
    const packetLength = readU32(bytes, at)
    checkPacketLength(packetLength, blockSize, false)
    return lengthFieldBytes + packetLength + this.#macLength
  }

  open(sealed: Uint8Array, sequence: number): Uint8Array {
    const end = sealed.length - this.#macLength
    this.#direction.checkMac(sealed.subarray(0, end), sealed.subarray(end), sequence)
    const body = sealed.subarray(lengthFieldBytes, end)
    this.#direction.crypt(body)
    return payloadOf(body)
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

class EncryptThenMacSealer implements Sealer {
  readonly blockSize = blockSize
  readonly lengthInBlock = false
  readonly tagLength: number
  readonly #direction: CtrDirection

  constructor(direction: CtrDirection, macLength: number) {
    this.#direction = direction
    this.tagLength = macLength
  }

  seal(packet: Uint8Array, sequence: number): void {
    const end = packet.length - this.tagLength
    this.#direction.crypt(packet.subarray(lengthFieldBytes, end))
    packet.set(this.#direction.mac(packet.subarray(0, end), sequence), end)
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

/** The suite of an AES-CTR cipher with a key of `keyLength` bytes (16, 24 or 32) and this MAC. */
export function aesCtrSuite(
  crypto: CryptoProvider,
  cipherName: string,
  keyLength: number,
  algorithm: MacAlgorithm,
): CipherSuite {
  const { macLength, encryptThenMac } = algorithm
  const OpenerOf = encryptThenMac ? EncryptThenMacOpener : EncryptAndMacOpener
  const SealerOf = encryptThenMac ? EncryptThenMacSealer : EncryptAndMacSealer
  return {
    name: `${cipherName}+${algorithm.name}`,
    ivLength: blockSize,
    keyLength,
    macKeyLength: algorithm.keyLength,
    opener: (keys) => new OpenerOf(new CtrDirection(crypto, algorithm, keys), macLength),
    sealer: (keys) => new SealerOf(new CtrDirection(crypto, algorithm, keys), macLength),
  }
}
