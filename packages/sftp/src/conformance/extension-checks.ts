// The extensions of OpenSSH's PROTOCOL file, each where VERSION announces it.

import { type Check, check, NotApplicable, Unexpected } from '@sshblock/transport/conformance'
import { equalBytes } from '@sshblock/transport/wire'
import { fileType } from '../messages/attributes.ts'
import * as extended from '../messages/extended.ts'
import { packetType } from '../messages/numbers.ts'
import { openFlag } from '../messages/open-flags.ts'
import * as requests from '../messages/requests.ts'
import { statusCode, statusName } from '../messages/status.ts'
import { hello } from './expectations.ts'
import {
  bytesOf,
  describeReply,
  nameIn,
  type ScriptedSftp,
  type SftpReply,
  statusIn,
} from './scripted-sftp.ts'
import type { SftpTrial } from './sftp-trial.ts'

/** Its sections are titled by the names of the extensions. */
const protocol = 'OpenSSH PROTOCOL, sftp'

/** A check of one extension: not applicable where it is not announced in the version that is declared here. */
function ofExtension(
  id: string,
  claim: string,
  clause: string,
  extension: { readonly name: string; readonly version: string },
  run: (sftp: ScriptedSftp, trial: SftpTrial) => Promise<string>,
): Check<SftpTrial> {
  return check(id, claim, clause, 'must', async (trial) => {
    const sftp = await trial.session()
    const version = sftp.extensions.get(extension.name)
    if (version === undefined) throw new NotApplicable(`it does not announce ${extension.name}`)
    if (version !== extension.version)
      throw new NotApplicable(`it announces version ${version} of ${extension.name}`)
    return run(sftp, trial)
  })
}

function expectOk(reply: SftpReply): void {
  const code = statusIn(reply)
  if (code !== statusCode.ok) throw new Unexpected('STATUS OK', `STATUS ${statusName(code)}`)
}

/** The data of an EXTENDED_REPLY, decoded. @throws Unexpected for another reply */
function replyIn<T>(extension: { decodeReply(data: Uint8Array): T }, reply: SftpReply): T {
  if (reply.type !== packetType.extendedReply) throw new Unexpected('EXTENDED_REPLY', describeReply(reply))
  return extension.decodeReply(reply.payload.subarray(5))
}

async function sameContent(sftp: ScriptedSftp, path: string, wanted: Uint8Array): Promise<void> {
  const came = await sftp.read(await sftp.open(path, openFlag.read), 0, 10_000)
  if (typeof came === 'number') throw new Unexpected(`${wanted.length} bytes`, statusName(came))
  if (!equalBytes(came, wanted))
    throw new Unexpected(`the same ${wanted.length} bytes`, `${came.length} others`)
}

