/**
 * A private dropbear on loopback: the machine's release, or Debian 13's (2025, with ML-KEM). Its sftp subsystem is
 * OpenSSH's sftp-server at a path compiled in. It reads authorized_keys from the home folder that /etc/passwd names,
 * so it needs a namespace to have a private one. Its algorithms are chosen when it is compiled, not by options.
 */
import { join } from 'node:path'
import { type PasswordUser, privateAccounts, thisUser } from './accounts.ts'
import type { KeyType } from './keys.ts'
import { inNamespace, needsNamespaces } from './namespace.ts'
import { LOOPBACK, onFreePort, type Peer, type PeerOptions, peerFolder, writeKnownHosts } from './peer.ts'
import { runOrThrow } from './program.ts'
import { needsPrograms, type Requirement, requirePeers } from './requirements.ts'
import { startServerProcess } from './server-process.ts'
import { needsTrixie, trixieRoot } from './trixie.ts'

export interface DropbearOptions extends PeerOptions {
  /** 'trixie' needs `await needsTrixie()`. */
  readonly release?: 'host' | 'trixie'
  /** An ordinary user who has a password and the same authorized_keys. */
  readonly passwordUser?: PasswordUser
  /** More options of dropbear(8): -W window, -I idle time, -T tries, -t for key and password, -b banner. */
  readonly args?: readonly string[]
}

// P-384 and P-521 host keys are accepted as well, one ecdsa key at a time.
const HOST_KEYS: readonly KeyType[] = ['ed25519', 'ecdsa-256', 'rsa-2048']

export function needsDropbear(): Requirement {
  const programs = needsPrograms('dropbear', ['dropbear', 'dropbearconvert', 'ssh-keygen'], 'dropbear-bin')
  return programs.missing === undefined ? { ...needsNamespaces(), name: 'dropbear' } : programs
}

export async function startDropbear(options: DropbearOptions = {}): Promise<Peer> {
  requirePeers([needsDropbear(), ...(options.release === 'trixie' ? [await needsTrixie()] : [])])
  const root = options.release === 'trixie' ? await trixieRoot() : undefined
  const folder = await peerFolder('dropbear', HOST_KEYS, options)
  const accounts = await privateAccounts(folder, options.passwordUser)
  const keyFiles = await Promise.all(
    folder.hostKeys.map(async (key) => {
      const file = join(folder.dir, `host_${key.algorithm}`)
      await runOrThrow('dropbearconvert', ['openssh', 'dropbear', key.privateFile, file])
      return file
    }),
  )
  const server = await onFreePort(async (port) => {
    const keys = keyFiles.flatMap((file) => ['-r', file])
    const listen = ['-p', `${LOOPBACK}:${port}`, '-P', join(folder.dir, 'pid')]
    const args = [
      '-F',
      '-E',
      ...listen,
      ...keys,
      ...(options.passwordUser === undefined ? ['-s'] : []),
      ...(options.args ?? []),
    ]
    const place = { dir: folder.dir, root, accounts, files: new Map<string, string>() }
    const command = inNamespace({ command: '/usr/sbin/dropbear', args }, place)
    const ready = /Not backgrounding/
    return {
      port,
      process: await startServerProcess({ name: 'dropbear', command, ready, scope: options.scope }),
    }
  })
  return {
    ...server.process,
    host: LOOPBACK,
    port: server.port,
    user: thisUser().name,
    hostKeys: folder.hostKeys,
    paths: { ...folder, knownHosts: writeKnownHosts(folder.dir, LOOPBACK, server.port, folder.hostKeys) },
  }
}
