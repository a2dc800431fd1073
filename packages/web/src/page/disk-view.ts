// An image on the server as a disk: its partitions and their files, its bytes, a map of what was fetched, and a machine
// that boots from it. All of them share one cache of blocks.

import { openDeviceOnSftp, type SftpDevice } from '@sshblock/blockdev'
import { BlockCache } from '@sshblock/blockdev/adapters'
import { SftpClient } from '@sshblock/sftp'
import type { Session } from '@sshblock/transport'
import { safeText } from '@sshblock/transport/errors'
import { openVolume, partOf } from '../filesystems/open-volume.ts'
import { type Partition, type PartitionTable, readPartitionTable } from '../filesystems/partition-table.ts'
import { formatBytes } from '../format.ts'
import { AccessMap } from './access-map.ts'
import { DiskMeter } from './disk-meter.ts'
import { button, el, field } from './dom.ts'
import { HexView } from './hex-view.ts'
import { MachineView } from './machine-view.ts'
import type { Notices } from './notices.ts'
import type { RatePlot } from './rate-plot.ts'
import type { Transfers } from './transfers.ts'
import { VolumeBrowser } from './volume-browser.ts'

export interface DiskViewParts {
  readonly session: Session
  readonly notices: Notices
  readonly transfers: Transfers
  readonly plot: RatePlot
  readonly hasBios: boolean
}

const blockBytes = 256 * 1024

export class DiskView {
  readonly element: HTMLElement
  readonly #parts: DiskViewParts
  readonly #path = el('input', { required: true, spellcheck: 'false', autocomplete: 'off' })
  readonly #writable = el('input', { type: 'checkbox', id: 'disk-writable' })
  readonly #place = el('div', { class: 'disk-parts' })
  #device: SftpDevice | undefined
  #machine: MachineView | undefined
  #opened = 0

  constructor(parts: DiskViewParts) {
    this.#parts = parts
    const form = el(
      'form',
      { class: 'card disk-form' },
      field('Disk image on the server', this.#path),
      el(
        'label',
        { for: 'disk-writable', class: 'check' },
        this.#writable,
        'writable, for commits of the machine',
      ),
      el('button', { type: 'submit', class: 'primary' }, 'Open'),
    )
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      void this.open(this.#path.value)
    })
    this.element = el('div', {}, form, this.#place)
  }

  /** Opens an image in place of the one that is open. */
  async open(path: string): Promise<void> {
    const { session, notices } = this.#parts
    const number = ++this.#opened
    this.#path.value = path
    await this.close()
    this.#place.setAttribute('aria-busy', 'true')
    try {
      const openChannel = async (): Promise<SftpClient> =>
        SftpClient.open(await session.openSubsystem('sftp'))
      const sftp = await openChannel()
      let device: SftpDevice
      try {
        device = await openDeviceOnSftp(sftp, path, {
          writable: this.#writable.checked,
          openChannel,
          release: () => sftp.close(),
          onWarning: (message) => notices.info(message),
        })
      } catch (error) {
        await sftp.close()
        throw error
      }
      if (number !== this.#opened) {
        await device.close()
        return
      }
      this.#device = device
      await this.#show(device)
    } catch (error) {
      notices.error(`${safeText(path)} cannot be opened as a disk`, error)
    } finally {
      if (number === this.#opened) this.#place.removeAttribute('aria-busy')
    }
  }

  async close(): Promise<void> {
    const [device, machine] = [this.#device, this.#machine]
    this.#device = undefined
    this.#machine = undefined
    this.#place.replaceChildren()
    await machine?.powerOff()
    await device?.close().catch(() => {})
  }

  async #show(device: SftpDevice): Promise<void> {
    const { notices, plot, hasBios } = this.#parts
    const meter = new DiskMeter(device.size, blockBytes, {
      onChange: () => map.update(),
      onBytes: (bytes) => plot.moved(bytes),
    })
    const map = new AccessMap(meter, device.size)
    const cache = new BlockCache(device, { blockBytes, onFetch: (fetch) => meter.fetched(fetch) })
    const disk = {
      size: device.size,
      async read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal | undefined }) {
        meter.asked(offset, into.length)
        await cache.read(offset, into, options)
      },
    }
    const table = await readPartitionTable(disk)
    const hex = new HexView(disk, notices)
    const machine = new MachineView({ device, cache, meter, notices, hasBios })
    this.#machine = machine
    const files = el('div', { class: 'card' })
    const { info } = device
    this.#place.replaceChildren(
      el(
        'section',
        { class: 'card', 'aria-label': 'Partitions' },
        el(
          'h3',
          {},
          `${safeText(info.path)}, ${formatBytes(device.size)}${device.readOnly ? ', read-only' : ', writable'}`,
        ),
        partitionTable(table, {
          files: (partition) => void this.#showFiles(disk, partition, files),
          bytes: (partition) =>
            void hex.show(partition.start).then(() => hex.element.scrollIntoView({ block: 'nearest' })),
        }),
        ...table.notes.map((note) => el('p', { class: 'hint' }, note)),
      ),
      files,
      el('div', { class: 'card' }, map.element),
      el('div', { class: 'card' }, el('h3', {}, 'Bytes'), hex.element),
      machine.element,
    )
    await Promise.all([hex.show(0), this.#showFirst(disk, table, files)])
  }

  /** The first partition that can be read is shown without being asked for. */
  async #showFirst(
    disk: Parameters<typeof partOf>[0],
    table: PartitionTable,
    place: HTMLElement,
  ): Promise<void> {
    const first = table.partitions.find(({ type, length }) => length > 0 && !type.startsWith('extended'))
    if (first === undefined)
      place.replaceChildren(el('p', { class: 'empty' }, 'There is no partition on this disk.'))
    else await this.#showFiles(disk, first, place)
  }

