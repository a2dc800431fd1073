// More SFTP channels of one connection, for transfers that use several. Takes anything that opens subsystems, such as a
// Session of the transport, so that SFTP goes on knowing nothing of SSH.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import { SftpClient } from './client.ts'
import type { SftpClientOptions } from './client-session.ts'
import { type ChannelWish, defaultMaxChannels, veryFarMs } from './transfer-lanes.ts'

/** What opens channels: a Session has it. */
export interface SubsystemOpener {
  openSubsystem(name: string, options?: { pipelined?: boolean }): Promise<ByteChannel>
  /** Which server it is, where that is known. */
  readonly info?: { readonly peerIdentification: string }
}

/** Servers that were tried: they read a stream of packets, and do not mind where it begins. */
const readStreams = /^SSH-2\.0-(OpenSSH_|dropbear|AsyncSSH_|sshblock_)/

/**
 * Whether a server is known to take INIT behind the request for the subsystem, and requests behind INIT, before it has answered.
 * Takes the identification line, 'SSH-2.0-OpenSSH_9.2'.
 */
export function takesRequestsBehindInit(serverIdentification: string | undefined): boolean {
  return readStreams.test(serverIdentification ?? '')
}

/**
 * How many session channels an upload wants of a connection, from its round trip in milliseconds: for `earlyChannels` of
 * `connect`, so that they are there when it begins.
 */
export function channelsForUpload(roundTripMs: number): number {
  return roundTripMs >= veryFarMs ? defaultMaxChannels : 1
}

/**
 * Gives a function that opens one more SFTP channel each time, for `openChannel` of uploads:
 * `client.put(source, path, { openChannel: sftpChannels(session) })`. `options` should be those of the client. It rejects where
 * the server gives no more channels (MaxSessions), which ends an upload's asking, not the upload.
 */
export function sftpChannels(
  session: SubsystemOpener,
  options: SftpClientOptions = {},
): (wanted?: ChannelWish) => Promise<SftpClient> {
  return async ({ mayBeUnopened = false } = {}) => {
    const serverIdentification = options.serverIdentification ?? session.info?.peerIdentification
    const given = serverIdentification === undefined ? options : { ...options, serverIdentification }
    const channel = await session.openSubsystem('sftp', { pipelined: true })
    if (mayBeUnopened && takesRequestsBehindInit(serverIdentification))
      return SftpClient.begin(channel, given)
    try {
      return await SftpClient.open(channel, given)
    } catch (error) {
      channel.close()
      throw error
    }
  }
}
