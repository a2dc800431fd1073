// What a row came to: medians, spread, ratios to each peer, goals; and the same as Markdown.

import { median, pairedRatio, summary } from './statistics.mjs'

const gibibyte = 1024 ** 3

/**
 * @typedef {{ of: string, peer?: string, atLeast?: number, atMost?: number, cpuAtMost?: number,
 *   value?: { atLeast?: number, atMost?: number } }} Goal
 */

/** @param {any} row @param {{ name: string, ours?: boolean, missing?: string, samples: any[] }[]} measured */
export function evaluate(row, measured) {
  const contestants = measured.map(({ name, ours = false, missing, samples }) => {
    const of = (/** @type {string} */ key) => samples.map((sample) => sample?.[key])
    const cpu = samples.map((sample) =>
      sample?.cpuSeconds === undefined || !sample.bytes
        ? undefined
        : (sample.cpuSeconds * gibibyte) / sample.bytes,
    )
    return {
      name,
      ours,
      ...(missing === undefined ? {} : { missing }),
      value: summary(of('value')),
      cpuSecondsPerGiB: summary(cpu),
      peakRssMiB: summary(
        of('rssBytes').map((bytes) => (bytes === undefined ? undefined : bytes / 1024 ** 2)),
      ),
      samples: samples.map(({ output, ...sample }) => sample),
      cpu,
    }
  })
  const find = (/** @type {string} */ name) => contestants.find((contestant) => contestant.name === name)
  const values = (/** @type {any} */ contestant) =>
    contestant?.samples.map((/** @type {any} */ sample) => sample.value) ?? []
  const goals = row.goals.map((/** @type {Goal} */ goal) => {
    const ours = find(goal.of)
    const theirs = goal.peer === undefined ? undefined : find(goal.peer)
    let reached
    if (goal.value !== undefined) reached = median(values(ours))
    else if (goal.cpuAtMost !== undefined) reached = pairedRatio(ours?.cpu ?? [], theirs?.cpu ?? [])
    else reached = pairedRatio(values(ours), values(theirs))
    const atLeast = goal.atLeast ?? goal.value?.atLeast
    const atMost = goal.atMost ?? goal.cpuAtMost ?? goal.value?.atMost
    const met =
      reached === undefined || Number.isNaN(reached)
        ? undefined
        : (atLeast === undefined || reached >= atLeast) && (atMost === undefined || reached <= atMost)
    return { ...goal, reached, met }
  })
  const ratios = contestants
    .filter(({ ours }) => ours)
    .flatMap((ours) =>
      contestants
        .filter((theirs) => !theirs.ours && theirs.value !== undefined)
        .map((theirs) => ({
          of: ours.name,
          peer: theirs.name,
          ratio: pairedRatio(values(ours), values(theirs)),
        })),
    )
  const { name, title, unit, higherIsBetter, curve, limits } = row
  return {
    ...{ name, title, unit, higherIsBetter, curve, limits },
    contestants: contestants.map(({ cpu, ...rest }) => rest),
    ratios,
    goals,
  }
}

/** @param {number | undefined} value @param {number} [digits] */
function shown(value, digits = 3) {
  if (value === undefined || Number.isNaN(value)) return '–'
  return value >= 1000 ? value.toFixed(0) : `${Number(value.toPrecision(digits))}`
}

/** @param {any} goal */
function goalText(goal) {
  const what = goal.cpuAtMost !== undefined ? 'CPU s/GiB against' : goal.peer === undefined ? '' : 'against'
  const wanted = goal.atLeast ?? goal.value?.atLeast
  const limit = goal.atMost ?? goal.cpuAtMost ?? goal.value?.atMost
  const bound = wanted === undefined ? `≤ ${limit}` : `≥ ${wanted}`
  const times = goal.peer === undefined ? '' : ' x'
  const verdict = goal.met === undefined ? 'not measured' : goal.met ? 'reached' : 'MISSED'
  return `- ${goal.of} ${what} ${goal.peer ?? ''}: ${shown(goal.reached)}${times}, wanted ${bound}${times}: ${verdict}`.replace(
    / {2,}/g,
    ' ',
  )
}

/** One row as Markdown. @param {any} result */
export function rowMarkdown(result) {
  const lines = [
    `### ${result.title}`,
    '',
    `\`${result.name}\`, ${result.unit}, ${result.higherIsBetter ? 'more' : 'less'} is better; ${result.pairs} round${result.pairs === 1 ? '' : 's'}, ${result.date}`,
    '',
    `| | median | spread | CPU s/GiB | peak RSS, MiB |`,
    `| --- | ---: | ---: | ---: | ---: |`,
  ]
  for (const { name, missing, value, cpuSecondsPerGiB, peakRssMiB } of result.contestants) {
    if (missing !== undefined) lines.push(`| ${name} | ${missing} | | | |`)
    else
      lines.push(
        `| ${name} | ${shown(value?.median)} | ${shown(value?.least)} to ${shown(value?.most)} | ${shown(cpuSecondsPerGiB?.median)} | ${shown(peakRssMiB?.median)} |`,
      )
  }
  if (result.ratios.length > 0) {
    lines.push('', 'Ratios of the same rounds (median):', '')
    for (const { of, peer, ratio } of result.ratios) lines.push(`- ${of} / ${peer}: ${shown(ratio)}`)
  }
  if (result.goals.length > 0) lines.push('', 'Goals:', '', ...result.goals.map(goalText))
  return `${lines.join('\n')}\n`
}
