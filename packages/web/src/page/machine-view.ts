// The emulator in the page, with the disk from the server. Its writes stay here until they are committed.

import type { BlockDevice } from '@sshblock/blockdev'
import { type BlockCache, toV86Disk, type V86Disk } from '@sshblock/blockdev/adapters'
import type { V86 } from 'v86'
import { biosPath, vgaBiosPath } from '../demo-settings.ts'
import { formatBytes } from '../format.ts'
import type { DiskMeter } from './disk-meter.ts'
import { button, el, field } from './dom.ts'
import { errorText, type Notices } from './notices.ts'

export interface MachineParts {
  readonly device: BlockDevice
  readonly cache: BlockCache
  readonly meter: DiskMeter
  readonly notices: Notices
  readonly hasBios: boolean
}

/** How often the size of the overlay is shown anew, in milliseconds. */
const refreshMs = 500

export class MachineView {
  readonly element: HTMLElement
  readonly #parts: MachineParts
  readonly #screen = el('div', {
    class: 'screen',
    tabindex: 0,
    role: 'application',
    'aria-label': 'Screen of the machine; keys go to it while it has the focus',
    hidden: true,
  })
  readonly #status = el('p', { class: 'hint', role: 'status' })
  readonly #memory = el(
    'select',
    {},
    ...[32, 64, 128, 256, 512].map((size) =>
      el('option', { value: size, selected: size === 64 }, `${size} MiB`),
    ),
  )
  readonly #boot: HTMLButtonElement
  readonly #stop: HTMLButtonElement
  readonly #commit: HTMLButtonElement
  readonly #progress = el('progress', { max: 1, hidden: true, 'aria-label': 'Commit' })
  #emulator: V86 | undefined
  #disk: V86Disk | undefined
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(parts: MachineParts) {
    this.#parts = parts
    this.#boot = button('Boot this disk', () => this.boot(), { class: 'primary' })
    this.#stop = button('Power off', () => this.powerOff())
    this.#commit = button('Commit writes to the server', () => this.#commitWrites())
    this.#boot.disabled = !parts.hasBios
    this.#stop.hidden = true
    this.#commit.hidden = true
    this.element = el(
      'section',
      { class: 'card machine', 'aria-label': 'Machine' },
      el('h3', {}, 'Boot it here'),
      el(
        'p',
        { class: 'hint' },
        parts.hasBios
          ? 'The v86 emulator runs in this page. Blocks come from the server when the machine touches them; what it writes stays in this page until you commit it.'
          : 'The server of this page has found no BIOS. On Debian: apt-get install seabios, or start it with --bios and --vga-bios.',
      ),
      el('div', { class: 'actions' }, field('Memory', this.#memory), this.#boot, this.#stop, this.#commit),
      this.#progress,
      this.#status,
      this.#screen,
    )
  }

  async boot(): Promise<void> {
    const { device, cache, meter, notices } = this.#parts
    await this.powerOff()
    const disk = toV86Disk(device, {
      cache,
      onReadError: (error, attempt, retryMs) => {
        this.#status.textContent = `The machine waits: reading failed ${attempt} times, next try in ${retryMs / 1000} s. ${errorText(error)}`
      },
    })
    const watched = watch(disk, meter)
    try {
      const { V86 } = await import('v86')
      this.#screen.replaceChildren(el('div', { class: 'text-screen' }), el('canvas', { hidden: true }))
      this.#screen.hidden = false
      this.#disk = disk
      this.#emulator = new V86({
        wasm_path: '/v86.wasm',
        bios: { url: biosPath },
        vga_bios: { url: vgaBiosPath },
        memory_size: Number(this.#memory.value) * 1024 * 1024,
        vga_memory_size: 8 * 1024 * 1024,
        // v86 takes any object with the methods of its own disks; its types know files and URLs only.
        hda: watched as unknown as { buffer: ArrayBuffer },
        screen_container: this.#screen,
        autostart: true,
        disable_speaker: true,
        disable_mouse: true,
      })
    } catch (error) {
      notices.error('The machine cannot be started', error)
      await this.powerOff()
      return
    }
    this.#boot.textContent = 'Boot again'
    this.#stop.hidden = false
    this.#commit.hidden = false
    this.#keysOnlyWithFocus()
    this.#screen.focus()
    this.#timer = setInterval(() => this.#refresh(), refreshMs)
    this.#refresh()
  }

  async powerOff(): Promise<void> {
    clearInterval(this.#timer)
    const [emulator, disk] = [this.#emulator, this.#disk]
    this.#emulator = undefined
    this.#disk = undefined
    disk?.close()
    this.#stop.hidden = true
    this.#commit.hidden = true
    this.#screen.hidden = true
    this.#status.textContent = ''
    await emulator?.destroy()
  }

  /** What the machine shows in text mode, line by line. */
  screenText(): string {
    const adapter = (
      this.#emulator as unknown as { screen_adapter?: { get_text_screen(): string[] } } | undefined
    )?.screen_adapter
    return (
      adapter
        ?.get_text_screen()
        .map((line) => line.trimEnd())
        .join('\n') ?? ''
    )
  }

  /** v86 listens on the whole window: keys are the page's while the screen has no focus. */
  #keysOnlyWithFocus(): void {
    const update = (): void => this.#emulator?.keyboard_set_enabled(document.activeElement === this.#screen)
    this.#screen.onfocus = update
    this.#screen.onblur = update
    this.#screen.onclick = () => this.#screen.focus()
    update()
  }

  #refresh(): void {
    const written = this.#disk?.uncommittedBytes ?? 0
    this.#commit.disabled = written === 0 || this.#parts.device.readOnly
    const where = this.#parts.device.readOnly
      ? ' The disk was opened read-only: they cannot be committed.'
      : ''
    this.#status.textContent =
      written === 0
        ? 'Running. Nothing was written.'
        : `Running. ${formatBytes(written)} written and not on the server.${where}`
  }

  async #commitWrites(): Promise<void> {
    const disk = this.#disk
    if (disk === undefined) return
    this.#progress.hidden = false
    try {
      const bytes = await disk.commit({
        onProgress: ({ writtenBytes, totalBytes }) => {
          this.#progress.value = writtenBytes / totalBytes
        },
      })
      this.#parts.notices.info(`${formatBytes(bytes)} are on the server now.`)
    } catch (error) {
      this.#parts.notices.error('The commit failed; nothing that the machine wrote is lost', error)
    } finally {
      this.#progress.hidden = true
    }
  }
}

/** Tells the map what the machine writes; what it reads, the worker tells. */
function watch(disk: V86Disk, meter: DiskMeter): V86Disk {
  const set = disk.set.bind(disk)
  disk.set = (offset, data, done) => {
    meter.written(offset, data.length)
    set(offset, data, done)
  }
  return disk
}
