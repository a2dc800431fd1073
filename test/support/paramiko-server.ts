/**
 * A private paramiko server on loopback. Its SFTP server has paramiko's own habits: SIZE in SETSTAT empties the file,
 * READ and WRITE go through Python's buffered files, and no extension but posix-rename.
 */
import type { KeyType } from './keys.ts'
import type { Peer } from './peer.ts'
import { findPython } from './program.ts'
import { type PythonServerOptions, startPythonServer } from './python-server.ts'
import { needsPythonModule, type Requirement, requirePeers } from './requirements.ts'

export interface ParamikoOptions extends PythonServerOptions {
  /** Algorithms in order, by paramiko's names: what is left out keeps paramiko's default. */
  readonly security?: Readonly<
    Partial<Record<'kex' | 'ciphers' | 'digests' | 'key_types', readonly string[]>>
  >
}

const HOST_KEYS: readonly KeyType[] = ['ed25519', 'ecdsa-256', 'rsa-2048']

export function needsParamiko(): Requirement {
  return needsPythonModule('paramiko')
}

export async function startParamiko(options: ParamikoOptions = {}): Promise<Peer> {
  requirePeers([needsParamiko()])
  const script = {
    name: 'paramiko',
    file: 'paramiko-server.py',
    python: findPython('paramiko') ?? 'python3',
    root: undefined,
    hostKeyTypes: HOST_KEYS,
    settings: { security: options.security ?? {} },
  }
  return startPythonServer(script, options)
}
