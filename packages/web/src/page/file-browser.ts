// Files on the server: list, upload by button and by dropping, download, rename, delete, new folder, open as a disk.

import { type DirectoryEntry, joinPath, type SftpClient } from '@sshblock/sftp'
import { safeText } from '@sshblock/transport/errors'
import { askText, askToConfirm } from './dialogs.ts'
import { button, el } from './dom.ts'
import { saveAs } from './downloads.ts'
import { breadcrumb, entryTable, type TableEntry } from './entry-table.ts'
import type { Notices } from './notices.ts'
import type { Transfers } from './transfers.ts'

export interface FileBrowserParts {
  readonly sftp: SftpClient
  /** One more SFTP channel, for uploads over a long way. */
  readonly openChannel: () => Promise<SftpClient>
  readonly notices: Notices
  readonly transfers: Transfers
  /** Shows a file as a disk. */
  readonly openDisk: (path: string) => void
}

/** Names beyond this are not shown, so that a folder of a million does not stop the page. */
const maxShown = 2000

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

  /** Where the server puts a session that has not gone anywhere. */
  async start(): Promise<void> {
    await this.show(await this.#parts.sftp.realpath('.'))
  }

  async show(path: string): Promise<void> {
    this.#listing?.abort()
    const listing = new AbortController()
    this.#listing = listing
    this.#place.setAttribute('aria-busy', 'true')
    try {
      const entries: DirectoryEntry[] = []
      let more = 0
      for await (const entry of this.#parts.sftp.readdir(path, { signal: listing.signal })) {
        if (entries.length < maxShown) entries.push(entry)
        else more++
      }
      if (listing.signal.aborted) return
      this.#path = path
      this.#render(entries, more)
    } catch (error) {
      this.#parts.notices.error(`The folder ${safeText(path)} cannot be shown`, error)
    } finally {
      if (this.#listing === listing) this.#place.removeAttribute('aria-busy')
    }
  }

  #render(entries: DirectoryEntry[], more: number): void {
    entries.sort(
      (a, b) =>
        Number(b.type === 'directory') - Number(a.type === 'directory') ||
        a.name.localeCompare(b.name, undefined, { numeric: true }),
    )
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
      ),
      ...(more > 0 ? [el('p', { class: 'hint' }, `${more} more are not shown.`)] : []),
    )
  }

  #row({ name, type, stats }: DirectoryEntry): TableEntry {
    const path = joinPath(this.#path, name)
    const shown = safeText(name)
    const isFolder = type === 'directory'
    const download = (): void => void this.#download(name, path, stats.size)
    const quiet = (label: string, act: () => void | Promise<void>): HTMLButtonElement =>
      button(label, act, { class: 'quiet', 'aria-label': `${label.replace('…', '')} ${shown}` })
    return {
      name,
      isFolder,
      kind: type === 'unknown' ? 'file' : type,
      size: stats.size,
      modified: stats.modifiedAt,
      // A symbolic link may lead to a folder: try that first.
      open: isFolder
        ? () => void this.show(path)
        : type === 'symlink'
          ? () => void this.#follow(path, name)
          : download,
      actions: [
        ...(mayBeDisk(name, stats.size) && !isFolder
          ? [quiet('Open as disk', () => this.#parts.openDisk(path))]
          : []),
        quiet('Rename…', () => this.#rename(name, path)),
        quiet('Delete…', () => this.#delete(name, path, isFolder)),
      ],
    }
  }

  async #follow(path: string, name: string): Promise<void> {
    try {
      const stats = await this.#parts.sftp.stat(path)
      if (stats.isDirectory()) await this.show(path)
      else await this.#download(name, path, stats.size)
    } catch (error) {
      this.#parts.notices.error(`${safeText(path)} cannot be followed`, error)
    }
  }

  async #download(name: string, path: string, size: number | undefined): Promise<void> {
    const { sftp, transfers } = this.#parts
    await transfers.run({
      label: `Download ${safeText(name)}`,
      totalBytes: size,
      run: (signal, onProgress) =>
        saveAs({ name, size }, async (sink) => {
          await sftp.get(path, sink, { signal, onProgress })
        }),
    })
  }

  async #upload(files: readonly File[]): Promise<void> {
    const { sftp, openChannel, transfers, notices } = this.#parts
    const folder = this.#path
    for (const file of files) {
      const path = joinPath(folder, file.name)
      const there = await sftp.lstat(path).then(
        () => true,
        () => false,
      )
      const replace = `There is a file ${safeText(file.name)} in this folder already.`
      if (there && !(await askToConfirm('Replace the file?', replace, 'Replace it'))) continue
      const done = await transfers.run({
        label: `Upload ${safeText(file.name)}`,
        totalBytes: file.size,
        // Nobody sees half a file, and one that is there stays until the new one is whole.
        run: async (signal, onProgress) => {
          const whole = { totalBytes: file.size, atomic: true, openChannel }
          await sftp.put(file.stream(), path, { signal, onProgress, ...whole })
        },
      })
      if (done) notices.info(`${safeText(file.name)} was uploaded.`)
    }
    if (folder === this.#path) await this.show(folder)
  }

  async #makeFolder(): Promise<void> {
    const name = await askText('New folder', 'Name', '')
    if (name === undefined) return
    await this.#change(`The folder ${safeText(name)} cannot be made`, () =>
      this.#parts.sftp.mkdir(joinPath(this.#path, name)),
    )
  }

  async #rename(name: string, path: string): Promise<void> {
    const wanted = await askText(`Rename ${safeText(name)}`, 'New name', name)
    if (wanted === undefined || wanted === name) return
    await this.#change(`${safeText(name)} cannot be renamed`, () =>
      this.#parts.sftp.rename(path, joinPath(this.#path, wanted), { replace: false }),
    )
  }

  async #delete(name: string, path: string, isFolder: boolean): Promise<void> {
    const text = isFolder
      ? `The folder ${safeText(name)} and everything in it will be gone.`
      : `${safeText(name)} will be gone.`
    if (!(await askToConfirm('Delete it?', text, 'Delete'))) return
    await this.#change(`${safeText(name)} cannot be deleted`, () =>
      this.#parts.sftp.rm(path, { recursive: isFolder }),
    )
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
