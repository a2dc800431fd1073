// aes128-gcm@openssh.com and aes256-gcm@openssh.com: RFC 5647's packets, under names that OpenSSH negotiates as ciphers that
// bring their own MAC (OpenSSH PROTOCOL, "transport: aes-gcm"). packet_length travels in clear as the additional data; the
// 16-byte tag follows the ciphertext. Keys are copied; payloads are views of an array that is valid until the next `open`.
// On WebCrypto open and seal return promises, and several packets are under way at once.

import type { AesGcm, CryptoProvider } from '../crypto/provider.ts'
import { IntegrityError, UsageError } from '../errors.ts'
import { readU32 } from '../wire/bytes.ts'
import type { CipherSuite, DirectionKeys, Opener, Sealer } from './cipher.ts'
import { checkPacketLength, lengthFieldBytes, payloadOf } from './frame.ts'

const blockSize = 16
const tagLength = 16
const nonceLength = 12
const asyncLookahead = 8

/**
 * The nonce of RFC 5647 s7.1: 4 bytes fixed, then a 64-bit invocation counter that goes up by one per packet. Both start from
 * the derived IV. It never repeats under one key: the packet layer rekeys long before 2^64 packets.
 */
class InvocationNonce {
  readonly bytes: Uint8Array

  constructor(iv: Uint8Array) {
    this.bytes = iv.slice(0, nonceLength)
  }

  /** Adds one to the counter, modulo 2^64. */
  increment(): void {
    for (let i = nonceLength - 1; i >= 4; i--) {
      const digit = (this.bytes[i]! + 1) & 0xff
      this.bytes[i] = digit
      if (digit !== 0) return
    }
  }
}

/** Key, nonce and cipher of one direction; what opener and sealer share. */
class GcmDirection {
  readonly nonce: InvocationNonce
  readonly #key: Uint8Array
  #gcm: AesGcm | undefined

  constructor(crypto: CryptoProvider, keys: DirectionKeys) {
    this.#key = keys.key.slice()
    this.nonce = new InvocationNonce(keys.iv)
    this.#gcm = crypto.aesGcm(this.#key)
  }

  /** Throws UsageError once destroyed: a wiped key must not seal anything. */
  get gcm(): AesGcm {
    if (this.#gcm === undefined) throw new UsageError('this cipher was destroyed')
    return this.#gcm
  }

  destroy(): void {
    this.#gcm = undefined
    this.#key.fill(0)
    this.nonce.bytes.fill(0)
  }
}

class AesGcmOpener implements Opener {
  readonly headerLength = lengthFieldBytes
  readonly lookahead: number
  readonly #direction: GcmDirection

  constructor(crypto: CryptoProvider, keys: DirectionKeys) {
    this.#direction = new GcmDirection(crypto, keys)
    this.lookahead = this.#direction.gcm.async ? asyncLookahead : 1
  }

  sealedLength(bytes: Uint8Array, at: number): number {
    const packetLength = readU32(bytes, at)
    checkPacketLength(packetLength, blockSize, false)
    return lengthFieldBytes + packetLength + tagLength
  }

  open(sealed: Uint8Array, sequence: number): Uint8Array | Promise<Uint8Array> {
    const { gcm, nonce } = this.#direction
    const body = gcm.open(
      nonce.bytes,
      sealed.subarray(0, lengthFieldBytes),
      sealed.subarray(lengthFieldBytes),
    )
    nonce.increment()
    if (body === undefined || body instanceof Uint8Array) return authenticPayload(body, sequence)
    return body.then((opened) => authenticPayload(opened, sequence))
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

function authenticPayload(body: Uint8Array | undefined, sequence: number): Uint8Array {
  if (body === undefined) throw new IntegrityError(sequence)
  return payloadOf(body)
}

class AesGcmSealer implements Sealer {
  readonly blockSize = blockSize
  readonly lengthInBlock = false
  readonly tagLength = tagLength
  readonly #direction: GcmDirection

  constructor(crypto: CryptoProvider, keys: DirectionKeys) {
    this.#direction = new GcmDirection(crypto, keys)
  }

  seal(packet: Uint8Array): void | Promise<void> {
    const { gcm, nonce } = this.#direction
    const sealing = gcm.sealInPlace(
      nonce.bytes,
      packet.subarray(0, lengthFieldBytes),
      packet.subarray(lengthFieldBytes),
    )
    nonce.increment()
    return sealing
  }

  destroy(): void {
    this.#direction.destroy()
  }
}

/** The suite of an AES-GCM cipher with a key of `keyLength` bytes (16 or 32). */
export function aesGcmSuite(crypto: CryptoProvider, name: string, keyLength: number): CipherSuite {
  return {
    name,
    ivLength: nonceLength,
    keyLength,
    macKeyLength: 0,
    opener: (keys) => new AesGcmOpener(crypto, keys),
    sealer: (keys) => new AesGcmSealer(crypto, keys),
  }
}
