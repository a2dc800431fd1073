// Uploads and downloads under way: a list with progress, speed and a way to stop each.

import { formatBytes, formatDuration, formatRate } from '../format.ts'
import type { TransferProgress } from '../session-worker/calls.ts'
import { button, el } from './dom.ts'
import { errorText, isCancelled } from './notices.ts'

export interface TransferTask {
  readonly label: string
  readonly totalBytes: number | undefined
  readonly run: (signal: AbortSignal, onProgress: (progress: TransferProgress) => void) => Promise<void>
}

/** How often what is shown is renewed, in milliseconds. */
const refreshMs = 200

export class Transfers {
  readonly element: HTMLElement
  readonly #list = el('ul', { class: 'transfers' })
  readonly #onBytes: (bytes: number) => void
  readonly #running = new Set<AbortController>()

  /** `onBytes` is told what moved, for the plot. */
  constructor(onBytes: (bytes: number) => void) {
    this.#onBytes = onBytes
    this.element = el('section', { 'aria-label': 'Transfers', class: 'card', hidden: true })
    this.element.append(el('h3', {}, 'Transfers'), this.#list)
  }

  get running(): number {
    return this.#running.size
  }

  /** Runs a transfer and shows it. Resolves to whether it succeeded; never rejects. */
  async run(task: TransferTask): Promise<boolean> {
    const abort = new AbortController()
    const bar = el('progress', { max: 1, 'aria-label': task.label })
    const status = el('span', { class: 'transfer-status' }, 'starting')
    const stop = button('Cancel', () => abort.abort(), {
      class: 'quiet',
      'aria-label': `Cancel ${task.label}`,
    })
    const item = el('li', {}, el('span', { class: 'transfer-name' }, task.label), bar, status, stop)
    this.#list.prepend(item)
    this.element.hidden = false
    this.#running.add(abort)
    const startedAt = performance.now()
    let shownAt = 0
    let bytes = 0
    const onProgress = ({ transferredBytes, totalBytes = task.totalBytes }: TransferProgress): void => {
      this.#onBytes(transferredBytes - bytes)
      bytes = transferredBytes
      const now = performance.now()
      if (now - shownAt < refreshMs) return
      shownAt = now
      const seconds = (now - startedAt) / 1000
      const rate = bytes / seconds
      if (totalBytes !== undefined && totalBytes > 0) bar.value = bytes / totalBytes
      const left = totalBytes === undefined ? '' : `, ${formatDuration((totalBytes - bytes) / rate)} left`
      const of = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`
      status.textContent = `${formatBytes(bytes)}${of}, ${formatRate(rate)}${left}`
    }
    const finish = (text: string, kind: string): void => {
      status.textContent = text
      item.className = kind
      bar.remove()
      stop.replaceWith(
        button('Remove', () => this.#remove(item), {
          class: 'quiet',
          'aria-label': `Remove ${task.label} from the list`,
        }),
      )
    }
    try {
      await task.run(abort.signal, onProgress)
      const seconds = (performance.now() - startedAt) / 1000
      const time = seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds)
      finish(`done: ${formatBytes(bytes)} in ${time}`, 'done')
      return true
    } catch (error) {
      if (isCancelled(error) || abort.signal.aborted)
        finish(`cancelled after ${formatBytes(bytes)}`, 'cancelled')
      else finish(`failed: ${errorText(error)}`, 'failed')
      return false
    } finally {
      this.#running.delete(abort)
    }
  }

  cancelAll(): void {
    for (const abort of this.#running) abort.abort()
  }

  #remove(item: HTMLElement): void {
    item.remove()
    this.element.hidden = this.#list.childElementCount === 0
  }
}
