// A folder as a table: what a folder on the server and one inside an image have in common.

import { safeText } from '@sshblock/transport/errors'
import { formatBytes } from '../format.ts'
import { button, el, field } from './dom.ts'

export interface TableEntry {
  readonly name: string
  readonly isFolder: boolean
  readonly kind: string
  readonly size: number | undefined
  readonly modified: Date | undefined
  /** Opens a folder, or does what is usual with a file. */
  readonly open: () => void
  /** Made when the row is. */
  readonly actions: () => readonly HTMLElement[]
}

const dateFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

/** Rows that are made in a frame: to lay them out is most of the work, and 50 ms is what a page may take for anything. */
const rowsAtOnce = 25
/** Rows that are shown unasked, and more of them for each push of the button. */
const rowsInPart = 200

/**
 * A long folder is shown in parts: a button for the next one, and a filter that looks through all of it.
 * @param more how many entries there are that are not in `entries`
 */
export function entryTable(caption: string, entries: readonly TableEntry[], more = 0): HTMLElement {
  if (entries.length === 0) return el('p', { class: 'empty' }, 'This folder is empty.')
  const body = el('tbody', {})
  const rest = el('p', { class: 'hint rest' })
  const showNext = button('', () => {
    const last = body.lastElementChild
    showUpTo(body.childElementCount + rowsInPart)
    // The button may be gone.
    last?.nextElementSibling?.querySelector('button')?.focus()
  })
  let matching = entries
  let frame = 0
  const showUpTo = (count: number): void => {
    cancelAnimationFrame(frame)
    const shown = body.childElementCount
    const end = Math.min(count, matching.length)
    body.append(...matching.slice(shown, Math.min(end, shown + rowsAtOnce)).map(entryRow))
    if (body.childElementCount < end) frame = requestAnimationFrame(() => showUpTo(count))
    const left = matching.length - end
    showNext.hidden = left === 0
    showNext.textContent = `Show ${Math.min(left, rowsInPart)} more of ${left}`
    rest.textContent =
      matching.length === 0 ? 'No name here has that in it.' : more > 0 ? `${more} more are not shown.` : ''
  }
  const search = (wanted: string): void => {
    const text = wanted.trim().toLowerCase()
    matching = entries.filter(({ name }) => name.toLowerCase().includes(text))
    body.replaceChildren()
    showUpTo(rowsInPart)
  }
  showUpTo(rowsInPart)
  const table = el(
    'table',
    { class: 'entries' },
    el('caption', { class: 'visually-hidden' }, caption),
    tableHead(),
    body,
  )
  const region = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption }, table)
  const filter = entries.length > rowsInPart ? filterField(search) : undefined
  return el('div', {}, filter, region, el('div', { class: 'actions' }, showNext), rest)
}

function filterField(search: (text: string) => void): HTMLElement {
  const input = el('input', { type: 'search', spellcheck: 'false', autocomplete: 'off' })
  input.addEventListener('input', () => search(input.value))
  return field('Filter names', input)
}

function tableHead(): HTMLElement {
  return el(
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
}

function entryRow(entry: TableEntry): HTMLElement {
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
    el('td', { class: 'row-actions' }, ...entry.actions()),
  )
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
