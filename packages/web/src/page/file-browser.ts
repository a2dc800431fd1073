// Files on the server: list, upload by button and by dropping, download, rename, delete, new folder, open as a disk.

import { joinPath } from '@sshblock/sftp'
import { safeText } from '@sshblock/transport/errors'
import type { FileEntry, Listing } from '../session-worker/calls.ts'
import { askText, askToConfirm } from './dialogs.ts'
import { button, el } from './dom.ts'
import { breadcrumb, entryTable, type TableEntry } from './entry-table.ts'
import type { Notices } from './notices.ts'
import type { RemoteServer } from './remote-server.ts'
import type { Transfers } from './transfers.ts'

export interface FileBrowserParts {
  readonly server: RemoteServer
  readonly notices: Notices
  readonly transfers: Transfers
  /** Shows a file as a disk. */
  readonly openDisk: (path: string) => void
}

export class FileBrowser {
  readonly element: HTMLElement
  readonly #parts: FileBrowserParts
  readonly #place = el('div', {})
  readonly #way = el('div', { class: 'way' })
  #path = '/'
  #listing: AbortController | undefined

  constructor(parts: FileBrowserParts) {
    this.#parts = parts
    const picker = el('input', {
      type: 'file',
      multiple: true,
      hidden: true,
      'aria-label': 'Files to upload',
    })
    picker.addEventListener('change', () => {
      void this.#upload([...(picker.files ?? [])])
      picker.value = ''
    })
    this.element = el(
      'section',
      { class: 'card files', 'aria-label': 'Files on the server' },
      el(
        'div',
        { class: 'toolbar' },
        this.#way,
        el(
          'div',
          { class: 'actions' },
          button('Upload…', () => picker.click()),
          button('New folder…', () => this.#makeFolder()),
          button('Refresh', () => this.show(this.#path)),
        ),
      ),
      picker,
      this.#place,
      el('p', { class: 'hint' }, 'Drop files anywhere here to upload them.'),
    )
    this.#acceptDrops()
  }

  async show(path: string): Promise<void> {
    this.#listing?.abort()
    const listing = new AbortController()
    this.#listing = listing
    this.#place.setAttribute('aria-busy', 'true')
    try {
      const found = await this.#parts.server.list(path, listing.signal)
      if (listing.signal.aborted) return
      this.#path = path
      this.#render(found)
    } catch (error) {
      this.#parts.notices.error(`The folder ${safeText(path)} cannot be shown`, error)
    } finally {
      if (this.#listing === listing) this.#place.removeAttribute('aria-busy')
    }
  }

  #render({ entries, more }: Listing): void {
    const components = this.#path.split('/').filter((name) => name !== '')
    const steps = ['', ...components].map((name, i) => ({
      name: i === 0 ? 'Server' : name,
      open: () => void this.show(`/${components.slice(0, i).join('/')}`),
    }))
    this.#way.replaceChildren(breadcrumb('Folder', steps))
    this.#place.replaceChildren(
      entryTable(
        `Files in ${safeText(this.#path)}`,
        entries.map((entry) => this.#row(entry)),
        more,
      ),
    )
  }

  #row({ name, type, size, modified }: FileEntry): TableEntry {
    const path = joinPath(this.#path, name)
    const shown = safeText(name)
    const isFolder = type === 'directory'
    const download = (): void => void this.#download(name, path, size)
    const quiet = (label: string, act: () => void | Promise<void>): HTMLButtonElement =>
      button(label, act, { class: 'quiet', 'aria-label': `${label.replace('…', '')} ${shown}` })
    return {
      name,
      isFolder,
      kind: type === 'unknown' ? 'file' : type,
      size,
      modified,
      // A symbolic link may lead to a folder: try that first.
      open: isFolder
        ? () => void this.show(path)
        : type === 'symlink'
          ? () => void this.#follow(path, name)
          : download,
      actions: () => [
        ...(mayBeDisk(name, size) && !isFolder
          ? [quiet('Open as disk', () => this.#parts.openDisk(path))]
          : []),
        quiet('Rename…', () => this.#rename(name, path)),
        quiet('Delete…', () => this.#delete(name, path, isFolder)),
      ],
    }
  }

  async #follow(path: string, name: string): Promise<void> {
    try {
      const found = await this.#parts.server.stat(path, true)
      if (found === undefined) throw new Error('it leads to nothing')
      if (found.isFolder) await this.show(path)
      else await this.#download(name, path, found.size)
    } catch (error) {
      this.#parts.notices.error(`${safeText(path)} cannot be followed`, error)
    }
  }

  async #download(name: string, path: string, size: number | undefined): Promise<void> {
    const { server, transfers } = this.#parts
    await transfers.run({
      label: `Download ${safeText(name)}`,
      totalBytes: size,
      run: (signal, onProgress) => server.download(path, { name, size }, { signal, onProgress }),
    })
  }

  async #upload(files: readonly File[]): Promise<void> {
    const { server, transfers, notices } = this.#parts
    const folder = this.#path
    for (const file of files) {
      const path = joinPath(folder, file.name)
      // Where it cannot be told, the upload will say why.
      const there = await server.stat(path, false).catch(() => undefined)
      const replace = `There is a file ${safeText(file.name)} in this folder already.`
      if (there !== undefined && !(await askToConfirm('Replace the file?', replace, 'Replace it'))) continue
      const done = await transfers.run({
        label: `Upload ${safeText(file.name)}`,
        totalBytes: file.size,
        run: (signal, onProgress) => server.upload(file, path, { signal, onProgress }),
      })
      if (done) notices.info(`${safeText(file.name)} was uploaded.`)
    }
    if (folder === this.#path) await this.show(folder)
  }

  async #makeFolder(): Promise<void> {
    const name = await askText('New folder', 'Name', '')
    if (name === undefined) return
    await this.#change(`The folder ${safeText(name)} cannot be made`, () =>
      this.#parts.server.makeFolder(joinPath(this.#path, name)),
    )
  }

  async #rename(name: string, path: string): Promise<void> {
    const wanted = await askText(`Rename ${safeText(name)}`, 'New name', name)
    if (wanted === undefined || wanted === name) return
    await this.#change(`${safeText(name)} cannot be renamed`, () =>
      this.#parts.server.rename(path, joinPath(this.#path, wanted)),
    )
  }

  async #delete(name: string, path: string, isFolder: boolean): Promise<void> {
    const text = isFolder
      ? `The folder ${safeText(name)} and everything in it will be gone.`
      : `${safeText(name)} will be gone.`
    if (!(await askToConfirm('Delete it?', text, 'Delete'))) return
    await this.#change(`${safeText(name)} cannot be deleted`, () => this.#parts.server.remove(path, isFolder))
  }

  async #change(whatFails: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#parts.notices.error(whatFails, error)
    }
    await this.show(this.#path)
  }

  #acceptDrops(): void {
    const { element } = this
    const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') === true
    element.addEventListener('dragover', (event) => {
      if (!carriesFiles(event)) return
      event.preventDefault()
      element.classList.add('dropping')
    })
    element.addEventListener('dragleave', (event) => {
      if (!element.contains(event.relatedTarget as Node | null)) element.classList.remove('dropping')
    })
    element.addEventListener('drop', (event) => {
      element.classList.remove('dropping')
      if (!carriesFiles(event)) return
      event.preventDefault()
      void this.#upload([...(event.dataTransfer?.files ?? [])])
    })
  }
}

/** Only a guess, for what is offered beside a file; any path can be opened as a disk. */
function mayBeDisk(name: string, size = 0): boolean {
  return /\.(img|iso|raw|bin|disk|dd|vhd|ima)$/i.test(name) || (size >= 1024 * 1024 && size % 512 === 0)
}
