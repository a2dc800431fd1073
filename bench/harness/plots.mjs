// A self-contained page: throughput over round-trip time, one line a tool, drawn as SVG from the stored rows. Both axes
// logarithmic, because the tools differ by factors.

const colours = ['#0a6', '#06c', '#c40', '#80c', '#a60', '#555', '#0aa', '#c08']
const width = 760
const height = 420
const margin = { left: 70, right: 200, top: 20, bottom: 50 }

/** @param {string} text */
const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)

/** @param {any[]} rows */
export function plotPage(rows) {
  const curves = rows.filter(({ curve }) => curve !== undefined)
  const body =
    curves.length === 0 ? '<p>No rows with a distance yet: npm run bench -- --only curve</p>' : chart(curves)
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Throughput over round-trip time</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}table{border-collapse:collapse}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}</style></head>
<body><h1>Throughput over round-trip time</h1>
<p>Reading one image sequentially, whole processes, medians; lines end where a tool was not measured.</p>
${body}
</body></html>
`
}

/** Tools with their points (round trip, MB/s). @param {any[]} rows */
function seriesOf(rows) {
  /** @type {Map<string, { at: number, value: number, least: number, most: number }[]>} */
  const series = new Map()
  for (const row of [...rows].sort((a, b) => a.curve.at - b.curve.at)) {
    for (const { name, value } of row.contestants) {
      if (value === undefined) continue
      const points = series.get(name) ?? []
      points.push({ at: row.curve.at, value: value.median, least: value.least, most: value.most })
      series.set(name, points)
    }
  }
  return series
}

/** @param {any[]} rows */
function chart(rows) {
  const series = seriesOf(rows)
  const all = [...series.values()].flat()
  const distances = [...new Set(all.map(({ at }) => at))].sort((a, b) => a - b)
  const top = 10 ** Math.ceil(Math.log10(Math.max(...all.map(({ most }) => most))))
  const bottom = 10 ** Math.floor(Math.log10(Math.min(...all.map(({ least }) => least))))
  // 0 ms has its place left of the first distance.
  const x = (/** @type {number} */ at) =>
    margin.left +
    (distances.indexOf(at) / Math.max(1, distances.length - 1)) * (width - margin.left - margin.right)
  const y = (/** @type {number} */ value) =>
    height -
    margin.bottom -
    (Math.log10(value / bottom) / Math.log10(top / bottom)) * (height - margin.top - margin.bottom)
  const parts = []
  for (let level = bottom; level <= top * 1.001; level *= 10) {
    parts.push(
      `<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${y(level)}" y2="${y(level)}"/>`,
    )
    parts.push(`<text x="${margin.left - 8}" y="${y(level) + 4}" text-anchor="end">${level}</text>`)
  }
  for (const at of distances)
    parts.push(`<text x="${x(at)}" y="${height - margin.bottom + 18}" text-anchor="middle">${at}</text>`)
  parts.push(
    `<text x="${(width - margin.right + margin.left) / 2}" y="${height - 8}" text-anchor="middle">round trip, ms</text>`,
  )
  parts.push(
    `<text x="14" y="${height / 2}" text-anchor="middle" transform="rotate(-90 14 ${height / 2})">MB/s</text>`,
  )
  let index = 0
  for (const [name, points] of series) {
    const colour = colours[index % colours.length]
    const line = points.map(({ at, value }) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(' ')
    parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${line}"/>`)
    for (const { at, value, least, most } of points) {
      parts.push(`<line stroke="${colour}" x1="${x(at)}" x2="${x(at)}" y1="${y(least)}" y2="${y(most)}"/>`)
      parts.push(
        `<circle cx="${x(at)}" cy="${y(value)}" r="3.5" fill="${colour}"><title>${escaped(name)}: ${value.toPrecision(3)} MB/s at ${at} ms</title></circle>`,
      )
    }
    const legend = margin.top + 14 + 20 * index++
    parts.push(
      `<rect x="${width - margin.right + 20}" y="${legend - 9}" width="12" height="12" fill="${colour}"/>`,
    )
    parts.push(`<text x="${width - margin.right + 38}" y="${legend + 1}">${escaped(name)}</text>`)
  }
  const header = `<tr><th>MB/s at</th>${distances.map((at) => `<th>${at} ms</th>`).join('')}</tr>`
  const body = [...series].map(([name, points]) => {
    const cells = distances.map((at) => points.find((point) => point.at === at)?.value.toPrecision(3) ?? '–')
    return `<tr><td>${escaped(name)}</td>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`
  })
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Throughput over round-trip time">${parts.join('')}</svg>
<table>${header}${body.join('')}</table>`
}
