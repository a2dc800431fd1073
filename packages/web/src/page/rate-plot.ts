// Throughput and round trip over the last minute, as two lines. Values are sampled twice a second while the page is seen.

import { formatRate } from '../format.ts'
import { el, svg } from './dom.ts'

const samples = 120
const sampleMs = 500
const width = 600
const height = 90

export class RatePlot {
  readonly element: HTMLElement
  readonly #ping: () => Promise<number>
  readonly #rates: number[] = []
  readonly #trips: number[] = []
  readonly #rateLine = svg('polyline', { class: 'plot-line rate' })
  readonly #tripLine = svg('polyline', { class: 'plot-line trip' })
  readonly #rateText = el('dd', {})
  readonly #tripText = el('dd', {})
  readonly #timer: ReturnType<typeof setInterval>
  #bytes = 0
  #sampledAt = performance.now()
  #pinging = false
  #lastTrip: number | undefined

  /** `ping` measures a round trip in milliseconds. */
  constructor(ping: () => Promise<number>) {
    this.#ping = ping
    const chart = svg('svg', {
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: 'none',
      class: 'plot',
      'aria-hidden': 'true',
    })
    chart.append(this.#rateLine, this.#tripLine)
    this.element = el(
      'section',
      { class: 'card plot-view', 'aria-label': 'Throughput and round trip' },
      el(
        'dl',
        { class: 'plot-values' },
        el('div', { class: 'rate' }, el('dt', {}, 'Throughput'), this.#rateText),
        el('div', { class: 'trip' }, el('dt', {}, 'Round trip'), this.#tripText),
      ),
    )
    this.element.append(chart)
    this.#timer = setInterval(() => this.#sample(), sampleMs)
    this.#sample()
  }

  /** Bytes that moved, in either direction. */
  moved(bytes: number): void {
    this.#bytes += bytes
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #sample(): void {
    const now = performance.now()
    const seconds = Math.max(0.001, (now - this.#sampledAt) / 1000)
    push(this.#rates, this.#bytes / seconds)
    this.#bytes = 0
    this.#sampledAt = now
    if (this.#lastTrip !== undefined) push(this.#trips, this.#lastTrip)
    if (document.hidden) return
    void this.#measure()
    const rate = this.#rates.at(-1) ?? 0
    this.#rateText.textContent = `${formatRate(rate)} (most ${formatRate(Math.max(...this.#rates))})`
    this.#tripText.textContent =
      this.#lastTrip === undefined ? 'measuring' : `${this.#lastTrip.toFixed(1)} ms`
    draw(this.#rateLine, this.#rates)
    draw(this.#tripLine, this.#trips)
  }

  async #measure(): Promise<void> {
    if (this.#pinging) return
    this.#pinging = true
    try {
      this.#lastTrip = await this.#ping()
    } catch {
      // The connection is over, which the page is told elsewhere.
    } finally {
      this.#pinging = false
    }
  }
}

function push(values: number[], value: number): void {
  values.push(value)
  if (values.length > samples) values.shift()
}

/** The newest value at the right, the largest one near the top. */
function draw(line: SVGElement, values: readonly number[]): void {
  const most = Math.max(...values, 1e-9)
  const points = values.map((value, i) => {
    const x = width - ((values.length - 1 - i) * width) / (samples - 1)
    const y = height - 4 - (value / most) * (height - 10)
    return `${x.toFixed(1)},${y.toFixed(1)}`
  })
  line.setAttribute('points', points.join(' '))
}
