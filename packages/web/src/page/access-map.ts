// The disk as a grid of cells, coloured by what happened there. Drawn on a canvas at most once a frame; said in words
// beside it, for those who do not see it.

import { formatBytes } from '../format.ts'
import { blockState, type DiskMeter } from './disk-meter.ts'
import { el } from './dom.ts'

const columns = 64
const maxRows = 24

export class AccessMap {
  readonly element: HTMLElement
  readonly #canvas = el('canvas', { role: 'img', class: 'map' })
  readonly #words = el('p', { class: 'hint' })
  readonly #meter: DiskMeter
  readonly #size: number
  readonly #cellPixels: number
  #scheduled = false

  constructor(meter: DiskMeter, size: number) {
    this.#meter = meter
    this.#size = size
    // A small disk gets larger cells.
    this.#cellPixels = meter.states.length <= 8 * columns ? 14 : 10
    const rows = Math.min(maxRows, Math.ceil(meter.states.length / columns))
    this.#canvas.width = columns * this.#cellPixels
    this.#canvas.height = Math.max(1, rows) * this.#cellPixels
    const legend = (
      [
        ['read', 'read'],
        ['ahead', 'fetched ahead'],
        ['written', 'written, not sent yet or committed'],
        ['untouched', 'not touched'],
      ] as const
    ).map(([kind, text]) =>
      el('li', {}, el('span', { class: `swatch ${kind}`, 'aria-hidden': 'true' }), text),
    )
    this.element = el(
      'section',
      { class: 'map-view', 'aria-label': 'Map of the disk' },
      el('h3', {}, 'What was fetched'),
      this.#canvas,
      el('ul', { class: 'legend' }, ...legend),
      this.#words,
    )
    this.update()
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.update())
  }

  /** Draws anew in the next frame. */
  update(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    requestAnimationFrame(() => {
      this.#scheduled = false
      this.#draw()
    })
  }

  #draw(): void {
    const { states, readBytes, aheadBytes, fetches } = this.#meter
    const context = this.#canvas.getContext('2d')
    if (context === null) return
    const style = getComputedStyle(this.#canvas)
    const colours = ['untouched', 'ahead', 'read', 'written'].map((name) =>
      style.getPropertyValue(`--map-${name}`).trim(),
    )
    const cells = Math.min(states.length, columns * maxRows)
    const perCell = states.length / cells
    const cellPixels = this.#cellPixels
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height)
    for (let cell = 0; cell < cells; cell++) {
      const from = Math.floor(cell * perCell)
      const to = Math.max(from + 1, Math.floor((cell + 1) * perCell))
      let state: number = blockState.untouched
      for (let i = from; i < to; i++) state = Math.max(state, states[i]!)
      context.fillStyle = colours[state]!
      const x = (cell % columns) * cellPixels
      const y = Math.floor(cell / columns) * cellPixels
      context.fillRect(x, y, cellPixels - 1, cellPixels - 1)
    }
    const fetched = readBytes + aheadBytes
    const share = this.#size === 0 ? 0 : (100 * fetched) / this.#size
    const text = `${formatBytes(fetched)} of ${formatBytes(this.#size)} fetched (${share.toFixed(1)} %) in ${fetches} reads, ${formatBytes(aheadBytes)} of it ahead.`
    this.#words.textContent = text
    this.#canvas.setAttribute('aria-label', `Map of the disk: ${text}`)
  }
}
