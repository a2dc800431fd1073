// A FIDO authenticator in software (OpenSSH PROTOCOL.u2f): real keys and signatures without a device.

import { createHash } from 'node:crypto'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import type { SigningKey } from '../../../packages/transport/src/crypto/provider.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import type { SecurityPrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { parsePublicKey, type SecurityPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { concat, utf8Bytes, writeU32 } from '../../../packages/transport/src/wire/bytes.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'

export type SkType = 'sk-ssh-ed25519@openssh.com' | 'sk-ecdsa-sha2-nistp256@openssh.com'

export interface SoftwareToken {
  type: SkType
  publicKey: SecurityPublicKey
  /** The handle that an OpenSSH key file holds for such a key. */
  privateKey: SecurityPrivateKey
  sign(data: Uint8Array, options?: SkSignOptions): Uint8Array
}

export interface SkSignOptions {
  flags?: number
  counter?: number
  /** Makes a webauthn signature. */
  webauthn?: { origin: string; clientData?: string; extensions?: Uint8Array }
}

const sha256 = (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest())

export function softwareToken(type: SkType, application = 'ssh:'): SoftwareToken {
  const inner = generateKeyPair(
    nodeCrypto,
    type === 'sk-ssh-ed25519@openssh.com' ? 'ed25519' : 'ecdsa-sha2-nistp256',
    systemRandom,
  )
  if (inner.kind !== 'software') throw new Error('unreachable')
  const key = inner.signingKey
  const blob = new Writer().text(type)
  if (key.type === 'ed25519') blob.string(key.publicKey)
  else if (key.type === 'ecdsa') blob.text(key.curve).string(key.point)
  const publicKey = parsePublicKey(blob.text(application).bytes()) as SecurityPublicKey
  const privateKey: SecurityPrivateKey = {
    kind: 'security-key',
    type,
    publicKey,
    flags: 1,
    keyHandle: Uint8Array.of(1, 2, 3, 4),
    reserved: new Uint8Array(0),
    comment: 'token',
  }
  return { type, publicKey, privateKey, sign: (data, options) => sign(type, application, key, data, options) }
}

function sign(
  type: SkType,
  application: string,
  key: SigningKey,
  data: Uint8Array,
  options: SkSignOptions = {},
): Uint8Array {
  const { flags = 1, counter = 7, webauthn } = options
  const head = new Uint8Array(5)
  head[0] = flags
  writeU32(head, 1, counter)
  let message = sha256(data)
  let extensions = new Uint8Array(0)
  const tail = new Writer().raw(head)
  if (webauthn !== undefined) {
    const challenge = Buffer.from(data).toString('base64url')
    const clientData = utf8Bytes(
      webauthn.clientData ??
        `{"type":"webauthn.get","challenge":"${challenge}","origin":"${webauthn.origin}","crossOrigin":false}`,
    )
    extensions = Uint8Array.from(webauthn.extensions ?? [])
    message = sha256(clientData)
    tail.text(webauthn.origin).string(clientData).string(extensions)
  }
  const raw = nodeCrypto.sign(
    key,
    'sha256',
    concat(sha256(utf8Bytes(application)), head, extensions, message),
  ) as Uint8Array
  const inner =
    key.type === 'ed25519'
      ? raw
      : new Writer().unsignedMpint(raw.subarray(0, 32)).unsignedMpint(raw.subarray(32)).bytes()
  const name = webauthn === undefined ? type : `webauthn-${type}`
  return new Writer().text(name).string(inner).raw(tail.bytes()).copy()
}