export const sftpExtensionChecks: readonly Check<SftpTrial>[] = [
  ofExtension(
    'sftp.posix-rename',
    'renames over a file that is there',
    protocol,
    extended.posixRename,
    async (sftp, trial) => {
      const [oldpath, newpath] = [trial.path(), trial.path()]
      await sftp.make(oldpath, hello)
      await sftp.make(newpath, bytesOf('other'))
      expectOk(
        await sftp.askExtended(extended.posixRename, {
          oldpath: bytesOf(oldpath),
          newpath: bytesOf(newpath),
        }),
      )
      await sameContent(sftp, newpath, hello)
      return 'the file under its new name'
    },
  ),
  ofExtension(
    'sftp.hardlink',
    'gives a file a second name',
    protocol,
    extended.hardlink,
    async (sftp, trial) => {
      const [oldpath, newpath] = [trial.path(), trial.path()]
      await sftp.make(oldpath, hello)
      expectOk(
        await sftp.askExtended(extended.hardlink, { oldpath: bytesOf(oldpath), newpath: bytesOf(newpath) }),
      )
      await sftp.ok(requests.remove, { filename: bytesOf(oldpath) })
      await sameContent(sftp, newpath, hello)
      return 'the file under its second name'
    },
  ),
  ofExtension(
    'sftp.fsync',
    'answers fsync of a file that is open',
    protocol,
    extended.fsync,
    async (sftp, trial) => {
      const handle = await sftp.open(trial.path(), openFlag.write | openFlag.creat)
      await sftp.write(handle, 0, hello)
      expectOk(await sftp.askExtended(extended.fsync, { handle }))
      const code = statusIn(await sftp.askExtended(extended.fsync, { handle: bytesOf('no handle') }))
      if (code === statusCode.ok) throw new Unexpected('a refusal of another handle', 'STATUS OK')
      return 'STATUS OK'
    },
  ),
  ofExtension(
    'sftp.statvfs',
    'tells of the file system, of a path and of a handle',
    protocol,
    extended.statvfs,
    async (sftp) => {
      const byPath = replyIn(
        extended.statvfs,
        await sftp.askExtended(extended.statvfs, { path: bytesOf('.') }),
      )
      if (byPath.bsize === 0n || byPath.namemax === 0n)
        throw new Unexpected('a block size and a longest name', '0')
      if (sftp.extensions.has(extended.fstatvfs.name)) {
        const handle = await sftp.opendir('.')
        const reply = await sftp.askExtended(extended.fstatvfs, { handle })
        // OpenSSH knows it for files alone.
        if (reply.type === packetType.extendedReply) {
          const byHandle = replyIn(extended.fstatvfs, reply)
          if (byHandle.bsize !== byPath.bsize)
            throw new Unexpected('the same block size', String(byHandle.bsize))
        }
      }
      return 'a block size and a longest name'
    },
  ),
  ofExtension(
    'sftp.limits',
    'keeps the limits that it tells',
    protocol,
    extended.limits,
    async (sftp, trial) => {
      const limits = replyIn(extended.limits, await sftp.askExtended(extended.limits, {}))
      const [mostWritten, mostRead] = [Number(limits.maxWriteLength), Number(limits.maxReadLength)]
      const handle = await sftp.open(trial.path(), openFlag.read | openFlag.write | openFlag.creat)
      const data = new Uint8Array(mostWritten === 0 ? 32_768 : Math.min(mostWritten, 1024 * 1024)).fill(5)
      await sftp.write(handle, 0, data)
      const length = mostRead === 0 ? 32_768 : Math.min(mostRead, data.length)
      const came = await sftp.read(handle, 0, length)
      if (typeof came === 'number') throw new Unexpected(`${length} bytes`, statusName(came))
      if (mostRead !== 0 && came.length !== length)
        throw new Unexpected(`${length} bytes`, `${came.length} bytes`)
      return `READ of ${mostRead}, WRITE of ${mostWritten} bytes`
    },
  ),
  ofExtension(
    'sftp.lsetstat',
    'sets attributes of a link itself',
    protocol,
    extended.lsetstat,
    async (sftp, trial) => {
      const [target, link] = [trial.path(), trial.path('link')]
      await sftp.make(target, hello)
      await sftp.ok(requests.setstat, {
        path: bytesOf(target),
        attrs: { atime: 1_000_000_000, mtime: 1_000_000_000 },
      })
      await sftp.ok(requests.symlink, { linkpath: bytesOf(target), targetpath: bytesOf(link) })
      const times = { atime: 1_100_000_000, mtime: 1_100_000_000 }
      expectOk(await sftp.askExtended(extended.lsetstat, { path: bytesOf(link), attrs: times }))
      const [ofLink, ofTarget] = [await sftp.attributes(link, requests.lstat), await sftp.attributes(target)]
      if (ofLink.mtime !== times.mtime || ofTarget.mtime !== 1_000_000_000)
        throw new Unexpected('the time of the link alone', `${ofLink.mtime} and ${ofTarget.mtime}`)
      return 'the time of the link alone'
    },
  ),
  ofExtension('sftp.expand-path', "expands '~'", protocol, extended.expandPath, async (sftp) => {
    const home = nameIn(await sftp.askExtended(extended.expandPath, { path: bytesOf('~') }))
    if (!home.startsWith('/')) throw new Unexpected('an absolute path', home)
    const inside = nameIn(await sftp.askExtended(extended.expandPath, { path: bytesOf('~/.') }))
    if (inside !== home) throw new Unexpected('the same folder', 'another one')
    return 'an absolute path'
  }),
  ofExtension(
    'sftp.copy-data',
    'copies from one file to another',
    'filexfer-extensions-00 s7',
    extended.copyData,
    async (sftp, trial) => {
      const [from, to] = [trial.path(), trial.path()]
      await sftp.make(from, hello)
      const readFromHandle = await sftp.open(from, openFlag.read)
      const writeToHandle = await sftp.open(to, openFlag.write | openFlag.creat)
      const range = { readFromHandle, readFromOffset: 7, readDataLength: 0, writeToHandle, writeToOffset: 0 }
      expectOk(await sftp.askExtended(extended.copyData, range))
      await sameContent(sftp, to, hello.subarray(7))
      return '5 bytes'
    },
  ),
  ofExtension(
    'sftp.home-directory',
    'tells the home folder of the user',
    'filexfer-extensions-00 s5',
    extended.homeDirectory,
    async (sftp) => {
      const home = nameIn(await sftp.askExtended(extended.homeDirectory, { username: new Uint8Array(0) }))
      if (!home.startsWith('/')) throw new Unexpected('an absolute path', home)
      if (fileType(await sftp.attributes(home)) !== 'directory') throw new Unexpected('a folder', 'none')
      return 'a folder'
    },
  ),
  ofExtension(
    'sftp.users-groups',
    'names users and groups by their ids, and leaves unknown ones empty',
    protocol,
    extended.usersGroupsById,
    async (sftp) => {
      const reply = await sftp.askExtended(extended.usersGroupsById, { uids: [0, 4_000_000_000], gids: [0] })
      const { usernames, groupnames } = replyIn(extended.usersGroupsById, reply)
      if (usernames.length !== 2 || groupnames.length !== 1)
        throw new Unexpected('two names and one', `${usernames.length} names and ${groupnames.length}`)
      if (usernames[1] !== '') throw new Unexpected('no name for an unknown id', 'one')
      return 'a name for each id'
    },
  ),
]
