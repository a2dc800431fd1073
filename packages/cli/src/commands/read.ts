// `sshblock read`: a range of an image to a file or a pipe.

import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { readRange } from '@sshblock/blockdev'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { type ImageFlags, openImage, openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import { type Invocation, writeOut } from '../invocation.ts'
import { type ProgressFlags, startProgress, withProgress } from '../output/progress.ts'
import { parseSize } from '../sizes.ts'
import { parseRemoteTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'

interface ReadFlags extends ConnectionFlags, ImageFlags, ProgressFlags {
  offset: number
  length?: number
}

export function readCommand(invocation: Invocation): Command {
  return withProgress(withConnection(new Command('read')))
    .description('Reads bytes of an image. See cp for whole images.')
    .argument('<location>', 'host:path or ssh://user@host/path')
    .argument('[file]', 'where the bytes go; - is stdout', '-')
    .option('--offset <bytes>', 'where to begin', parseSize, 0)
    .option('--length <bytes>', 'how much; to the end where left out', parseSize)
    .addHelpText(
      'after',
      `
Examples:
  sshblock read --length 512 myhost:/images/a.img | xxd
  sshblock read --offset 1M --length 64K myhost:/images/a.img part.bin`,
    )
    .action(async (location: string, file: string, flags: ReadFlags) => {
      const target = parseRemoteTarget(location)
      if (file === '-' && invocation.stdout.isTTY === true)
        throw new UsageProblem(
          'stdout is a terminal, and bytes of a disk would upset it; name a file, or use a pipe',
        )
      await using server = await openServer(target, flags, invocation)
      await using device = await openImage(server, target, { ...flags, writable: false }, invocation)
      const length = flags.length ?? Math.max(0, device.size - flags.offset)
      const { signal } = invocation
      if (flags.offset + length > device.size)
        throw new CommandFailure(
          'cannot read',
          target.text,
          new Error(`it has ${device.size} bytes; ${length} bytes at ${flags.offset} end behind it`),
        )
      const progress = startProgress(invocation, flags, 'read', length)
      try {
        await using sink = await attempt('cannot write', file, () => openSink(invocation, file))
        let done = 0
        const chunks = readRange(device, flags.offset, length, { signal })
        for (;;) {
          const { value: chunk, done: over } = await attempt('cannot read', target.text, () => chunks.next())
          if (over === true || chunk === undefined) break
          await attempt('cannot write', file, () => sink.write(chunk))
          progress.update((done += chunk.length))
        }
      } finally {
        progress.stop()
      }
    })
}

interface Sink extends AsyncDisposable {
  write(bytes: Uint8Array): Promise<void>
}

async function openSink(invocation: Invocation, file: string): Promise<Sink> {
  if (file === '-')
    return { write: (bytes) => writeOut(invocation, bytes), [Symbol.asyncDispose]: async () => {} }
  const stream = createWriteStream(file)
  await once(stream, 'open')
  return {
    write: (bytes) =>
      new Promise((resolve, reject) => {
        stream.write(bytes, (error) => (error == null ? resolve() : reject(error)))
      }),
    [Symbol.asyncDispose]: async () => {
      stream.end()
      if (!stream.closed) await once(stream, 'close')
    },
  }
}
