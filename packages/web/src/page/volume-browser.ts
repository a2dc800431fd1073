// Files inside a partition of the image: list and download, read-only.

import { safeText } from '@sshblock/transport/errors'
import type { FileSystem, FileSystemEntry } from '../filesystems/file-system.ts'
import { el } from './dom.ts'
import { saveAs } from './downloads.ts'
import { breadcrumb, entryTable, type TableEntry } from './entry-table.ts'
import type { Notices } from './notices.ts'
import type { Transfers } from './transfers.ts'

export class VolumeBrowser {
  readonly element: HTMLElement
  readonly #notices: Notices
  readonly #transfers: Transfers
  readonly #way = el('div', {})
  readonly #place = el('div', {})
  readonly #label: string

  constructor(fileSystem: FileSystem, label: string, parts: { notices: Notices; transfers: Transfers }) {
    this.#notices = parts.notices
    this.#transfers = parts.transfers
    this.#label = label
    this.element = el(
      'section',
      { 'aria-label': `Files in ${label}` },
      ...fileSystem.notes.map((note) => el('p', { class: 'hint' }, note)),
      this.#way,
      this.#place,
    )
  }

  /** `way` is the folders from the root, the one to be shown last. */
  async show(way: readonly FileSystemEntry[]): Promise<void> {
    const folder = way.at(-1)
    if (folder === undefined) return
    this.#place.setAttribute('aria-busy', 'true')
    try {
      const entries = await folder.entries()
      const steps = way.map((step, i) => ({
        name: i === 0 ? this.#label : step.name,
        open: () => void this.show(way.slice(0, i + 1)),
      }))
      this.#way.replaceChildren(breadcrumb('Folder in the image', steps))
      this.#place.replaceChildren(
        entryTable(
          `Files in ${this.#label}`,
          entries.map((entry) => this.#row(way, entry)),
        ),
      )
    } catch (error) {
      this.#notices.error('The folder in the image cannot be shown', error)
    } finally {
      this.#place.removeAttribute('aria-busy')
    }
  }

  #row(way: readonly FileSystemEntry[], entry: FileSystemEntry): TableEntry {
    const isFolder = entry.type === 'directory'
    return {
      name: entry.name,
      isFolder,
      kind: entry.type,
      size: isFolder ? undefined : entry.size,
      modified: entry.modified,
      open: isFolder ? () => void this.show([...way, entry]) : () => void this.#download(entry),
      actions: [],
    }
  }

  async #download(entry: FileSystemEntry): Promise<void> {
    await this.#transfers.run({
      label: `Download ${safeText(entry.name)}`,
      totalBytes: entry.size,
      run: (signal, onProgress) =>
        saveAs({ name: entry.name, size: entry.size }, async (sink) => {
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
        }),
    })
  }
}
