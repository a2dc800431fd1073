// A folder as a table: what a folder on the server and one inside an image have in common.

import { safeText } from '@sshblock/transport/errors'
import { formatBytes } from '../format.ts'
import { el } from './dom.ts'

export interface TableEntry {
  readonly name: string
  readonly isFolder: boolean
  readonly kind: string
  readonly size: number | undefined
  readonly modified: Date | undefined
  /** Opens a folder, or does what is usual with a file. */
  readonly open: () => void
  readonly actions: readonly HTMLElement[]
}

const dateFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

export function entryTable(caption: string, entries: readonly TableEntry[]): HTMLElement {
  const rows = entries.map((entry) => {
    const name = safeText(entry.name)
    const size = entry.isFolder || entry.size === undefined ? '' : formatBytes(entry.size)
    return el(
      'tr',
      { class: entry.isFolder ? 'folder' : 'file' },
      el(
        'th',
        { scope: 'row' },
        el(
          'button',
          {
            type: 'button',
            class: 'name',
            'aria-label': `${entry.isFolder ? 'Open folder' : 'Download'} ${name}`,
            onclick: entry.open,
          },
          el('span', {
            class: `icon ${entry.isFolder ? 'icon-folder' : 'icon-file'}`,
            'aria-hidden': 'true',
          }),
          name,
        ),
      ),
      el('td', {}, entry.isFolder ? '' : entry.kind === 'file' ? '' : entry.kind),
      el('td', { class: 'number' }, size),
      el('td', { class: 'date' }, entry.modified === undefined ? '' : dateFormat.format(entry.modified)),
      el('td', { class: 'row-actions' }, ...entry.actions),
    )
  })
  const head = el(
    'thead',
    {},
    el(
      'tr',
      {},
      el('th', { scope: 'col' }, 'Name'),
      el('th', { scope: 'col' }, el('span', { class: 'visually-hidden' }, 'Kind')),
      el('th', { scope: 'col', class: 'number' }, 'Size'),
      el('th', { scope: 'col', class: 'date' }, 'Modified'),
      el('th', { scope: 'col' }, el('span', { class: 'visually-hidden' }, 'Actions')),
    ),
  )
  const table = el(
    'table',
    { class: 'entries' },
    el('caption', { class: 'visually-hidden' }, caption),
    head,
    el('tbody', {}, ...rows),
  )
  return entries.length === 0
    ? el('p', { class: 'empty' }, 'This folder is empty.')
    : el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption }, table)
}

/** The way to a folder, each step a button. */
export function breadcrumb(
  label: string,
  steps: readonly { readonly name: string; readonly open: () => void }[],
): HTMLElement {
  const items = steps.map(({ name, open }, i) =>
    el(
      'li',
      {},
      i === steps.length - 1
        ? el('span', { 'aria-current': 'location' }, safeText(name))
        : el('button', { type: 'button', class: 'link', onclick: open }, safeText(name)),
    ),
  )
  return el('nav', { 'aria-label': label }, el('ol', { class: 'breadcrumb' }, ...items))
}
