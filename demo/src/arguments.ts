// What the demo was asked to do. Errors name the argument and what was expected.

import { parseArgs } from 'node:util'

export interface DemoArguments {
  /** Location of an image on the user's own server; undefined: a private server of ours. */
  location: string | undefined
  write: boolean
  /** Bytes to create, or to work on. */
  size: number
  /** Decides the random places and bytes. */
  seed: number
}

export class ArgumentError extends Error {}

export const usage = `usage: npm run demo -- [ssh://user@host[:port]/path/to/image] [--write] [--size 64M] [--seed N]

Without a location: starts our own SSH server on loopback in a private folder, creates an image there, and works on it.
With a location: reads that image through your known_hosts, agent and keys. With --write it also writes a test pattern
into it and afterwards puts back what was there.

  --write      allow writing to the image
  --size SIZE  size of the image to create, or how much of it to use (K, M, G; default 64M)
  --seed N     which random places and bytes are used (default: by the clock; printed)`

export function parseDemoArguments(args: readonly string[]): DemoArguments | 'help' {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(args)
  } catch (error) {
    throw new ArgumentError(error instanceof Error ? error.message : String(error))
  }
  const { values, positionals } = parsed
  if (values.help === true) return 'help'
  if (positionals.length > 1)
    throw new ArgumentError(`expected one location, got ${positionals.length}: ${positionals.join(' ')}`)
  return {
    location: positionals[0],
    write: values.write ?? false,
    size: parseSize(values.size ?? '64M'),
    seed: values.seed === undefined ? Date.now() % 1_000_000 : parseSeed(values.seed),
  }
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      write: { type: 'boolean' },
      size: { type: 'string' },
      seed: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
}

const units = new Map([
  ['', 1],
  ['K', 1024],
  ['M', 1024 ** 2],
  ['G', 1024 ** 3],
])

/** '64M', '1G', '1048576': bytes, a multiple of 512 and at least 1 MiB. */
export function parseSize(text: string): number {
  const match = /^(\d+)([KMG]?)$/i.exec(text)
  const size = match === null ? Number.NaN : Number(match[1]) * units.get(match[2]!.toUpperCase())!
  if (!Number.isSafeInteger(size) || size < 1024 ** 2 || size % 512 !== 0) {
    throw new ArgumentError(
      `--size: expected a number with K, M or G, at least 1M and a multiple of 512 bytes, got ${JSON.stringify(text)}`,
    )
  }
  return size
}

function parseSeed(text: string): number {
  if (!/^\d{1,9}$/.test(text))
    throw new ArgumentError(`--seed: expected a number of at most 9 digits, got ${JSON.stringify(text)}`)
  return Number(text)
}
