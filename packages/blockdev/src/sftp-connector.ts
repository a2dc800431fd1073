// How a device that outlives its connections reaches the server: somebody who can connect, again and again. The SSH driver
// makes one from a location; tests and other transports bring their own.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import type { ServerInfo } from './sftp-device.ts'

/** Connects to the server: when the device is opened, for more connections, and after a loss. */
export interface SftpConnector {
  /**
   * A new connection, with host key check and authentication of its own. `wanted.channels` tells from the round trip in
   * milliseconds how many channels it will be asked for at once: they may be opened early.
   */
  connect(
    signal: AbortSignal,
    wanted?: { readonly channels: (roundTripMs: number) => number },
  ): Promise<SftpConnection>
}

/** An SFTP channel; a SessionChannel of the transport is one. */
export interface SftpChannel extends ByteChannel {
  /**
   * Resolves when the channel is closed, with how the server's side ended; 'status' and 'signal' prove that the server's
   * process is over, 'none' proves nothing. Rejects where the connection was lost. Undefined: never known.
   */
  readonly exit?: Promise<{ readonly type: 'status' | 'signal' | 'none' }>
}

/** What became of a command on the server. */
export interface CommandResult {
  /** Undefined where it did not end with a status. */
  readonly status: number | undefined
  readonly stdout: Uint8Array
}

/** One connection. */
export interface SftpConnection {
  /** Host key and user, compared when the device connects again. */
  readonly identity: { readonly hostKey: Uint8Array; readonly user: string }
  readonly serverInfo?: ServerInfo | undefined
  /** The server's SSH identification line. */
  readonly serverIdentification?: string | undefined
  /** Shortest round trip seen, in milliseconds. */
  readonly roundTripMs?: number | undefined
  /** Opens one more channel with SFTP on it, not yet started. Rejects where the server gives no more. */
  openChannel(signal: AbortSignal | undefined): Promise<SftpChannel>
  /** Runs a command on the server, with its standard input at its end. Rejects where the server does not allow it. */
  exec?: ((command: string, signal: AbortSignal) => Promise<CommandResult>) | undefined
  /** Resolves when the connection is over, with what ended it. Never rejects. */
  readonly over: Promise<Error>
  /** Says goodbye. Resolves when the connection is over. */
  close(): Promise<void>
  /** Ends it at once. */
  destroy(): void
}
