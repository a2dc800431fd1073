// An image on the server as a disk: its partitions and their files, its bytes, a map of what was fetched, and a machine
// that boots from it. All of them read through one cache of blocks, which the worker has.

import { BlockCache } from '@sshblock/blockdev/adapters'
import { safeText } from '@sshblock/transport/errors'
import { diskBlockBytes } from '../disk-blocks.ts'
import type { Partition, PartitionTable } from '../filesystems/partition-table.ts'
import { formatBytes } from '../format.ts'
import { AccessMap } from './access-map.ts'
import { DiskMeter } from './disk-meter.ts'
import { button, el, field } from './dom.ts'
import { HexView } from './hex-view.ts'
import { MachineView } from './machine-view.ts'
import type { Notices } from './notices.ts'
import type { RatePlot } from './rate-plot.ts'
import type { RemoteDisk } from './remote-disk.ts'
import type { RemoteServer } from './remote-server.ts'
import type { Transfers } from './transfers.ts'
import { VolumeBrowser } from './volume-browser.ts'

export interface DiskViewParts {
  readonly server: RemoteServer
  readonly notices: Notices
  readonly transfers: Transfers
  readonly plot: RatePlot
  readonly hasBios: boolean
}

/** What the page itself holds of a disk, for the machine that runs here, in bytes. */
const machineCacheBytes = 32 * 1024 * 1024

export class DiskView {
  readonly element: HTMLElement
  readonly #parts: DiskViewParts
  readonly #path = el('input', { required: true, spellcheck: 'false', autocomplete: 'off' })
  readonly #writable = el('input', { type: 'checkbox', id: 'disk-writable' })
  readonly #place = el('div', { class: 'disk-parts' })
  #disk: RemoteDisk | undefined
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
    const { server, notices } = this.#parts
    const number = ++this.#opened
    this.#path.value = path
    await this.close()
    this.#place.setAttribute('aria-busy', 'true')
    try {
      const disk = await server.openDisk(path, this.#writable.checked)
      if (number !== this.#opened) {
        await disk.close()
        return
      }
      this.#disk = disk
      await this.#show(disk)
    } catch (error) {
      notices.error(`${safeText(path)} cannot be opened as a disk`, error)
    } finally {
      if (number === this.#opened) this.#place.removeAttribute('aria-busy')
    }
  }

  async close(): Promise<void> {
    const [disk, machine] = [this.#disk, this.#machine]
    this.#disk = undefined
    this.#machine = undefined
    this.#place.replaceChildren()
    await machine?.powerOff()
    await disk?.close()
  }

  async #show(disk: RemoteDisk): Promise<void> {
    const { notices, plot, hasBios } = this.#parts
    const { device, facts } = disk
    const meter = new DiskMeter(facts.size, {
      onChange: () => map.update(),
      onBytes: (bytes) => plot.moved(bytes),
    })
    const map = new AccessMap(meter, facts.size)
    disk.onActivity = (activity) => meter.happened(activity)
    // What comes ahead comes into the worker's cache.
    const cache = new BlockCache(device, {
      blockBytes: diskBlockBytes,
      maxBytes: machineCacheBytes,
      maxBlocksAhead: 0,
    })
    const table = await disk.partitions()
    const hex = new HexView(device, notices)
    const machine = new MachineView({ device, cache, meter, notices, hasBios })
    this.#machine = machine
    const files = el('div', { class: 'card' })
    this.#place.replaceChildren(
      el(
        'section',
        { class: 'card', 'aria-label': 'Partitions' },
        el(
          'h3',
          {},
          `${safeText(facts.path)}, ${formatBytes(facts.size)}${facts.readOnly ? ', read-only' : ', writable'}`,
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
  async #showFirst(disk: RemoteDisk, table: PartitionTable, place: HTMLElement): Promise<void> {
    const first = table.partitions.find(({ type, length }) => length > 0 && !type.startsWith('extended'))
    if (first === undefined)
      place.replaceChildren(el('p', { class: 'empty' }, 'There is no partition on this disk.'))
    else await this.#showFiles(disk, first, place)
  }

  async #showFiles(disk: RemoteDisk, partition: Partition, place: HTMLElement): Promise<void> {
    const name = partition.number === 0 ? 'the disk' : `partition ${partition.number}`
    try {
      const volume = await disk.openVolume(partition.start, partition.length)
      if (volume.kind === undefined) {
        const what = volume.recognised ?? 'nothing that is known here'
        place.replaceChildren(
          el('h3', {}, `Files in ${name}`),
          el('p', { class: 'empty' }, `It holds ${what}. Files are read from ext2, ext3, ext4 and FAT.`),
        )
        return
      }
      const label = volume.label === '' ? name : safeText(volume.label)
      const browser = new VolumeBrowser(disk, { label, notes: volume.notes }, this.#parts)
      place.replaceChildren(el('h3', {}, `Files in ${name} (${volume.kind})`), browser.element)
      await browser.show([volume.root])
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
