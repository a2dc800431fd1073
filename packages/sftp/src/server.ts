// An SFTP version 3 server on one byte channel: an SSH channel, the stdin and stdout of a process, or a pair in memory.
//
//     const session = serveSftp(channel, backend, { readOnly: true })
//     const outcome = await session.finished
//
// The session begins requests in their order and answers in their order. READs run beside READs, and WRITEs beside WRITEs to
// disjoint ranges of the same handle, which nobody can tell from one after the other; everything else runs alone.
// Memory is bounded: replies that the client does not take stop further requests, and then the channel.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import type { SftpBackend } from './backend.ts'
import { ServerSession } from './server/session.ts'
import type { SftpServerOptions, SftpServerSession } from './server/session-types.ts'

export type { ObservedHandle, ObservedRequest, SftpServerObserver } from './server/observer.ts'
export type {
  SftpServerOptions,
  SftpServerOutcome,
  SftpServerSession,
  SftpServerStatistics,
} from './server/session-types.ts'

/**
 * Serves one client on `channel` until either side ends it. The channel must not have been started; the session starts,
 * ends and closes it.
 *
 * Nothing that the client sends makes this throw; what ends the session is told by `finished`.
 */
export function serveSftp(
  channel: ByteChannel,
  backend: SftpBackend,
  options: SftpServerOptions = {},
): SftpServerSession {
  const session = new ServerSession(channel, backend, options)
  channel.start(session)
  return session
}
