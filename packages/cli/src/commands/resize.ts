// `sshblock resize`: another size for an image.

import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { type ImageFlags, openImage, openServer } from '../connection/server.ts'
import { attempt } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { parseSize } from '../sizes.ts'
import { parseRemoteTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'
import { withUnsafeFlush } from './image-options.ts'

interface ResizeFlags extends ConnectionFlags, ImageFlags {
  shrink?: boolean
}

export function resizeCommand(invocation: Invocation): Command {
  return withUnsafeFlush(withConnection(new Command('resize')))
    .description(
      'Sets the size of an image. What is added reads as zeros; making it smaller loses what is cut off.',
    )
    .argument('<location>', 'host:path or ssh://user@host/path')
    .argument('<size>', 'the new size, such as 20G; with + or - in front, by how much')
    .option('--shrink', 'allow a smaller size')
    .addHelpText(
      'after',
      `
Examples:
  sshblock resize myhost:/images/a.img 20G
  sshblock resize myhost:/images/a.img +512M
  sshblock resize --shrink myhost:/images/a.img -- -1G`,
    )
    .action(async (location: string, text: string, flags: ResizeFlags) => {
      const target = parseRemoteTarget(location)
      const sign = /^[+-]/.exec(text)?.[0]
      const bytes = sizeOf(text, sign)
      await using server = await openServer(target, flags, invocation)
      const device = await openImage(server, target, { ...flags, writable: true }, invocation)
      const size = sign === undefined ? bytes : device.size + (sign === '+' ? bytes : -bytes)
      await attempt('cannot resize', target.text, async () => {
        await using open = device
        if (size < 0) throw new Error(`it has ${open.size} bytes, and ${bytes} are to be taken away`)
        if (size < open.size && flags.shrink !== true)
          throw new Error(
            `it has ${open.size} bytes; a size of ${size} loses what is behind: --shrink allows it`,
          )
        await open.resize(size, { shrink: flags.shrink, signal: invocation.signal })
        await open.flush({ signal: invocation.signal })
      })
    })
}

function sizeOf(text: string, sign: string | undefined): number {
  try {
    return parseSize(sign === undefined ? text : text.slice(1))
  } catch {
    throw new UsageProblem(`'${text}' is no size; expected bytes, or a number with K, M, G or T, such as 10G`)
  }
}
