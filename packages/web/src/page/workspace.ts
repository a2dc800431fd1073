// What is shown while connected: who the server is, files and disk as tabs, transfers, throughput.

import { safeText } from '@sshblock/transport/errors'
import type { PageSettings } from '../demo-settings.ts'
import type { ServerFacts } from '../session-worker/calls.ts'
import { DiskView } from './disk-view.ts'
import { button, el } from './dom.ts'
import { prepareDownloads } from './downloads.ts'
import { FileBrowser } from './file-browser.ts'
import type { Notices } from './notices.ts'
import { RatePlot } from './rate-plot.ts'
import type { RemoteServer } from './remote-server.ts'
import { Transfers } from './transfers.ts'

export class Workspace {
  readonly element: HTMLElement
  readonly #plot: RatePlot
  readonly #transfers: Transfers
  readonly #files: FileBrowser
  readonly #disk: DiskView
  readonly #server: RemoteServer
  readonly #tabs: Tabs

  private constructor(server: RemoteServer, settings: PageSettings, notices: Notices) {
    this.#server = server
    this.#plot = new RatePlot(() => server.ping())
    this.#transfers = new Transfers((bytes) => this.#plot.moved(bytes))
    this.#disk = new DiskView({
      server,
      notices,
      transfers: this.#transfers,
      plot: this.#plot,
      hasBios: settings.hasBios,
    })
    this.#files = new FileBrowser({
      server,
      notices,
      transfers: this.#transfers,
      openDisk: (path) => {
        this.#tabs.select(1)
        void this.#disk.open(path)
      },
    })
    this.#tabs = new Tabs([
      { label: 'Files', content: this.#files.element },
      { label: 'Disk', content: this.#disk.element },
    ])
    this.element = el(
      'div',
      {},
      serverCard(server.facts, () => this.close()),
      this.#tabs.list,
      this.#tabs.panels,
      this.#transfers.element,
      this.#plot.element,
    )
  }

  /** @throws what opening the sftp subsystem throws */
  static async open(server: RemoteServer, settings: PageSettings, notices: Notices): Promise<Workspace> {
    void prepareDownloads()
    const folder = await server.openFiles()
    const workspace = new Workspace(server, settings, notices)
    await workspace.#files.show(folder)
    return workspace
  }

  /** Says goodbye to the server. */
  async close(): Promise<void> {
    this.#transfers.cancelAll()
    await this.#disk.close()
    await this.#server.disconnect()
  }

  /** The connection is over: nothing is asked of it any more. */
  ended(): void {
    this.#plot.stop()
    void this.#disk.close()
  }

  get isTransferring(): boolean {
    return this.#transfers.running > 0
  }
}

function serverCard(server: ServerFacts, disconnect: () => Promise<void>): HTMLElement {
  const facts: [string, string][] = [
    ['Server', safeText(server.identification)],
    ['Host key', `${server.hostKeyType} ${server.fingerprint}`],
    ['Key exchange', server.kex],
    ['Cipher', server.cipher],
    ['Logged in by', `${server.authentication} as ${safeText(server.user)}`],
  ]
  return el(
    'section',
    { class: 'card server', 'aria-label': 'Connection' },
    el('h2', {}, `Connected as ${safeText(server.user)}`),
    el(
      'details',
      {},
      el('summary', {}, `${safeText(server.identification)}, ${server.cipher}`),
      el(
        'dl',
        { class: 'facts' },
        ...facts.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]),
      ),
    ),
    button('Disconnect', disconnect),
  )
}

/** Tabs as WAI-ARIA's authoring practices have them: arrow keys move, one is in the tab order. */
class Tabs {
  readonly list = el('div', { role: 'tablist', 'aria-label': 'What to show', class: 'tabs' })
  readonly panels = el('div', {})
  readonly #tabs: HTMLButtonElement[] = []
  readonly #panels: HTMLElement[] = []

  constructor(tabs: readonly { readonly label: string; readonly content: HTMLElement }[]) {
    tabs.forEach(({ label, content }, i) => {
      const tab = el(
        'button',
        {
          type: 'button',
          role: 'tab',
          id: `tab-${i}`,
          'aria-controls': `panel-${i}`,
          onclick: () => this.select(i),
        },
        label,
      )
      const panel = el('div', { role: 'tabpanel', id: `panel-${i}`, 'aria-labelledby': `tab-${i}` }, content)
      this.#tabs.push(tab)
      this.#panels.push(panel)
    })
    this.list.append(...this.#tabs)
    this.panels.append(...this.#panels)
    this.list.addEventListener('keydown', ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key]
      if (step === undefined) return
      const at = this.#tabs.indexOf(document.activeElement as HTMLButtonElement)
      const next = (at + step + this.#tabs.length) % this.#tabs.length
      this.select(next)
      this.#tabs[next]!.focus()
    })
    this.select(0)
  }

  select(chosen: number): void {
    this.#tabs.forEach((tab, i) => {
      tab.setAttribute('aria-selected', String(i === chosen))
      tab.tabIndex = i === chosen ? 0 : -1
      this.#panels[i]!.hidden = i !== chosen
    })
  }
}
