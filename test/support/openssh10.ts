/** OpenSSH 10 as a private server: ML-KEM, sshd-session and sshd-auth, PerSourcePenalties (off). Options as for the machine's own. */
import { join } from 'node:path'
import { type OpensshOptions, type OpensshPeer, startOpensshInstallation } from './openssh-server.ts'
import { requirePeers } from './requirements.ts'
import { needsTrixie, trixieRoot } from './trixie.ts'

/** `await` it at the top of the test file: it makes the folder with the release where that is not there. */
export const needsOpenssh10 = needsTrixie

export async function startOpenssh10(options: OpensshOptions = {}): Promise<OpensshPeer> {
  requirePeers([await needsOpenssh10()])
  const root = await trixieRoot()
  const programs = { sshd: '/usr/sbin/sshd', sftpServer: join('/usr/lib/openssh', 'sftp-server') }
  return startOpensshInstallation({ root, ...programs }, options)
}
