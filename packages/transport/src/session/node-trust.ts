// Where a user of OpenSSH keeps trust and keys: known_hosts files, the agent, default key files. As methods and policies
// that connect() takes; nothing is read before it is needed.

import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { agentSocketPath, connectAgent } from '../agent/node-socket.ts'
import { nodeCrypto } from '../crypto/node.ts'
import type { CryptoProvider } from '../crypto/provider.ts'
import { quote, SshError } from '../errors.ts'
import { certificateFromText } from '../keys/certificate.ts'
import {
  type HostKeyPolicy,
  type KnownHostsPolicyOptions,
  knownHostsPolicy,
} from '../keys/host-key-policy.ts'
import type { KnownHosts } from '../keys/known-hosts.ts'
import { readKnownHostsFile } from '../keys/node-known-hosts-file.ts'
import { parsePrivateKey } from '../keys/private-key.ts'
import { type Signer, signerFromPrivateKey } from '../keys/signer.ts'
import { equalBytes } from '../wire/bytes.ts'
import type { AuthAgent, AuthMethod } from './authenticate.ts'

/** The files ssh asks by default: the user's and the machine's. */
export function defaultKnownHostsFiles(home: string = homedir()): string[] {
  const names = ['known_hosts', 'known_hosts2']
  return [...names.map((name) => join(home, '.ssh', name)), ...names.map((name) => `/etc/ssh/ssh_${name}`)]
}

/** Trusts what known_hosts files say; those that do not exist are empty. Errors as readKnownHostsFile. */
export async function knownHostsFilesPolicy(
  options: KnownHostsPolicyOptions & { files?: readonly string[]; crypto?: CryptoProvider },
): Promise<HostKeyPolicy> {
  const { files = defaultKnownHostsFiles(), crypto = nodeCrypto, ...rest } = options
  const parsed: KnownHosts[] = []
  for (const file of files) parsed.push(await readKnownHostsFile(file))
  return knownHostsPolicy(crypto, parsed, rest)
}

export interface AgentAuthOptions {
  /** Path of the agent's socket; SSH_AUTH_SOCK where left out. */
  socketPath?: string
  crypto?: CryptoProvider
  /** Only identities with one of these blobs, in the order of the agent. */
  only?: readonly Uint8Array[]
}

/** Authentication by the identities of a running agent. The connection to it lasts as long as the attempt. */
export function agentAuth(options: AgentAuthOptions = {}): AuthMethod {
  const { socketPath, crypto = nodeCrypto, only } = options
  const path = socketPath ?? agentSocketPath()
  const open = async (): Promise<AuthAgent> => {
    const agent = await connectAgent({ crypto, ...(path === undefined ? {} : { path }) })
    if (only === undefined) return agent
    return {
      list: async () =>
        (await agent.list()).filter(({ keyBlob }) => only.some((blob) => equalBytes(blob, keyBlob))),
      sign: (keyBlob, data, flags) => agent.sign(keyBlob, data, flags),
      bindSession: (binding) => agent.bindSession(binding),
      close: () => agent.close(),
    }
  }
  return { type: 'agent', agent: open, description: `agent ${path ?? '(SSH_AUTH_SOCK is not set)'}` }
}

export interface KeyFileOptions {
  /** For encrypted files: the passphrase, or who is asked for it. */
  passphrase?: string | ((path: string) => Promise<string | undefined>)
  /** Path of a certificate; `path-cert.pub` is used where it exists and this is left out. */
  certificatePath?: string
  crypto?: CryptoProvider
}

/** Authentication by a private key file. Read when its turn comes. Errors of the file become the attempt's reason. */
export function keyFileAuth(path: string, options: KeyFileOptions = {}): AuthMethod {
  return {
    type: 'publickey',
    signer: () => signerFromFile(path, options),
    description: `key file ${quote(path)}`,
  }
}

/** A signer for a key file, with the certificate beside it where there is one. Errors as parsePrivateKey, or the system's code. */
export async function signerFromFile(path: string, options: KeyFileOptions = {}): Promise<Signer> {
  const { crypto = nodeCrypto, certificatePath } = options
  const bytes = await readFileOr(path)
  const key = await openKey(crypto, path, bytes, options)
  const certificateText = await readFile(certificatePath ?? `${path}-cert.pub`, 'utf8').catch(
    (error: unknown) => {
      if (certificatePath === undefined) return undefined
      throw error
    },
  )
  if (certificateText === undefined) return signerFromPrivateKey(crypto, key)
  return signerFromPrivateKey(crypto, key, { certificate: certificateFromText(certificateText).certificate })
}

async function openKey(
  crypto: CryptoProvider,
  path: string,
  bytes: Uint8Array,
  { passphrase }: KeyFileOptions,
): ReturnType<typeof parsePrivateKey> {
  if (typeof passphrase === 'string') return parsePrivateKey(crypto, bytes, { passphrase })
  try {
    return await parsePrivateKey(crypto, bytes)
  } catch (error) {
    if (
      !(error instanceof SshError) ||
      error.code !== 'ERR_SSH_KEY_PASSPHRASE_REQUIRED' ||
      passphrase === undefined
    )
      throw error
    const given = await passphrase(path)
    if (given === undefined) throw error
    return parsePrivateKey(crypto, bytes, { passphrase: given })
  }
}

async function readFileOr(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'EIO'
    throw new SshError(code, `cannot read key file ${quote(path)}: ${code}`, { cause: error })
  }
}

/** Key files that ssh tries when none is named. */
export function defaultKeyFiles(home: string = homedir()): string[] {
  return ['id_ed25519', 'id_ecdsa', 'id_rsa'].map((name) => join(home, '.ssh', name))
}
