// One disk in the worker: the device on the server, one cache of blocks that everything reads through, and the volume that the
// page looks into. Over the disk's port go the device itself (`serveDevice`), the page's calls, and what is told of reads.

import { openDeviceOnSftp, type SftpDevice } from '@sshblock/blockdev'
import { BlockCache, serveDevice } from '@sshblock/blockdev/adapters'
import type { SftpClient } from '@sshblock/sftp'
import { UsageError } from '@sshblock/transport/errors'
import { diskBlockBytes } from '../disk-blocks.ts'
import type { FileSystemEntry } from '../filesystems/file-system.ts'
import { openVolume, partOf } from '../filesystems/open-volume.ts'
import { readPartitionTable } from '../filesystems/partition-table.ts'
import { CachedDevice } from './cached-device.ts'
import { CallPort, type Handlers } from './call-port.ts'
import { type DiskCalls, type DiskFacts, type DiskPageCalls, maxListed, type VolumeEntry } from './calls.ts'
import { DiskLog } from './disk-log.ts'
import { saveTo } from './download-sink.ts'

export interface DiskRequest {
  readonly path: string
  readonly writable: boolean
  /** The page has the other end. */
  readonly port: MessagePort
}

export interface DiskServices {
  /** One more SFTP channel; the disk has its own. */
  openChannel(): Promise<SftpClient>
  onWarning(message: string): void
}

/** Opens an image and serves it over the port, until the page closes the device. @throws as openDeviceOnSftp */
export async function openDisk(request: DiskRequest, services: DiskServices): Promise<DiskFacts> {
  const { openChannel, onWarning } = services
  const sftp = await openChannel()
  let device: SftpDevice
  try {
    device = await openDeviceOnSftp(sftp, request.path, {
      writable: request.writable,
      openChannel,
      release: () => sftp.close(),
      onWarning,
    })
  } catch (error) {
    await sftp.close()
    throw error
  }
  serve(device, request.port)
  const { path, size, readOnly } = device.info
  return { path, size, readOnly }
}

function serve(device: SftpDevice, port: MessagePort): void {
  const log = new DiskLog(diskBlockBytes, (activity) => calls.call('activity', activity))
  const cache = new BlockCache(device, {
    blockBytes: diskBlockBytes,
    onFetch: (fetch) => log.fetched(fetch),
  })
  const cached = new CachedDevice(device, cache, (offset, length) => log.asked(offset, length))
  const calls = new CallPort<DiskPageCalls, DiskCalls>(port, diskCalls(cached))
  serveDevice(cached, port)
}

function diskCalls(disk: CachedDevice): Handlers<DiskCalls> {
  // Entries that the page was told of, of the one volume that is open. They hold names, not contents.
  const entries = new Map<number, FileSystemEntry>()
  let nextId = 0
  const told = (entry: FileSystemEntry): VolumeEntry => {
    const id = nextId++
    entries.set(id, entry)
    const { name, type, size, modified } = entry
    return { id, name, type, size, modified }
  }
  const entryOf = (id: number): FileSystemEntry => {
    const entry = entries.get(id)
    if (entry === undefined) throw new UsageError('another volume was opened meanwhile')
    return entry
  }
  return {
    partitions: () => readPartitionTable(disk),
    async openVolume({ start, length }) {
      const opened = await openVolume(partOf(disk, start, length))
      if (opened.fileSystem === undefined) return { kind: undefined, recognised: opened.recognised }
      const { kind, label, notes, root } = opened.fileSystem
      entries.clear()
      return { kind, label, notes, root: told(root) }
    },
    async list({ folder }) {
      const all = await entryOf(folder).entries()
      return { entries: all.slice(0, maxListed).map(told), more: Math.max(0, all.length - maxListed) }
    },
    download({ file, target }, { signal, onProgress }) {
      const entry = entryOf(file)
      return saveTo(target, entry.size, async (sink) => {
        const writer = sink.getWriter()
        let transferredBytes = 0
        try {
          for await (const piece of entry.content({ signal })) {
            await writer.ready
            await writer.write(piece)
            transferredBytes += piece.length
            onProgress({ transferredBytes, totalBytes: entry.size })
          }
          await writer.close()
        } catch (error) {
          await writer.abort(error).catch(() => {})
          throw error
        }
      })
    },
  }
}
