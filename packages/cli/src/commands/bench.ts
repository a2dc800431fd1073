// `sshblock bench`: what a location gives: round trip, throughput, latency. Reading leaves an image alone; --write works on
// a scratch file that must not exist, and is removed at the end.

import { type BlockDevice, readRange, writeRange } from '@sshblock/blockdev'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { type LossFlags, openLastingImage, withLoss } from '../connection/lasting-image.ts'
import { type ImageFlags, openServer, type Server } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import { type Invocation, printJson, printLine } from '../invocation.ts'
import { parseSize, parseWhole, sizeText } from '../sizes.ts'
import { parseRemoteTarget, type RemoteTarget } from '../target.ts'
import { withUnsafeFlush } from './image-options.ts'

interface BenchFlags extends ConnectionFlags, ImageFlags, LossFlags {
  size: number
  count: number
  write?: boolean
  json?: boolean
}

export interface BenchResult {
  readonly name: string
  readonly bytesPerSecond?: number
  readonly operationsPerSecond?: number
  /** Milliseconds. */
  readonly median?: number
  readonly worst?: number
}

const blockBytes = 4096
const inFlight = 32

export function benchCommand(invocation: Invocation): Command {
  return withLoss(withUnsafeFlush(withConnection(new Command('bench'))))
    .description(
      'Measures reads of an image. With --write a scratch file of that name is made, written, read and removed.',
    )
    .argument('<location>', 'host:path or ssh://user@host/path')
    .option('--size <bytes>', 'how much to read and write in a row', parseSize, 64 * 1024 * 1024)
    .option('--count <n>', 'how many random requests of 4 KiB', parseWhole(1, 1_000_000), 500)
    .option('--write', 'measure writes too, on a file that does not exist yet')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  sshblock bench myhost:/images/a.img
  sshblock bench --write --size 256M --json myhost:/tmp/scratch.img`,
    )
    .action(async (location: string, flags: BenchFlags) => {
      const target = parseRemoteTarget(location)
      await using server = await openServer(target, flags, invocation)
      const results = [await roundTrip(server, invocation)]
      if (flags.write === true) results.push(...(await onScratchFile(server, target, flags, invocation)))
      else {
        await using device = await attempt('cannot open', target.text, () =>
          openLastingImage(server, target, flags, invocation, { writable: false, borrowsSession: true }),
        )
        if (device.size < blockBytes)
          throw new CommandFailure(
            'cannot measure',
            target.text,
            new Error(`${device.size} bytes, too few to measure`),
          )
        await attempt('cannot measure', target.text, () => reads(device, flags, invocation, results))
      }
      if (flags.json === true) printJson(invocation, results)
      else for (const result of results) printLine(invocation, resultLine(result))
    })
}

async function onScratchFile(
  server: Server,
  target: RemoteTarget,
  flags: BenchFlags,
  invocation: Invocation,
): Promise<BenchResult[]> {
  const results: BenchResult[] = []
  const device = await attempt('cannot create', target.text, () =>
    openLastingImage(server, target, flags, invocation, {
      writable: true,
      create: { size: flags.size },
      borrowsSession: true,
    }),
  )
  try {
    await attempt('cannot measure', target.text, async () => {
      await using open = device
      await writes(open, flags, invocation, results)
      await reads(open, flags, invocation, results)
    })
  } catch (error) {
    await server.sftp.unlink(target.path).catch(() => {})
    throw error
  }
  await attempt('cannot remove', target.text, () => server.sftp.unlink(target.path))
  return results
}

async function roundTrip({ session }: Server, { signal }: Invocation): Promise<BenchResult> {
  const times: number[] = []
  for (let i = 0; i < 10 && !signal.aborted; i++) times.push(await session.ping())
  return { name: 'round trip', ...latency(times) }
}

async function reads(
  device: BlockDevice,
  flags: BenchFlags,
  { signal }: Invocation,
  results: BenchResult[],
): Promise<void> {
  const length = Math.min(flags.size, device.size)
  results.push(
    await throughput('read in a row', length, async () => {
      for await (const _ of readRange(device, 0, length, { signal }));
    }),
  )
  const read = (offset: number, buffer: Uint8Array): Promise<void> => device.read(offset, buffer, { signal })
  results.push(await random('read 4 KiB, 1 at a time', device, Math.ceil(flags.count / 10), 1, read))
  results.push(await random(`read 4 KiB, ${inFlight} at a time`, device, flags.count, inFlight, read))
}

async function writes(
  device: BlockDevice,
  flags: BenchFlags,
  { signal }: Invocation,
  results: BenchResult[],
): Promise<void> {
  const length = device.size
  const chunk = crypto.getRandomValues(new Uint8Array(65_536))
  const chunks = function* () {
    for (let at = 0; at < length; at += chunk.length)
      yield chunk.subarray(0, Math.min(chunk.length, length - at))
  }
  results.push(
    await throughput('write in a row, flush', length, () => writeRange(device, 0, chunks(), { signal })),
  )
  const write = (offset: number, buffer: Uint8Array): Promise<void> =>
    device.write(offset, buffer, { signal })
  results.push(await random(`write 4 KiB, ${inFlight} at a time`, device, flags.count, inFlight, write))
  const startedAt = performance.now()
  await device.flush({ signal })
  results.push({ name: 'flush', ...latency([performance.now() - startedAt]) })
}

async function throughput(name: string, bytes: number, work: () => Promise<unknown>): Promise<BenchResult> {
  const startedAt = performance.now()
  await work()
  return { name, bytesPerSecond: Math.round((bytes / (performance.now() - startedAt)) * 1000) }
}

async function random(
  name: string,
  device: BlockDevice,
  count: number,
  atOnce: number,
  operation: (offset: number, buffer: Uint8Array) => Promise<void>,
): Promise<BenchResult> {
  const blocks = Math.floor(device.size / blockBytes)
  const times: number[] = []
  let left = count
  const worker = async (): Promise<void> => {
    const buffer = new Uint8Array(blockBytes)
    while (left-- > 0) {
      const startedAt = performance.now()
      await operation((randomNumber() % blocks) * blockBytes, buffer)
      times.push(performance.now() - startedAt)
    }
  }
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: atOnce }, worker))
  const seconds = (performance.now() - startedAt) / 1000
  return { name, operationsPerSecond: Math.round(count / seconds), ...latency(times) }
}

/** A whole number below 2^32. */
function randomNumber(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!
}

function latency(times: readonly number[]): { median: number; worst: number } {
  const sorted = [...times].sort((a, b) => a - b)
  const rounded = (ms: number | undefined): number => Math.round((ms ?? 0) * 1000) / 1000
  return { median: rounded(sorted[Math.floor(sorted.length / 2)]), worst: rounded(sorted.at(-1)) }
}

function resultLine({ name, bytesPerSecond, operationsPerSecond, median, worst }: BenchResult): string {
  const facts = [
    ...(bytesPerSecond === undefined ? [] : [`${sizeText(bytesPerSecond)}/s`]),
    ...(operationsPerSecond === undefined ? [] : [`${operationsPerSecond}/s`]),
    ...(median === undefined ? [] : [`median ${median} ms, worst ${worst} ms`]),
  ]
  return `${name.padEnd(26)}${facts.join(', ')}`
}
