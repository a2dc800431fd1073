// The three curves of RFC 5656 s10.1 ("REQUIRED curves"), with what SSH fixes for each: name on the wire and hash (s6.2.1).

import type { CurveName, HashName } from '../crypto/provider.ts'
import { fromHex } from '../wire/bytes.ts'

export interface EcdsaCurve {
  /** Identifier on the wire (RFC 5656 s6.1). */
  readonly name: CurveName
  readonly keyType: 'ecdsa-sha2-nistp256' | 'ecdsa-sha2-nistp384' | 'ecdsa-sha2-nistp521'
  /** Bytes of a coordinate, and of r and s. */
  readonly fieldBytes: number
  /** Order of the group, n (FIPS 186-5, SEC 2). */
  readonly order: Uint8Array
  /** RFC 5656 s6.2.1: by the size of the curve. */
  readonly hash: HashName
}

export const ecdsaCurves: readonly EcdsaCurve[] = [
  {
    name: 'nistp256',
    keyType: 'ecdsa-sha2-nistp256',
    fieldBytes: 32,
    order: fromHex('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551')!,
    hash: 'sha256',
  },
  {
    name: 'nistp384',
    keyType: 'ecdsa-sha2-nistp384',
    fieldBytes: 48,
    order: fromHex(
      'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
    )!,
    hash: 'sha384',
  },
  {
    name: 'nistp521',
    keyType: 'ecdsa-sha2-nistp521',
    fieldBytes: 66,
    order: fromHex(
      '01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409',
    )!,
    hash: 'sha512',
  },
]

/** The curve of that wire name, or undefined. */
export function curveByName(name: string): EcdsaCurve | undefined {
  return ecdsaCurves.find((curve) => curve.name === name)
}

/** The curve of that key type ('ecdsa-sha2-nistp256' ...), or undefined. */
export function curveByKeyType(keyType: string): EcdsaCurve | undefined {
  return ecdsaCurves.find((curve) => curve.keyType === keyType)
}
