// Arithmetic on samples.

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >>> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Median and extremes; undefined where there is nothing. @param {(number | undefined)[]} values */
export function summary(values) {
  const known = values.filter((value) => value !== undefined && Number.isFinite(value))
  if (known.length === 0) return undefined
  return { median: median(known), least: Math.min(...known), most: Math.max(...known) }
}

/** Median of the ratios of samples that were taken in the same round. @param {(number | undefined)[]} ours @param {(number | undefined)[]} theirs */
export function pairedRatio(ours, theirs) {
  const ratios = ours.flatMap((value, round) => {
    const other = theirs[round]
    return value === undefined || other === undefined || other === 0 ? [] : [value / other]
  })
  return ratios.length === 0 ? undefined : median(ratios)
}
