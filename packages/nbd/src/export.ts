// What a server exports: names, devices, and what a client is told about them.
// Types, and the pure arithmetic from a device to transmission flags and block sizes.

import type { BlockDevice } from '@sshblock/blockdev'
import { maxRequestBytes } from './limits.ts'
import { transmissionFlag } from './protocol.ts'

/** One disk under a name. */
export interface NbdExport {
  /** What clients ask for: at most 4096 bytes of UTF-8 without NUL. '' is the default export. */
  name: string
  /**
   * The device, or how to open it. A device that is given stays the caller's: the server flushes it at its end and
   * does not close it. One that is opened belongs to the server: it is opened when the first client chooses the export (or
   * asks for its size), shared by all clients of that name, and closed when the last of them has left.
   */
  device: BlockDevice | (() => Promise<BlockDevice>)
  /** Refuses writes although the device takes them. Default: as the device. */
  readOnly?: boolean
  /** For people, at most 4096 bytes of UTF-8. */
  description?: string
  /**
   * Lets NBD_CMD_CACHE read the range (worth it where the device caches what was read). Default: the command succeeds
   * and does nothing, as the protocol allows.
   */
  cacheByReading?: boolean
}

/** Finds exports by name while the server runs; an array of exports is the common case of it. */
export interface NbdExportResolver {
  /** What NBD_OPT_LIST answers. */
  list():
    | Iterable<Pick<NbdExport, 'name' | 'description'>>
    | Promise<Iterable<Pick<NbdExport, 'name' | 'description'>>>
  /** The export that a client asks for ('' for the default one), or undefined where there is none. */
  find(name: string): NbdExport | undefined | Promise<NbdExport | undefined>
}

/** What a client learns about an export when it chooses it. */
export interface ExportDescription {
  /** Canonical name. */
  readonly name: string
  readonly description: string | undefined
  readonly sizeBytes: number
  readonly transmissionFlags: number
  readonly minimumBlockBytes: number
  readonly preferredBlockBytes: number
  readonly maximumBlockBytes: number
}

/** Section "Block size constraints": a power of two from 2^9, here at most our maximum. */
export function preferredBlockBytes(device: Pick<BlockDevice, 'preferredBlockSize'>): number {
  const wanted = device.preferredBlockSize
  let power = 512
  while (power * 2 <= wanted && power < maxRequestBytes) power *= 2
  return power
}

/**
 * Section "Transmission flags". CAN_MULTI_CONN always: all clients of a name share one device, and its flush covers every
 * write that it has answered, whichever connection that came by.
 */
export function transmissionFlags(options: {
  readOnly: boolean
  canTrim: boolean
  structuredReplies: boolean
}): number {
  let flags =
    transmissionFlag.hasFlags |
    transmissionFlag.sendFlush |
    transmissionFlag.sendFua |
    transmissionFlag.canMultiConn |
    transmissionFlag.sendCache
  if (options.readOnly) flags |= transmissionFlag.readOnly
  else {
    flags |= transmissionFlag.sendWriteZeroes | transmissionFlag.sendFastZero
    if (options.canTrim) flags |= transmissionFlag.sendTrim
  }
  // "MUST leave this flag clear if structured replies have not been negotiated".
  if (options.structuredReplies) flags |= transmissionFlag.sendDf
  return flags
}
