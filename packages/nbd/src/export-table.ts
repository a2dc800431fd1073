// Which exports there are, and which of their devices are open. All clients of one name share one device, so that a flush
// by any of them covers the writes of all (which is what NBD_FLAG_CAN_MULTI_CONN promises).
// A device that the table opened is closed when its last client has left; one that was given is only flushed, at the end.

import type { BlockDevice } from '@sshblock/blockdev'
import { quote, UsageError } from '@sshblock/transport/errors'
import type { NbdExport, NbdExportResolver } from './export.ts'
import { isProtocolString } from './option-data.ts'

/** The right to use an export's device until `release`. */
export interface ExportLease {
  readonly device: BlockDevice
  /** Whether the device can discard at all. */
  readonly canTrim: boolean
  /** Gives the device back; the last one to do so closes a device that the table opened. Idempotent. */
  release(): void
}

interface OpenDevice {
  users: number
  readonly owned: boolean
  readonly opening: Promise<{ device: BlockDevice; canTrim: boolean }>
  closing: Promise<void> | undefined
}

export interface ExportTableOptions {
  /** A device that the table opened could not be closed, which includes that its last flush failed. */
  onCloseError?: (name: string, error: unknown) => void
}

export class ExportTable {
  readonly #resolver: NbdExportResolver
  readonly #onCloseError: (name: string, error: unknown) => void
  readonly #open = new Map<string, OpenDevice>()
  /** Devices that are the caller's and were in use. */
  readonly #given = new Set<BlockDevice>()
  #firstError: { error: unknown } | undefined

  /** @throws UsageError for names or descriptions that the protocol cannot carry, and for a name given twice */
  constructor(exports: readonly NbdExport[] | NbdExportResolver, options: ExportTableOptions = {}) {
    this.#resolver = isResolver(exports) ? exports : resolverOf(exports)
    this.#onCloseError = options.onCloseError ?? (() => {})
  }

  /** Devices in use, being opened or being closed. */
  get openDevices(): number {
    return this.#open.size
  }

  async list(): Promise<Pick<NbdExport, 'name' | 'description'>[]> {
    const found = [...(await this.#resolver.list())]
    for (const each of found) checkNames(each)
    return found
  }

  /** The export that a client means by `name`, or undefined. */
  async find(name: string): Promise<NbdExport | undefined> {
    const found = await this.#resolver.find(name)
    if (found !== undefined) checkNames(found)
    return found
  }

  /**
   * Opens the export's device, or joins those that use it already.
   * @throws whatever opening throws
   */
  async lease(wanted: NbdExport): Promise<ExportLease> {
    const { name } = wanted
    let open = this.#open.get(name)
    while (open?.closing !== undefined) {
      await open.closing
      open = this.#open.get(name)
    }
    if (open === undefined) {
      open = {
        users: 0,
        owned: typeof wanted.device === 'function',
        opening: openDevice(wanted),
        closing: undefined,
      }
      this.#open.set(name, open)
    }
    const shared = open
    shared.users++
    try {
      const { device, canTrim } = await shared.opening
      if (!shared.owned) this.#given.add(device)
      let released = false
      const release = (): void => {
        if (released) return
        released = true
        this.#leave(name, shared, device)
      }
      return { device, canTrim, release }
    } catch (error) {
      if (--shared.users === 0 && this.#open.get(name) === shared) this.#open.delete(name)
      throw error
    }
  }

  #leave(name: string, open: OpenDevice, device: BlockDevice): void {
    if (--open.users > 0) return
    if (!open.owned) {
      this.#open.delete(name)
      return
    }
    open.closing = (async () => device.close())().then(
      () => void this.#open.delete(name),
      (error: unknown) => {
        this.#open.delete(name)
        this.#firstError ??= { error }
        this.#onCloseError(name, error)
      },
    )
  }

  /**
   * For the end of the server, when every lease was released: waits for devices that are being closed and flushes those
   * that were given.
   * @throws the first error of a close or a flush
   */
  async finish(): Promise<void> {
    await Promise.all([...this.#open.values()].map((open) => open.closing))
    for (const device of this.#given) {
      if (device.readOnly) continue
      try {
        await device.flush()
      } catch (error) {
        this.#firstError ??= { error }
      }
    }
    if (this.#firstError !== undefined) throw this.#firstError.error
  }
}

async function openDevice(wanted: NbdExport): Promise<{ device: BlockDevice; canTrim: boolean }> {
  const device = typeof wanted.device === 'function' ? await wanted.device() : wanted.device
  return { device, canTrim: device.readOnly ? false : await canDiscard(device) }
}

/** A discard of nothing tells whether the device can discard: ENOTSUP where it cannot. */
async function canDiscard(device: BlockDevice): Promise<boolean> {
  try {
    await device.discard(0, 0)
    return true
  } catch {
    // ENOTSUP mostly; any other failure is no promise either.
    return false
  }
}

function isResolver(exports: readonly NbdExport[] | NbdExportResolver): exports is NbdExportResolver {
  return !Array.isArray(exports)
}

/** Exports by name; '' also means the only one there is. */
function resolverOf(exports: readonly NbdExport[]): NbdExportResolver {
  const byName = new Map<string, NbdExport>()
  for (const each of exports) {
    checkNames(each)
    if (byName.has(each.name)) throw new UsageError(`two exports are named ${quote(each.name)}`)
    byName.set(each.name, each)
  }
  const only = exports.length === 1 ? exports[0] : undefined
  return {
    list: () => byName.values(),
    find: (name) => byName.get(name) ?? (name === '' ? only : undefined),
  }
}

function checkNames(each: Pick<NbdExport, 'name' | 'description'>): void {
  if (!isProtocolString(each.name)) {
    throw new UsageError(`export name ${quote(each.name)} is not at most 4096 bytes of UTF-8 without NUL`)
  }
  if (each.description !== undefined && !isProtocolString(each.description)) {
    throw new UsageError(
      `the description of export ${quote(each.name)} is not at most 4096 bytes of UTF-8 without NUL`,
    )
  }
}
