/** A private asyncssh server on loopback: the machine's release, or Debian 13's (2.20, with ML-KEM). */
import type { KeyType } from './keys.ts'
import type { Peer } from './peer.ts'
import { findPython } from './program.ts'
import { type PythonServerOptions, startPythonServer } from './python-server.ts'
import { needsPythonModule, type Requirement, requirePeers } from './requirements.ts'
import { needsTrixie, trixieRoot } from './trixie.ts'

export interface AsyncsshOptions extends PythonServerOptions {
  /** 'trixie' needs `await needsTrixie()`. */
  readonly release?: 'host' | 'trixie'
  /**
   * Arguments of asyncssh.create_server: kex_algs, encryption_algs, mac_algs, compression_algs, signature_algs,
   * rekey_bytes, max_pktsize, window, login_timeout, sftp_version, ...
   */
  readonly options?: Readonly<Record<string, unknown>>
}

const HOST_KEYS: readonly KeyType[] = ['ed25519', 'ecdsa-256', 'rsa-2048']

export function needsAsyncssh(): Requirement {
  return needsPythonModule('asyncssh')
}

export async function startAsyncssh(options: AsyncsshOptions = {}): Promise<Peer> {
  const newer = options.release === 'trixie'
  requirePeers([newer ? await needsTrixie() : needsAsyncssh()])
  const script = {
    name: 'asyncssh',
    file: 'asyncssh-server.py',
    python: newer ? '/usr/bin/python3' : (findPython('asyncssh') ?? 'python3'),
    root: newer ? await trixieRoot() : undefined,
    hostKeyTypes: HOST_KEYS,
    settings: { options: options.options ?? {} },
  }
  return startPythonServer(script, options)
}
