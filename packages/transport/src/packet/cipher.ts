// The two halves of a packet cipher. One object per direction and key; both are replaced, never re-keyed.
// The packet layer knows no algorithm, and a cipher suite knows no message.

import type { MaybePromise } from '../crypto/provider.ts'

/** What the packet layer reads before a packet's end is known. */
export interface Opener {
  /** How many bytes must be there before `sealedLength` can tell. */
  readonly headerLength: number
  /** Packets that may be opened at once: 1 for synchronous ciphers, 8 where `open` returns promises. */
  readonly lookahead: number
  /**
   * Total bytes of the packet that starts at `at`: length field, body and tag. May decrypt the header in place, once:
   * it is called once per packet. Throws ProtocolError where packet_length breaks a limit (checked before anything is
   * allocated or waited for). `bytes` holds at least `headerLength` bytes from `at`.
   */
  sealedLength(bytes: Uint8Array, at: number, sequence: number): number
  /**
   * Opens a whole packet (the bytes that `sealedLength` counted). Returns the *payload*, padding checked and removed:
   * valid until the next `open`, or a view of `sealed` (valid until the bytes are released). Throws or rejects with IntegrityError /
   * ProtocolError.
   */
  open(sealed: Uint8Array, sequence: number): MaybePromise<Uint8Array>
  /** Wipes key material, best effort. */
  destroy(): void
}

export interface Sealer {
  /** Multiple to which padding fills up: the block size, at least 8 (RFC 4253 s6). */
  readonly blockSize: number
  /** Whether the 4-byte length field counts towards the block multiple (false for AEAD and encrypt-then-MAC). */
  readonly lengthInBlock: boolean
  /** Bytes appended after the padding (tag or MAC). */
  readonly tagLength: number
  /** Seals in place: [length | padding length | payload | padding | room for tag]. */
  seal(packet: Uint8Array, sequence: number): MaybePromise<void>
  /** Wipes key material, best effort. */
  destroy(): void
}

/** Keys of one direction, cut to the sizes the suite asked for (RFC 4253 s7.2). */
export interface DirectionKeys {
  iv: Uint8Array
  key: Uint8Array
  macKey: Uint8Array
}

/** A cipher with its MAC, as negotiated; makes openers and sealers. */
export interface CipherSuite {
  /** Name as negotiated, e.g. 'aes256-gcm@openssh.com' or 'aes256-ctr+hmac-sha2-256'. */
  readonly name: string
  readonly ivLength: number
  readonly keyLength: number
  readonly macKeyLength: number
  opener(keys: DirectionKeys): Opener
  sealer(keys: DirectionKeys): Sealer
}
