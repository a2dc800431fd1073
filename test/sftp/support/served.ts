/** A server and a scripted client in one process, connected by a channel pair. */
import type { SftpBackend } from '../../../packages/sftp/src/backend.ts'
import { type ChannelPairOptions, channelPair } from '../../../packages/sftp/src/channel-pair.ts'
import { MemoryBackend } from '../../../packages/sftp/src/memory-backend.ts'
import {
  type SftpServerOptions,
  type SftpServerSession,
  serveSftp,
} from '../../../packages/sftp/src/server.ts'
import { RawClient } from './raw-client.ts'

export interface Served {
  readonly client: RawClient
  readonly session: SftpServerSession
  /** The extensions announced, with their versions. */
  readonly extensions: ReadonlyMap<string, string>
}

export async function served(
  backend: SftpBackend = new MemoryBackend(),
  options: SftpServerOptions & { pair?: ChannelPairOptions } = {},
): Promise<Served> {
  const { client, session } = unserved(backend, options)
  return { client, session, extensions: await client.init() }
}

/** The same before INIT. */
export function unserved(
  backend: SftpBackend = new MemoryBackend(),
  options: SftpServerOptions & { pair?: ChannelPairOptions } = {},
): { client: RawClient; session: SftpServerSession } {
  const { pair, ...serverOptions } = options
  const [ours, theirs] = channelPair(pair)
  const session = serveSftp(ours, backend, serverOptions)
  return { client: new RawClient(theirs), session }
}
