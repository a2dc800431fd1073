/** SFTP servers with a folder to work in: processes on a pipe, and our own in this process. */
import { channelPair } from '../../../packages/sftp/src/channel-pair.ts'
import {
  NodeBackend,
  SftpClient,
  type SftpClientOptions,
  serveSftp,
  spawnSftpServer,
} from '../../../packages/sftp/src/node.ts'
import { findProgram } from '../../support/program.ts'
import { needsPrograms, requirePeers } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'

export const needsSftpServer = needsPrograms('OpenSSH sftp-server', ['sftp-server'], 'openssh-sftp-server')
export const needsGesftpserver = needsPrograms('gesftpserver', ['gesftpserver'], 'gesftpserver')

export interface RealServer extends AsyncDisposable {
  readonly client: SftpClient
  /** A fresh folder of the machine on which both run. */
  readonly folder: string
}

async function started(
  program: string,
  args: readonly string[],
  options: SftpClientOptions,
): Promise<RealServer> {
  const { channel } = spawnSftpServer(findProgram(program)!, args)
  const client = await SftpClient.open(channel, options)
  return { client, folder: tempDir('sftp'), [Symbol.asyncDispose]: () => client.close() }
}

/** OpenSSH's sftp-server with options such as `-R` or `-P limits`. */
export async function opensshServer(
  args: readonly string[] = [],
  options: SftpClientOptions = {},
): Promise<RealServer> {
  requirePeers([needsSftpServer])
  return started('sftp-server', args, options)
}

/** The Green End SFTP server: another implementation, the draft's symlink order, no limits@openssh.com. */
export async function gesftpServer(options: SftpClientOptions = {}): Promise<RealServer> {
  requirePeers([needsGesftpserver])
  return started('gesftpserver', [], options)
}

/** Our own server, serving the whole machine as the others do. */
export async function ownServer(options: SftpClientOptions = {}): Promise<RealServer> {
  const [ours, theirs] = channelPair()
  const backend = new NodeBackend({ root: '/' })
  serveSftp(theirs, backend, { startDirectory: process.cwd() })
  const client = await SftpClient.open(ours, options)
  const stop = async () => {
    await client.close()
    backend.close()
  }
  return { client, folder: tempDir('sftp'), [Symbol.asyncDispose]: stop }
}
