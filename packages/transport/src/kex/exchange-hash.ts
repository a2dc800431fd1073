import type { CryptoProvider, HashName } from '../crypto/provider.ts'
import { utf8Bytes } from '../wire/bytes.ts'
import { Writer } from '../wire/writer.ts'

/** What both sides hash to the exchange hash H (RFC 4253 s8, RFC 5656 s4, RFC 8731 s3). */
export interface ExchangeTranscript {
  /** Identification lines without CR LF. */
  clientIdentification: string
  serverIdentification: string
  /** Payloads of both KEXINITs. */
  clientKexInit: Uint8Array
  serverKexInit: Uint8Array
  hostKey: Uint8Array
  clientValue: Uint8Array
  serverValue: Uint8Array
  /** K with its encoding: mpint, or string for the hybrids. */
  encodedSecret: Uint8Array
}

export function exchangeHash(
  crypto: CryptoProvider,
  hash: HashName,
  transcript: ExchangeTranscript,
): Uint8Array {
  const writer = new Writer(4096)
  writer
    .string(utf8Bytes(transcript.clientIdentification))
    .string(utf8Bytes(transcript.serverIdentification))
    .string(transcript.clientKexInit)
    .string(transcript.serverKexInit)
    .string(transcript.hostKey)
    .string(transcript.clientValue)
    .string(transcript.serverValue)
    .raw(transcript.encodedSecret)
  const digest = crypto.digest(hash, writer.bytes())
  writer.buffer.fill(0)
  return digest
}
