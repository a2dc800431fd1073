/** A private foreign server as the conformance checks want it. */
import { readFileSync } from 'node:fs'
import type { CheckResult } from '@sshblock/transport/conformance'
import { nodeCrypto, parsePrivateKey, signerFromPrivateKey } from '@sshblock/transport/node'
import type { Options } from '../../conformance/src/options.ts'
import { runAgainstServer } from '../../conformance/src/server-run.ts'
import { clientKey } from '../support/keys.ts'
import type { Peer } from '../support/peer.ts'

/** Room for many connections and channels at once; everything else is sshd's own default. */
export const roomyOpenssh = { config: ['MaxStartups 500', 'MaxSessions 100', 'LoginGraceTime 60'] }

/** Runs every check, those of SFTP in the peer's data folder. */
export async function runAgainstPeer(peer: Peer, options: Partial<Options> = {}): Promise<CheckResult[]> {
  const { privateFile } = await clientKey('ed25519')
  const signer = signerFromPrivateKey(
    nodeCrypto,
    await parsePrivateKey(nodeCrypto, readFileSync(privateFile)),
  )
  return runAgainstServer({
    mode: 'server',
    host: peer.host,
    port: peer.port,
    command: '',
    user: peer.user,
    signer,
    password: undefined,
    folder: peer.paths.data,
    only: undefined,
    full: process.env['SSHBLOCK_CONFORMANCE_FULL'] === '1',
    atOnce: 4,
    patienceMs: 3000,
    json: false,
    save: undefined,
    expect: undefined,
    files: [],
    ...options,
  })
}
