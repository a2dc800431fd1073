// Where an image of a copy lies, on this machine or on a server, behind one face: opened, made, and renamed. Names are the
// place's own path with a suffix.

import { existsSync } from 'node:fs'
import { link, rename, unlink } from 'node:fs/promises'
import type { BlockDevice } from '@sshblock/blockdev'
import { createFileDevice, openFileDevice } from '@sshblock/blockdev/node'
import { type SftpClient, SftpStatusError } from '@sshblock/sftp'
import type { Session } from '@sshblock/transport'
import type { ConnectionFlags } from '../connection/flags.ts'
import { type LastingImageOptions, type LossFlags, openLastingImage } from '../connection/lasting-image.ts'
import { type ImageFlags, openServer, openSftpOn } from '../connection/server.ts'
import type { Invocation } from '../invocation.ts'
import type { RemoteTarget, Target } from '../target.ts'

export type PlaceFlags = ConnectionFlags & ImageFlags & LossFlags

export interface ImagePlace extends AsyncDisposable {
  exists(suffix: string): Promise<boolean>
  open(suffix: string, writable: boolean): Promise<BlockDevice>
  /** An empty image, replacing a file that is there. */
  create(suffix: string): Promise<BlockDevice>
  /** @throws where the new name exists and is not to be replaced */
  rename(from: string, to: string, replace: boolean): Promise<void>
}

export async function openPlace(
  target: Target,
  flags: PlaceFlags,
  invocation: Invocation,
): Promise<ImagePlace> {
  return target.kind === 'local' ? localPlace(target.path) : remotePlace(target, flags, invocation)
}

function localPlace(path: string): ImagePlace {
  return {
    exists: async (suffix) => existsSync(path + suffix),
    open: (suffix, writable) => openFileDevice(path + suffix, { writable }),
    create: (suffix) => createFileDevice(path + suffix, { size: 0, overwrite: true, exactSize: true }),
    async rename(from, to, replace) {
      if (replace) return rename(path + from, path + to)
      // Unlike rename, link fails where somebody has made a file of that name meanwhile.
      await link(path + from, path + to)
      await unlink(path + from)
    },
    [Symbol.asyncDispose]: async () => {},
  }
}

async function remotePlace(
  target: RemoteTarget,
  flags: PlaceFlags,
  invocation: Invocation,
): Promise<ImagePlace> {
  const server = await openServer(target, flags, invocation)
  const { path } = target
  const spare: Session[] = []
  /** SFTP on the first connection, or where that was lost, on another one. */
  const sftp = async (): Promise<SftpClient> => {
    if (server.session.failure === undefined) return server.sftp
    const session = await server.again(invocation.signal)
    spare.push(session)
    return openSftpOn(session, flags, invocation)
  }
  const image = { writable: true, borrowsSession: true }
  const onImage = (options: Partial<LastingImageOptions> & { path: string }): Promise<BlockDevice> =>
    openLastingImage(server, target, flags, invocation, { ...image, ...options })
  return {
    async exists(suffix) {
      try {
        await (await sftp()).lstat(path + suffix)
        return true
      } catch (error) {
        if (error instanceof SftpStatusError && error.code === 'ENOENT') return false
        throw error
      }
    },
    open: (suffix, writable) => onImage({ path: path + suffix, writable }),
    create: (suffix) =>
      onImage({ path: path + suffix, create: { size: 0, overwrite: true, exactSize: true } }),
    async rename(from, to, replace) {
      const client = await sftp()
      await (replace
        ? client.rename(path + from, path + to)
        : client.rename(path + from, path + to, { replace: false }))
    },
    async [Symbol.asyncDispose]() {
      await server.close()
      for (const session of spare) await session.close()
    },
  }
}
