// A disk of the worker as the page sees it: a BlockDevice for the machine and the hex view, and calls about partitions and the
// files inside them, which the worker reads itself.

import { deviceFromPort, type PortDevice } from '@sshblock/blockdev/adapters'
import { SshError } from '@sshblock/transport/errors'
import type { PartitionTable } from '../filesystems/partition-table.ts'
import { CallPort, type CallSteering } from '../session-worker/call-port.ts'
import type {
  DiskActivity,
  DiskCalls,
  DiskFacts,
  DiskPageCalls,
  OpenedVolume,
  TransferProgress,
  VolumeEntry,
  VolumeListing,
} from '../session-worker/calls.ts'
import { saveAs } from './downloads.ts'

/**
 * Opens a disk over a port of its own.
 * @param open gives the other end of the port to the worker
 * @param serverClosed settles when there is no worker any more
 * @throws what `open` throws
 */
export async function openRemoteDisk(
  open: (port: MessagePort) => Promise<DiskFacts>,
  serverClosed: Promise<Error | undefined>,
): Promise<RemoteDisk> {
  const { port1: port, port2: theirs } = new MessageChannel()
  try {
    const facts = await open(theirs)
    return new RemoteDisk(facts, await deviceFromPort(port), port, serverClosed)
  } catch (error) {
    port.close()
    throw error
  }
}

export class RemoteDisk {
  readonly facts: DiskFacts
  /** Reads through the worker's cache of blocks. */
  readonly device: PortDevice
  /** Is told what happened on the disk, some times a second while something happens. */
  onActivity: (activity: DiskActivity) => void = () => {}
  readonly #calls: CallPort<DiskCalls, DiskPageCalls>
  readonly #port: MessagePort

  /** Made by `openRemoteDisk`. */
  constructor(
    facts: DiskFacts,
    device: PortDevice,
    port: MessagePort,
    serverClosed: Promise<Error | undefined>,
  ) {
    this.facts = facts
    this.device = device
    this.#port = port
    this.#calls = new CallPort<DiskCalls, DiskPageCalls>(port, {
      activity: (activity) => this.onActivity(activity),
    })
    void serverClosed.then((failure) => {
      this.device.abandon(failure?.message ?? 'the connection was closed')
      this.#calls.end(failure ?? new SshError('ERR_CLOSED', 'the connection was closed'))
      port.close()
    })
  }

  partitions(): Promise<PartitionTable> {
    return this.#calls.call('partitions', undefined)
  }

  /** Looks into a part of the disk; entries of the volume before it are gone. @throws errors named FileSystemError */
  openVolume(start: number, length: number): Promise<OpenedVolume> {
    return this.#calls.call('openVolume', { start, length })
  }

  list(folder: VolumeEntry): Promise<VolumeListing> {
    return this.#calls.call('list', { folder: folder.id })
  }

  /** Saves a file of the volume as a download of the browser. */
  download({ id, name, size }: VolumeEntry, steering: CallSteering<TransferProgress>): Promise<void> {
    return saveAs({ name, size }, (target, transfer) =>
      this.#calls.call('download', { file: id, target }, { ...steering, transfer }),
    )
  }

  async close(): Promise<void> {
    await this.device.close().catch(() => {})
    this.#calls.end(new SshError('ERR_CLOSED', 'the disk was closed'))
    this.#port.close()
  }
}
