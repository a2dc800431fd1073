// Bytes of the disk as numbers and as text, a page of 512 at a time.

import type { ReadableBlocks } from '@sshblock/blockdev/adapters'
import { button, el, field } from './dom.ts'
import type { Notices } from './notices.ts'

const rowBytes = 16
const pageBytes = 512

export class HexView {
  readonly element: HTMLElement
  readonly #disk: ReadableBlocks
  readonly #notices: Notices
  readonly #text = el('pre', { class: 'hex', tabindex: 0, 'aria-label': 'Bytes of the disk' })
  readonly #input = el('input', { value: '0', spellcheck: 'false', inputmode: 'text' })
  #offset = 0
  #shown = 0

  constructor(disk: ReadableBlocks, notices: Notices) {
    this.#disk = disk
    this.#notices = notices
    const form = el(
      'form',
      { class: 'hex-form' },
      field('Offset', this.#input, 'Bytes: 1048576, 0x100000, or s2048 for a sector.'),
      el('button', { type: 'submit' }, 'Show'),
      button('Previous', () => this.show(this.#offset - pageBytes), { 'aria-label': 'Previous 512 bytes' }),
      button('Next', () => this.show(this.#offset + pageBytes), { 'aria-label': 'Next 512 bytes' }),
    )
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      const offset = parseOffset(this.#input.value)
      if (offset === undefined || offset >= disk.size)
        this.#notices.error('That is no offset of this disk', new Error(`it has ${disk.size} bytes`))
      else void this.show(offset)
    })
    this.element = el('section', { 'aria-label': 'Hex view' }, form, this.#text)
  }

  /** Shows the page that the offset is in. */
  async show(offset: number): Promise<void> {
    const last = Math.max(0, Math.ceil(this.#disk.size / pageBytes) - 1) * pageBytes
    const at = Math.min(last, Math.max(0, offset - (offset % pageBytes)))
    const number = ++this.#shown
    try {
      const bytes = new Uint8Array(Math.min(pageBytes, this.#disk.size - at))
      await this.#disk.read(at, bytes)
      // An older answer must not stand over a newer one.
      if (number !== this.#shown) return
      this.#offset = at
      this.#input.value = `0x${at.toString(16)}`
      this.#text.textContent = hexLines(bytes, at)
    } catch (error) {
      this.#notices.error('These bytes cannot be read', error)
    }
  }
}

/** As `hexdump -C` prints it. */
export function hexLines(bytes: Uint8Array, offset: number): string {
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += rowBytes) {
    const row = [...bytes.subarray(at, at + rowBytes)]
    const numbers = row.map((byte) => byte.toString(16).padStart(2, '0'))
    const half = (from: number): string =>
      numbers
        .slice(from, from + 8)
        .join(' ')
        .padEnd(23)
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${(offset + at).toString(16).padStart(10, '0')}  ${half(0)}  ${half(8)}  |${text}|`)
  }
  return lines.join('\n')
}

/** '4096', '0x1000', 's8' for sectors of 512 bytes; undefined where it is none of these. */
export function parseOffset(text: string): number | undefined {
  const match = /^\s*(?:(0x[0-9a-f]+)|s(\d+)|(\d+))\s*$/i.exec(text)
  if (match === null) return undefined
  const value = match[2] === undefined ? Number(match[1] ?? match[3]) : Number(match[2]) * 512
  return Number.isSafeInteger(value) ? value : undefined
}
