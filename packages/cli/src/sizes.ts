// Sizes and places in bytes, as people write them, and as they want to read them.

import { InvalidArgumentError } from 'commander'

const units = new Map([
  ['', 1],
  ['k', 1024],
  ['m', 1024 ** 2],
  ['g', 1024 ** 3],
  ['t', 1024 ** 4],
])

/** '4096', '512K', '10G', '1.5T', '64MiB': powers of 1024. For commander. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text)
  const bytes =
    match === null ? Number.NaN : Number(match[1]) * (units.get(match[2]!.toLowerCase()) ?? Number.NaN)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new InvalidArgumentError('Expected bytes, or a number with K, M, G or T, such as 10G.')
}

/** A whole number from `least` to `most`. For commander. */
export function parseWhole(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`Expected a number from ${least} to ${most}.`)
  }
}

/** Seconds, also parts of one. For commander. */
export function parseSeconds(text: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (seconds <= 86_400) return seconds
  throw new InvalidArgumentError('Expected seconds, at most 86400.')
}

/** '1536 bytes (1.5 KiB)', '17 bytes'. */
export function exactSizeText(bytes: number): string {
  return bytes < 1024 ? sizeText(bytes) : `${bytes} bytes (${sizeText(bytes)})`
}

/** '10 GiB', '1.5 MiB', '17 bytes'. */
export function sizeText(bytes: number): string {
  const names = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < names.length - 1) {
    value /= 1024
    unit++
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${names[unit]}`
}
