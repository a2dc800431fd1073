// ssh_config(5) RevokedHostKeys: keys that are never believed, whatever known_hosts says. As in ssh a file that cannot be read,
// or not be understood, refuses all hosts.

import { readFile } from 'node:fs/promises'
import { type HostKeyPolicy, quote, SshError } from '@sshblock/transport/node'

/** What a binary key revocation list of ssh-keygen begins with (OpenSSH, PROTOCOL.krl). */
const krlMagic = 'SSHKRL\n\0'

/**
 * `policy` for all keys but those in the files: as the server's own, or its certificate's authority's.
 * @throws SshError 'ERR_SSH_CONFIG' where a file cannot be read, is a binary KRL, or has a line that is no key
 */
export async function refuseRevoked(policy: HostKeyPolicy, files: readonly string[]): Promise<HostKeyPolicy> {
  if (files.length === 0) return policy
  const places = new Map<string, string>()
  for (const file of files) {
    for (const [blob, place] of await revokedIn(file)) places.set(blob, place)
  }
  const judge: HostKeyPolicy = (presented) => {
    const { publicKey, certificate, host, fingerprint } = presented
    const keys = certificate === undefined ? [publicKey] : [publicKey, certificate.signatureKey]
    const place = keys
      .map(({ blob }) => places.get(Buffer.from(blob).toString('base64')))
      .find((found) => found !== undefined)
    if (place === undefined) return policy(presented)
    return {
      problem: 'revoked',
      message: `${quote(host, 255)} shows ${publicKey.type} ${fingerprint}, which ${place} revokes: it may be stolen, and is not accepted`,
    }
  }
  const { preferredKeyTypes } = policy
  return preferredKeyTypes === undefined ? judge : Object.assign(judge, { preferredKeyTypes })
}

/** Blobs in base64, and for people where they stand. Keys of types that are not supported count too. */
async function revokedIn(file: string): Promise<[blob: string, place: string][]> {
  const shown = quote(file, 1024)
  const bytes = await readFile(file).catch((error) => {
    throw unusable(`RevokedHostKeys ${shown} cannot be read, so no host is believed`, error)
  })
  const text = bytes.toString('latin1')
  if (text.startsWith(krlMagic))
    throw unusable(
      `RevokedHostKeys ${shown}: a binary KRL is not read here; expected public keys, one a line`,
    )
  return text.split('\n').flatMap((line, i) => {
    const content = line.trim()
    if (content === '' || content.startsWith('#')) return []
    const [type = '', base64 = ''] = content.split(/\s+/)
    const blob = Buffer.from(base64, 'base64')
    const typeInBlob = blob.length > 4 ? blob.toString('latin1', 4, 4 + blob.readUInt32BE(0)) : undefined
    if (typeInBlob !== type)
      throw unusable(`RevokedHostKeys ${shown} line ${i + 1}: expected a public key as in '.pub' files`)
    return [[blob.toString('base64'), `${shown} line ${i + 1}`] as [string, string]]
  })
}

function unusable(message: string, cause?: unknown): SshError {
  return new SshError('ERR_SSH_CONFIG', message, { cause })
}