  async #showFiles(
    disk: Parameters<typeof partOf>[0],
    partition: Partition,
    place: HTMLElement,
  ): Promise<void> {
    const name = partition.number === 0 ? 'the disk' : `partition ${partition.number}`
    try {
      const opened = await openVolume(partOf(disk, partition.start, partition.length))
      if (opened.fileSystem === undefined) {
        const what = opened.recognised ?? 'nothing that is known here'
        place.replaceChildren(
          el('h3', {}, `Files in ${name}`),
          el('p', { class: 'empty' }, `It holds ${what}. Files are read from ext2, ext3, ext4 and FAT.`),
        )
        return
      }
      const { fileSystem } = opened
      const label = fileSystem.label === '' ? name : safeText(fileSystem.label)
      const browser = new VolumeBrowser(fileSystem, label, this.#parts)
      place.replaceChildren(el('h3', {}, `Files in ${name} (${fileSystem.kind})`), browser.element)
      await browser.show([fileSystem.root])
    } catch (error) {
      this.#parts.notices.error(`The file system of ${name} cannot be read`, error)
    }
  }
}

function partitionTable(
  { scheme, partitions }: PartitionTable,
  act: { files: (partition: Partition) => void; bytes: (partition: Partition) => void },
): HTMLElement {
  const heads = ['Number', 'Start', 'Size', 'Type', 'Name', 'Boot']
  const rows = partitions.map((partition) =>
    el(
      'tr',
      {},
      el('th', { scope: 'row' }, partition.number === 0 ? 'disk' : String(partition.number)),
      el('td', { class: 'number' }, formatBytes(partition.start)),
      el('td', { class: 'number' }, formatBytes(partition.length)),
      el('td', {}, partition.type),
      el('td', {}, safeText(partition.name)),
      el('td', {}, partition.bootable ? 'yes' : ''),
      el(
        'td',
        { class: 'row-actions' },
        button('Files', () => act.files(partition), {
          class: 'quiet',
          'aria-label': `Files of partition ${partition.number}`,
        }),
        button('Bytes', () => act.bytes(partition), {
          class: 'quiet',
          'aria-label': `Bytes of partition ${partition.number}`,
        }),
      ),
    ),
  )
  const caption = scheme === 'none' ? 'No partition table' : `${scheme} partition table`
  return el(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    el(
      'table',
      {},
      el('caption', {}, caption),
      el(
        'thead',
        {},
        el(
          'tr',
          {},
          ...heads.map((head) =>
            el('th', { scope: 'col', class: head === 'Start' || head === 'Size' ? 'number' : '' }, head),
          ),
          el('th', { scope: 'col' }, el('span', { class: 'visually-hidden' }, 'Actions')),
        ),
      ),
      el('tbody', {}, ...rows),
    ),
  )
}
