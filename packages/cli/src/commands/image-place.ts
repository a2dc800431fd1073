// Where an image of a copy lies, on this machine or on a server, behind one face: opened, made, and renamed. Names are the
// place's own path with a suffix.

import { existsSync } from 'node:fs'
import { link, rename, unlink } from 'node:fs/promises'
import { type BlockDevice, createDeviceOnSftp, openDeviceOnSftp } from '@sshblock/blockdev'
import { createFileDevice, openFileDevice } from '@sshblock/blockdev/node'
import { SftpStatusError } from '@sshblock/sftp'
import type { ConnectionFlags } from '../connection/flags.ts'
import { deviceOptions, type ImageFlags, openServer } from '../connection/server.ts'
import type { Invocation } from '../invocation.ts'
import type { RemoteTarget, Target } from '../target.ts'

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
  flags: ConnectionFlags & ImageFlags,
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
  flags: ConnectionFlags & ImageFlags,
  invocation: Invocation,
): Promise<ImagePlace> {
  const server = await openServer(target, flags, invocation)
  const { sftp } = server
  const { path } = target
  const options = deviceOptions(server, flags, invocation)
  return {
    async exists(suffix) {
      try {
        await sftp.lstat(path + suffix)
        return true
      } catch (error) {
        if (error instanceof SftpStatusError && error.code === 'ENOENT') return false
        throw error
      }
    },
    open: (suffix, writable) => openDeviceOnSftp(sftp, path + suffix, { ...options, writable }),
    create: (suffix) =>
      createDeviceOnSftp(sftp, path + suffix, { ...options, size: 0, overwrite: true, exactSize: true }),
    rename: (from, to, replace) =>
      replace ? sftp.rename(path + from, path + to) : sftp.rename(path + from, path + to, { replace: false }),
    [Symbol.asyncDispose]: () => server.close(),
  }
}
