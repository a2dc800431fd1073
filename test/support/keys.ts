/**
 * Key pairs made by ssh-keygen, once for a test run: host keys for the servers, client keys for the users, plain and
 * encrypted. The folder of a pair is never changed after it appeared, so test files running at once can share it.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { runOrThrow } from './program.ts'
import { runDir } from './temp-dir.ts'

export type KeyType =
  | 'ed25519'
  | 'ecdsa-256'
  | 'ecdsa-384'
  | 'ecdsa-521'
  | 'rsa-2048'
  | 'rsa-3072'
  | 'rsa-4096'

/** One of each algorithm and curve. rsa-2048 is the quickest to make that everybody still accepts. */
export const ALL_KEY_TYPES: readonly KeyType[] = [
  'ed25519',
  'ecdsa-256',
  'ecdsa-384',
  'ecdsa-521',
  'rsa-2048',
]

export interface KeyPair {
  /** The name of the key's format on the wire: 'ssh-ed25519', 'ecdsa-sha2-nistp256', 'ssh-rsa'. */
  readonly algorithm: string
  /** The public key as it goes over the wire (RFC 4253 s6.6). */
  readonly blob: Uint8Array
  /** As `ssh-keygen -l` prints it: SHA256: and base64 without padding. */
  readonly fingerprint: string
  /** As in authorized_keys: algorithm, base64, comment. */
  readonly publicLine: string
  /** File with mode 0600. */
  readonly privateFile: string
  readonly publicFile: string
}

export interface KeyOptions {
  readonly passphrase?: string
  /** As `ssh-keygen -Z`: aes256-ctr, aes256-gcm@openssh.com, chacha20-poly1305@openssh.com, aes128-cbc, ... */
  readonly cipher?: string
  /** Rounds of bcrypt-pbkdf; 4 by default so that a test does not wait for them. */
  readonly rounds?: number
  /** OpenSSH's own by default. 'PEM' gives PKCS#1 or SEC1, 'PKCS8' either plain or PBES2. */
  readonly format?: 'PEM' | 'PKCS8'
}

/** The digest of a public key blob in lower-case hex, as QEMU's host_key_check wants it. */
export function hexFingerprint(blob: Uint8Array, hash: 'md5' | 'sha1' | 'sha256'): string {
  return createHash(hash).update(blob).digest('hex')
}

/** Reads a pair that ssh-keygen (or a server) wrote. */
export function readKeyPair(privateFile: string): KeyPair {
  const publicFile = `${privateFile}.pub`
  const publicLine = readFileSync(publicFile, 'utf8').trim()
  const [algorithm, base64] = publicLine.split(' ')
  if (algorithm === undefined || base64 === undefined) throw new Error(`${publicFile} is no public key`)
  const blob = new Uint8Array(Buffer.from(base64, 'base64'))
  const digest = createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')
  return { algorithm, blob, fingerprint: `SHA256:${digest}`, publicLine, privateFile, publicFile }
}

const inMaking = new Map<string, Promise<KeyPair>>()

/**
 * Makes what `fill` writes appear at `name` in the run's folder whole or not at all; the first maker wins.
 * Returns the path of the folder.
 */
async function once(name: string, fill: (dir: string) => Promise<void>): Promise<string> {
  const parent = join(runDir(), 'keys')
  mkdirSync(parent, { recursive: true })
  const place = join(parent, name)
  if (existsSync(place)) return place
  const draft = mkdtempSync(join(parent, '.draft-'))
  await fill(draft)
  try {
    renameSync(draft, place)
  } catch (error) {
    if (!existsSync(place)) throw error
    rmSync(draft, { recursive: true, force: true }) // Another test file was quicker; its pair is as good.
  }
  return place
}

function cached(name: string, fill: (dir: string) => Promise<void>): Promise<KeyPair> {
  let pair = inMaking.get(name)
  if (pair === undefined) {
    pair = once(name, fill).then((dir) => readKeyPair(join(dir, 'key')))
    inMaking.set(name, pair)
  }
  return pair
}

async function generate(type: KeyType, comment: string, file: string): Promise<void> {
  const [family = '', bits] = type.split('-')
  const size = bits === undefined ? [] : ['-b', bits]
  await runOrThrow('ssh-keygen', ['-q', '-t', family, ...size, '-N', '', '-C', comment, '-f', file])
}

/** The host key of this type. All servers of a run share it. */
export function hostKey(type: KeyType): Promise<KeyPair> {
  return cached(`host-${type}`, (dir) => generate(type, `host-${type}`, join(dir, 'key')))
}

/** Another host key of this type, which no server of this folder has: for "the host key has changed". */
export function strangerHostKey(type: KeyType): Promise<KeyPair> {
  return cached(`stranger-${type}`, (dir) => generate(type, `stranger-${type}`, join(dir, 'key')))
}

/**
 * A client's key pair. One pair per type: the options change how the private key's file is written, not the key, so a
 * server that knows the plain one knows them all.
 */
export function clientKey(type: KeyType, options: KeyOptions = {}): Promise<KeyPair> {
  const { passphrase = '', cipher, rounds = 4, format } = options
  if (passphrase === '' && format === undefined) {
    return cached(`client-${type}`, (dir) => generate(type, `client-${type}`, join(dir, 'key')))
  }
  const form = createHash('sha256')
    .update(JSON.stringify([passphrase, cipher, rounds, format]))
    .digest('hex')
    .slice(0, 16)
  return cached(`client-${type}-${form}`, async (dir) => {
    const plain = await clientKey(type)
    const file = join(dir, 'key')
    await runOrThrow('cp', ['-p', plain.privateFile, file])
    await runOrThrow('cp', ['-p', plain.publicFile, `${file}.pub`])
    const how = format === undefined ? ['-a', String(rounds)] : ['-m', format]
    if (cipher !== undefined) how.push('-Z', cipher)
    await runOrThrow('ssh-keygen', ['-q', '-p', '-P', '', '-N', passphrase, ...how, '-f', file])
  })
}

/** A client key that no server of this folder accepts. */
export function unknownClientKey(type: KeyType = 'ed25519'): Promise<KeyPair> {
  return cached(`unknown-${type}`, (dir) => generate(type, `unknown-${type}`, join(dir, 'key')))
}
