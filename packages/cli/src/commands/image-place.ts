// Where an image of a copy lies, on this machine or on a server, behind one face: opened, made, and renamed. Names are the
// place's own path with a suffix.

import { lstatSync, statSync } from 'node:fs'
import { link, rename, unlink } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import type { BlockDevice, FileKind } from '@sshblock/blockdev'
import { createFileDevice, fileKind, openFileDevice } from '@sshblock/blockdev/node'
import { joinPath, type SftpClient, SftpStatusError } from '@sshblock/sftp'
import type { Session } from '@sshblock/transport'
import type { ConnectionFlags } from '../connection/flags.ts'
import { type LastingImageOptions, type LossFlags, openLastingImage } from '../connection/lasting-image.ts'
import { type ImageFlags, openServer, openSftpOn } from '../connection/server.ts'
import type { Invocation } from '../invocation.ts'
import type { RemoteTarget, Target } from '../target.ts'

export type PlaceFlags = ConnectionFlags & ImageFlags & LossFlags

/** What has a name. */
export interface Occupant {
  /** Of what a symbolic link leads to; 'symlink' where that is nothing. */
  readonly kind: FileKind
  /** Permission bits, without setuid, setgid and sticky; undefined where nobody tells. */
  readonly mode: number | undefined
}

export interface ImagePlace extends AsyncDisposable {
  /** Last component of the path. */
  readonly name: string
  /** The place is a folder: from now on it is `name` in that. */
  enter(name: string): void
  occupant(suffix: string): Promise<Occupant | undefined>
  open(suffix: string, writable: boolean): Promise<BlockDevice>
  /** An empty image, replacing a file that is there. `mode`: permission bits, less the umask. */
  create(suffix: string, mode: number | undefined): Promise<BlockDevice>
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

function localPlace(named: string): ImagePlace {
  let path = named
  return {
    name: basename(resolve(path)),
    enter: (name) => {
      path = join(path, name)
    },
    async occupant(suffix) {
      const itself = lstatSync(path + suffix, { throwIfNoEntry: false })
      if (itself === undefined) return undefined
      const stats = statSync(path + suffix, { throwIfNoEntry: false })
      return stats === undefined
        ? { kind: 'symlink', mode: undefined }
        : { kind: fileKind(stats), mode: stats.mode & 0o777 }
    },
    open: (suffix, writable) => openFileDevice(path + suffix, { writable }),
    create: (suffix, mode) =>
      createFileDevice(path + suffix, { ...fresh, ...(mode === undefined ? {} : { mode }) }),
    async rename(from, to, replace) {
      if (replace) return rename(path + from, path + to)
      // Unlike rename, link fails where somebody has made a file of that name meanwhile.
      await link(path + from, path + to)
      await unlink(path + from)
    },
    [Symbol.asyncDispose]: async () => {},
  }
}

/** An image that grows. */
const fresh = { size: 0, overwrite: true, exactSize: true } as const

async function unlessMissing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (error instanceof SftpStatusError && error.code === 'ENOENT') return undefined
    throw error
  }
}

async function remotePlace(
  target: RemoteTarget,
  flags: PlaceFlags,
  invocation: Invocation,
): Promise<ImagePlace> {
  const server = await openServer(target, flags, invocation)
  let { path } = target
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
    name: posix.basename(path),
    enter: (name) => {
      path = joinPath(path, name)
    },
    async occupant(suffix) {
      const client = await sftp()
      const [stats, itself] = await Promise.all([
        unlessMissing(client.stat(path + suffix)),
        unlessMissing(client.lstat(path + suffix)),
      ])
      if (stats === undefined) return itself && { kind: itself.type, mode: undefined }
      return { kind: stats.type, mode: stats.mode === undefined ? undefined : stats.mode & 0o777 }
    },
    open: (suffix, writable) => onImage({ path: path + suffix, writable }),
    create: (suffix, mode) =>
      onImage({ path: path + suffix, create: { ...fresh, ...(mode === undefined ? {} : { mode }) } }),
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
