// `sshblock create`: a new image that reads as zeros.

import { createDeviceOnSftp } from '@sshblock/blockdev'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { deviceOptions, type ImageFlags, openServer } from '../connection/server.ts'
import { attempt } from '../failure.ts'
import { type Invocation, tell } from '../invocation.ts'
import { exactSizeText, parseSize } from '../sizes.ts'
import { parseRemoteTarget } from '../target.ts'
import { withUnsafeFlush } from './image-options.ts'

interface CreateFlags extends ConnectionFlags, ImageFlags {
  size: number
  overwrite?: boolean
}

export function createCommand(invocation: Invocation): Command {
  return withUnsafeFlush(withConnection(new Command('create')))
    .description('Makes an image on a server. It reads as zeros and takes no room until it is written.')
    .argument('<location>', 'host:path or ssh://user@host/path')
    .requiredOption('-s, --size <bytes>', 'its size, such as 10G; rounded up to 512 bytes', parseSize)
    .option('--overwrite', 'replace a file that exists: what is in it is lost')
    .addHelpText(
      'after',
      `
Examples:
  sshblock create --size 10G myhost:/images/a.img
  sshblock create -s 512M --overwrite ssh://alice@example.org/images/a.img`,
    )
    .action(async (location: string, flags: CreateFlags) => {
      const target = parseRemoteTarget(location)
      await using server = await openServer(target, flags, invocation)
      const { size, overwrite = false } = flags
      const device = await attempt('cannot create', target.text, () =>
        createDeviceOnSftp(server.sftp, target.path, {
          ...deviceOptions(server, flags, invocation),
          size,
          overwrite,
        }),
      )
      const created = device.size
      await attempt('cannot create', target.text, () => device.close())
      if (created !== size)
        tell(invocation, `'${target.text}' has ${exactSizeText(created)}: whole blocks of 512`)
    })
}
