// A disk image that outlives its connections: opened on a connector, which can connect again. Joins the resilient image to
// SFTP, and the device to the image. What becomes of lost connections is in docs/lost-connections.md.

import type { SftpClient } from '@sshblock/sftp'
import { AuthError, HostKeyError } from '@sshblock/transport/errors'
import { channelWish } from './channel-wish.ts'
import { BlockDeviceError } from './errors.ts'
import type { FileDeviceOptions } from './file-device-options.ts'
import { isFar } from './image/distance.ts'
import { AccessRefusedError, IdentityError } from './image/errors.ts'
import type { ImageConnection, ImageHost, Lane, OpenLaneOptions } from './image/host.ts'
import type { ConnectionBehaviour } from './image/options.ts'
import { ResilientImage } from './image/resilient-image.ts'
import type { Rule } from './image/rules.ts'
import type { ZeroCopier } from './layers/zeroing.ts'
import { BegunLanes, openFileOn } from './sftp-begun-lanes.ts'
import type { SftpConnection, SftpConnector } from './sftp-connector.ts'
import {
  type CreateOptions,
  createImageFile,
  type DeviceSource,
  type OpenedImage,
  openImageFile,
  SftpDevice,
  type SftpDeviceOptions,
  serverTraits,
} from './sftp-device.ts'
import { SftpFile } from './sftp-file.ts'
import { openSftpSession, SftpLane, type SftpLaneOptions, type SftpSession } from './sftp-lane.ts'

const sessionEpochExtension = 'session-epoch@sshblock'

type WithoutGiven<T> = Omit<T, 'openChannel' | 'serverInfo' | 'release'>

export interface ConnectorOptions extends ConnectionBehaviour {
  /** Told what the SFTP clients do, never file contents. */
  trace?: SftpLaneOptions['trace']
  /** Rules that are switched off, for tests that prove that each one matters. Data is lost without them. */
  dangerouslyWithout?: ReadonlySet<Rule>
}

export type OpenOnConnectorOptions = WithoutGiven<SftpDeviceOptions> & ConnectorOptions
export type CreateOnConnectorOptions = WithoutGiven<CreateOptions> & ConnectorOptions

/**
 * Opens a disk image on a server that can be connected to again.
 * @throws what the connector throws, and as openDeviceOnSftp.
 */
export function openDeviceOnConnector(
  connector: SftpConnector,
  path: string,
  options: OpenOnConnectorOptions = {},
): Promise<SftpDevice> {
  const { writable = false } = options
  return onConnector(connector, path, options, writable, false, (sftp, onOpenable) =>
    openImageFile(sftp, path, options, { head: true, onOpenable }),
  )
}

/**
 * Creates a disk image on a server that can be connected to again, and opens it for writing.
 * @throws what the connector throws, and as createDeviceOnSftp.
 */
export function createDeviceOnConnector(
  connector: SftpConnector,
  path: string,
  options: CreateOnConnectorOptions,
): Promise<SftpDevice> {
  return onConnector(connector, path, options, true, true, async (sftp, onOpenable) => {
    const created = await createImageFile(sftp, path, options)
    onOpenable()
    return created
  })
}

async function onConnector(
  connector: SftpConnector,
  path: string,
  options: OpenOnConnectorOptions | CreateOnConnectorOptions,
  writable: boolean,
  fresh: boolean,
  open: (sftp: SftpClient, onOpenable: () => void) => Promise<OpenedImage>,
): Promise<SftpDevice> {
  const signal = options.signal ?? new AbortController().signal
  const wish = channelWish(writable, options)
  const connection = await connector.connect(signal, { channels: wish })
  try {
    const opening = openSftpSession(connection, options, signal)
    // Over a long way everything that will be wanted is begun at once.
    const further = writable ? wish(connection.roundTripMs ?? 0) - 2 : 0
    const begun = new BegunLanes(further, () => openSftpSession(connection, options, signal))
    const session = await opening
    const { file, kind, size, head } = await open(session.sftp, () => begun.open(path, writable, signal))
    // A busy server looks far away at first.
    if (!isFar(Math.min(connection.roundTripMs ?? 0, file.roundTripMs ?? 0))) begun.abandon()
    const host = new SftpImageHost(connector, path, writable, options)
    const lane = await host.lane(session, file, { signal, epoch: 1, serial: 1 })
    const isFile = kind === 'file'
    const image = new ResilientImage({
      ...options,
      minChannels: Math.max(options.minChannels ?? 1, 1 + begun.count),
      host,
      connection: host.adopted(connection, begun),
      lane,
      writable,
      kind,
      size: isFile ? size : undefined,
      // A copy: the device serves its first read from the other one.
      head: head.slice(),
      ...(options.dangerouslyWithout === undefined ? {} : { without: options.dangerouslyWithout }),
    })
    const source: DeviceSource = {
      path,
      sftp: () => host.sftp ?? session.sftp,
      server: () => host.connection?.serverInfo ?? connection.serverInfo,
      connection: () => image.info,
    }
    const fileOptions: FileDeviceOptions = {
      ...options,
      files: [image],
      size,
      kind,
      readOnly: !writable,
      fresh,
      ...(fresh ? {} : { head }),
      zeroCopier: zeroCopier(image, () => source.sftp().supports('copy-data', '1')),
      ...serverTraits(session.sftp, options.serverName),
    }
    return new SftpDevice(source, fileOptions)
  } catch (error) {
    await connection.close().catch(() => {})
    throw error
  }
}

