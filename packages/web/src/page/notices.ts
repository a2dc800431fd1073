// What the user has to be told: one region that screen readers announce. Errors stay until they are closed.

import { safeText } from '@sshblock/transport/errors'
import { button, el } from './dom.ts'

export class Notices {
  readonly element = el('div', { class: 'notices', role: 'status', 'aria-live': 'polite' })

  /** Says what was tried and why it failed. Cancelled calls are nobody's error. */
  error(what: string, error: unknown): void {
    if (isCancelled(error)) return
    this.#show('error', `${what}: ${errorText(error)}`)
  }

  info(text: string): void {
    const notice = this.#show('info', text)
    setTimeout(() => notice.remove(), 8000)
  }

  clear(): void {
    this.element.replaceChildren()
  }

  #show(kind: 'error' | 'info', text: string): HTMLElement {
    const notice = el('div', { class: `notice ${kind}`, role: kind === 'error' ? 'alert' : undefined })
    notice.append(
      el('p', {}, text),
      button('Dismiss', () => notice.remove(), { class: 'quiet' }),
    )
    this.element.append(notice)
    return notice
  }
}

export function isCancelled(error: unknown): boolean {
  const { code, name } = error as { code?: unknown; name?: unknown }
  return code === 'ABORT_ERR' || name === 'AbortError'
}

/** A sentence for people. Errors of the packages say in their own message what their causes mean. */
export function errorText(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error)
  return safeText(text, 800)
}
