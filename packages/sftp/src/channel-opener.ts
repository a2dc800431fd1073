// More SFTP channels of one connection, for transfers that use several. Takes anything that opens subsystems, such as a
// Session of the transport, so that SFTP goes on knowing nothing of SSH.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import { SftpClient } from './client.ts'
import type { SftpClientOptions } from './client-session.ts'

/** What opens channels: a Session has it. */
export interface SubsystemOpener {
  openSubsystem(name: string, options?: { pipelined?: boolean }): Promise<ByteChannel>
}

/**
 * Gives a function that opens one more SFTP channel each time, for `openChannel` of uploads:
 * `client.put(source, path, { openChannel: sftpChannels(session) })`. `options` should be those of the client. It rejects where
 * the server gives no more channels (MaxSessions), which ends an upload's asking, not the upload.
 */
export function sftpChannels(
  session: SubsystemOpener,
  options: SftpClientOptions = {},
): () => Promise<SftpClient> {
  return async () => {
    const channel = await session.openSubsystem('sftp', { pipelined: true })
    try {
      return await SftpClient.open(channel, options)
    } catch (error) {
      channel.close()
      throw error
    }
  }
}