// The image writes the zeros itself, on whichever lane, and writes them again after a loss.
function zeroCopier(image: ResilientImage, canCopy: () => boolean): ZeroCopier {
  return {
    prepare: async () => (canCopy() ? image : undefined),
    copy: async (offset, length, signal) => {
      if (await image.zero(offset, length, signal)) return
      throw new BlockDeviceError('ENOTSUP', 'this server cannot copy zeros', { offset, length })
    },
    close: async () => {},
  }
}

class SftpImageHost implements ImageHost {
  readonly #connector: SftpConnector
  readonly #path: string
  readonly #writable: boolean
  readonly #options: SftpLaneOptions
  readonly #fences: boolean
  readonly #onWarning: (message: string) => void
  /** The device's name among the server's sessions. */
  readonly #device = crypto.getRandomValues(new Uint8Array(16))
  /** The latest client and connection, for a device's info. */
  sftp: SftpClient | undefined
  connection: SftpConnection | undefined

  constructor(
    connector: SftpConnector,
    path: string,
    writable: boolean,
    options: SftpLaneOptions & Pick<ConnectionBehaviour, 'fence'> & Pick<SftpDeviceOptions, 'onWarning'>,
  ) {
    this.#connector = connector
    this.#path = path
    this.#writable = writable
    this.#options = options
    this.#fences = options.fence !== 'none'
    this.#onWarning = options.onWarning ?? (() => {})
  }

  async connect(signal: AbortSignal): Promise<ImageConnection> {
    try {
      const channels = this.#writable ? 2 : 1
      return this.adopted(await this.#connector.connect(signal, { channels: () => channels }))
    } catch (error) {
      const cause = error instanceof HostKeyError || error instanceof AuthError ? error : causeOf(error)
      if (cause instanceof HostKeyError) throw new IdentityError(cause.message, cause)
      if (cause instanceof AuthError) throw new AccessRefusedError(cause.message, cause)
      throw error
    }
  }

  /** `begun` are lanes that were begun on this connection before there was an image. */
  adopted(connection: SftpConnection, begun?: BegunLanes): ImageConnection {
    this.connection = connection
    const { exec } = connection
    return {
      begunLanes: begun?.count ?? 0,
      identity: `${connection.identity.user} ${hex(connection.identity.hostKey)}`,
      get roundTripMs() {
        return connection.roundTripMs
      },
      openLane: (options) => this.#openLane(connection, options, begun),
      exec: exec === undefined ? undefined : (command, signal) => exec.call(connection, command, signal),
      over: connection.over,
      close: () => connection.close(),
      destroy: () => connection.destroy(),
    }
  }

  // A session that may write joins before it can: so it is known, and the older ones are over.
  async lane(session: SftpSession, file: SftpFile, join: OpenLaneOptions): Promise<SftpLane> {
    const { sftp } = session
    const { signal, epoch, serial } = join
    this.sftp = sftp
    const knowsEpochs = this.#writable && this.#fences && sftp.supports(sessionEpochExtension, '1')
    const ended = knowsEpochs
      ? new Set(await sftp.joinDevice({ device: this.#device, epoch, serial }, { signal }))
      : undefined
    return new SftpLane(session, file, ended, this.#onWarning)
  }

  async #openLane(
    connection: SftpConnection,
    join: OpenLaneOptions,
    begun: BegunLanes | undefined,
  ): Promise<Lane> {
    const { signal } = join
    const { session, remote } =
      (await begun?.take()) ??
      (await openFileOn(
        openSftpSession(connection, this.#options, signal),
        this.#path,
        this.#writable,
        signal,
      ))
    try {
      return await this.lane(session, new SftpFile(session.sftp, remote), join)
    } catch (error) {
      session.channel.close()
      void session.sftp.close()
      throw error
    }
  }
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
