// Files inside a partition of the image: list and download, read-only.

import { safeText } from '@sshblock/transport/errors'
import type { VolumeEntry } from '../session-worker/calls.ts'
import { el } from './dom.ts'
import { breadcrumb, entryTable, type TableEntry } from './entry-table.ts'
import type { Notices } from './notices.ts'
import type { RemoteDisk } from './remote-disk.ts'
import type { Transfers } from './transfers.ts'

export class VolumeBrowser {
  readonly element: HTMLElement
  readonly #disk: RemoteDisk
  readonly #notices: Notices
  readonly #transfers: Transfers
  readonly #way = el('div', {})
  readonly #place = el('div', {})
  readonly #label: string

  /** Of the volume of the disk that was opened last. */
  constructor(
    disk: RemoteDisk,
    { label, notes }: { label: string; notes: readonly string[] },
    parts: { notices: Notices; transfers: Transfers },
  ) {
    this.#disk = disk
    this.#notices = parts.notices
    this.#transfers = parts.transfers
    this.#label = label
    this.element = el(
      'section',
      { 'aria-label': `Files in ${label}` },
      ...notes.map((note) => el('p', { class: 'hint' }, note)),
      this.#way,
      this.#place,
    )
  }

  /** `way` is the folders from the root, the one to be shown last. */
  async show(way: readonly VolumeEntry[]): Promise<void> {
    const folder = way.at(-1)
    if (folder === undefined) return
    this.#place.setAttribute('aria-busy', 'true')
    try {
      const { entries, more } = await this.#disk.list(folder)
      const steps = way.map((step, i) => ({
        name: i === 0 ? this.#label : step.name,
        open: () => void this.show(way.slice(0, i + 1)),
      }))
      this.#way.replaceChildren(breadcrumb('Folder in the image', steps))
      this.#place.replaceChildren(
        entryTable(
          `Files in ${this.#label}`,
          entries.map((entry) => this.#row(way, entry)),
          more,
        ),
      )
    } catch (error) {
      this.#notices.error('The folder in the image cannot be shown', error)
    } finally {
      this.#place.removeAttribute('aria-busy')
    }
  }

  #row(way: readonly VolumeEntry[], entry: VolumeEntry): TableEntry {
    const isFolder = entry.type === 'directory'
    return {
      name: entry.name,
      isFolder,
      kind: entry.type,
      size: isFolder ? undefined : entry.size,
      modified: entry.modified,
      open: isFolder ? () => void this.show([...way, entry]) : () => void this.#download(entry),
      actions: () => [],
    }
  }

  async #download(entry: VolumeEntry): Promise<void> {
    await this.#transfers.run({
      label: `Download ${safeText(entry.name)}`,
      totalBytes: entry.size,
      run: (signal, onProgress) => this.#disk.download(entry, { signal, onProgress }),
    })
  }
}
