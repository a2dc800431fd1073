// `sshblock write`: bytes of a file or a pipe to a place in an image.

import { createReadStream } from 'node:fs'
import { writeRange } from '@sshblock/blockdev'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { type ImageFlags, openImage, openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { type ProgressFlags, startProgress, withProgress } from '../output/progress.ts'
import { parseSize } from '../sizes.ts'
import { parseRemoteTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'
import { withUnsafeFlush } from './image-options.ts'

interface WriteFlags extends ConnectionFlags, ImageFlags, ProgressFlags {
  offset: number
  length?: number
}

const readBytes = 1024 * 1024

export function writeCommand(invocation: Invocation): Command {
  return withUnsafeFlush(withProgress(withConnection(new Command('write'))))
    .description('Writes bytes into an image, which keeps its size, and flushes. See cp for whole images.')
    .argument('<location>', 'host:path or ssh://user@host/path')
    .argument('[file]', 'where the bytes come from; - is stdin', '-')
    .option('--offset <bytes>', 'where they go', parseSize, 0)
    .option('--length <bytes>', 'take only so many', parseSize)
    .addHelpText(
      'after',
      `
Examples:
  sshblock write myhost:/images/a.img bootsector.bin
  zcat data.gz | sshblock write --offset 1M myhost:/images/a.img`,
    )
    .action(async (location: string, file: string, flags: WriteFlags) => {
      const target = parseRemoteTarget(location)
      if (file === '-' && invocation.stdin.isTTY === true)
        throw new UsageProblem('stdin is a terminal; name a file, or use a pipe')
      await using server = await openServer(target, flags, invocation)
      const { signal } = invocation
      await using device = await openImage(server, target, { ...flags, writable: true }, invocation)
      if (flags.offset > device.size)
        throw new CommandFailure(
          'cannot write',
          target.text,
          new Error(`it has ${device.size} bytes, and ${flags.offset} is behind them`),
        )
      const source = file === '-' ? invocation.stdin : createReadStream(file, { highWaterMark: readBytes })
      const progress = startProgress(invocation, flags, 'write', flags.length ?? device.size - flags.offset)
      // A pipe may have nothing to say for long.
      const stop = (): unknown => source.destroy(new Error('interrupted'))
      signal.addEventListener('abort', stop, { once: true })
      try {
        await attempt('cannot write', target.text, () =>
          writeRange(device, flags.offset, firstBytes(source, file, flags.length), {
            signal,
            onProgress: (bytes) => progress.update(bytes),
          }),
        )
      } finally {
        signal.removeEventListener('abort', stop)
        progress.stop()
        source.destroy()
      }
    })
}

/** At most `length` bytes of a stream. Errors name the file. */
async function* firstBytes(
  source: AsyncIterable<Buffer>,
  file: string,
  length = Number.POSITIVE_INFINITY,
): AsyncGenerator<Uint8Array> {
  let left = length
  if (left === 0) return
  try {
    for await (const chunk of source) {
      yield chunk.length > left ? chunk.subarray(0, left) : chunk
      left -= chunk.length
      // Not only when a pipe says more, or ends.
      if (left <= 0) return
    }
  } catch (error) {
    throw new CommandFailure('cannot read', file, error)
  }
}
