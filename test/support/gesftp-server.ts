/**
 * The Green End SFTP server as the subsystem of a private sshd: SFTP versions 3 to 6, and the arguments of SYMLINK in
 * the order of the draft, which it announces as symlink-order@rjk.greenend.org.uk.
 */
import { needsOpenssh, type OpensshOptions, type OpensshPeer, startOpensshServer } from './openssh-server.ts'
import { needsPrograms, type Requirement, requirePeers } from './requirements.ts'

export function needsGesftp(): Requirement {
  const own = needsPrograms('gesftpserver', ['gesftpserver'], 'gesftpserver')
  return own.missing === undefined ? { ...needsOpenssh(), name: 'gesftpserver' } : own
}

/** @param options.args of gesftpserver(8): --readonly, --chroot DIR */
export async function startGesftpServer(
  options: Omit<OpensshOptions, 'sftp'> & { readonly args?: readonly string[] } = {},
): Promise<OpensshPeer> {
  requirePeers([needsGesftp()])
  return startOpensshServer({ ...options, sftp: ['gesftpserver', ...(options.args ?? [])].join(' ') })
}
