// Folders, names, links and attributes (draft-ietf-secsh-filexfer-02 s5 and s6.5 to s6.11).

import { type Check, check, NotApplicable, Unexpected } from '@sshblock/transport/conformance'
import { equalBytes } from '@sshblock/transport/wire'
import { fileType } from '../messages/attributes.ts'
import { packetType } from '../messages/numbers.ts'
import { openFlag } from '../messages/open-flags.ts'
import * as requests from '../messages/requests.ts'
import { statusCode, statusName } from '../messages/status.ts'
import { content, expectCode, expectData, hello, refusal } from './expectations.ts'
import { bytesOf, describeReply, type ScriptedSftp } from './scripted-sftp.ts'
import type { SftpTrial } from './sftp-trial.ts'

const draft = 'filexfer-02'
const { read, write } = openFlag

export const sftpNameChecks: readonly Check<SftpTrial>[] = [
  check('sftp.list', 'lists every name of a folder once', `${draft} s6.7`, 'must', async (trial) => {
    const sftp = await trial.session()
    const folder = trial.path('folder')
    await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
    const made = Array.from({ length: 120 }, (_, at) => `file ${at} ä`)
    for (const name of made) await sftp.make(`${folder}/${name}`, new Uint8Array(0))
    const listed = (await sftp.list(folder)).filter((name) => name !== '.' && name !== '..')
    if (listed.sort().join() !== made.sort().join())
      throw new Unexpected('120 names', `${listed.length} names`)
    return '120 names'
  }),
  check(
    'sftp.mkdir-twice',
    'makes no folder that is there already',
    `${draft} s6.6`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = bytesOf(trial.path('folder'))
      await sftp.ok(requests.mkdir, { path, attrs: {} })
      return refusal(await sftp.status(requests.mkdir, { path, attrs: {} }))
    },
  ),
  check(
    'sftp.rmdir-full',
    'removes no folder in which something is',
    `${draft} s6.6`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const folder = trial.path('folder')
      await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
      await sftp.make(`${folder}/file`, hello)
      const came = refusal(await sftp.status(requests.rmdir, { path: bytesOf(folder) }))
      expectData(await content(sftp, `${folder}/file`), hello)
      return came
    },
  ),
  check(
    'sftp.remove-folder',
    'removes no folder by REMOVE, and no file by RMDIR',
    `${draft} s6.5`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const folder = trial.path('folder')
      await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
      const first = refusal(await sftp.status(requests.remove, { filename: bytesOf(folder) }))
      await sftp.make(`${folder}/file`, hello)
      return `${first}, ${refusal(await sftp.status(requests.rmdir, { path: bytesOf(`${folder}/file`) }))}`
    },
  ),
  check('sftp.rename', 'gives a file another name', `${draft} s6.5`, 'must', async (trial) => {
    const sftp = await trial.session()
    const [oldpath, newpath] = [trial.path(), trial.path()]
    await sftp.make(oldpath, hello)
    await sftp.ok(requests.rename, { oldpath: bytesOf(oldpath), newpath: bytesOf(newpath) })
    expectData(await content(sftp, newpath), hello)
    expectCode(
      await sftp.status(requests.lstat, { path: bytesOf(oldpath) }),
      statusCode.noSuchFile,
      'the old name',
    )
    return 'the new name'
  }),
  check(
    'sftp.rename-onto',
    'renames nothing onto a name that is there already',
    `${draft} s6.5`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const [oldpath, newpath] = [trial.path(), trial.path()]
      await sftp.make(oldpath, hello)
      await sftp.make(newpath, bytesOf('other'))
      const code = await sftp.status(requests.rename, {
        oldpath: bytesOf(oldpath),
        newpath: bytesOf(newpath),
      })
      expectData(await content(sftp, newpath), bytesOf(code === statusCode.ok ? 'hello, world' : 'other'))
      return refusal(code)
    },
  ),
  check(
    'sftp.realpath',
    "makes paths absolute and free of '.' and '..'",
    `${draft} s6.11`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const folder = trial.path('folder')
      await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
      const home = await sftp.name(requests.realpath, '.')
      if (!home.startsWith('/')) throw new Unexpected('an absolute path', home)
      const there = await sftp.name(requests.realpath, folder)
      const around = await sftp.name(requests.realpath, `${folder}/./../${folder.split('/').at(-1)}/.`)
      if (around !== there) throw new Unexpected(there, around)
      return 'absolute paths'
    },
  ),
  check('sftp.realpath-empty', "takes the empty path for '.'", `${draft} s6.2`, 'must', async (trial) => {
    const sftp = await trial.session()
    const [dot, empty] = [await sftp.name(requests.realpath, '.'), await sftp.name(requests.realpath, '')]
    if (dot !== empty) throw new Unexpected('the same path', 'another one')
    return 'the same path'
  }),
]

/** A symbolic link, made in the order of arguments that OpenSSH has and everybody expects. @throws NotApplicable */
async function makeLink(sftp: ScriptedSftp, target: string, link: string): Promise<void> {
  const code = await sftp.status(requests.symlink, { linkpath: bytesOf(target), targetpath: bytesOf(link) })
  if (code !== statusCode.ok) throw new NotApplicable(`it makes no symbolic link: ${statusName(code)}`)
}

export const sftpAttributeChecks: readonly Check<SftpTrial>[] = [
  check(
    'sftp.attributes',
    'tells size, permissions with the type, and times',
    `${draft} s5`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      const attrs = await sftp.attributes(path)
      if (attrs.size !== hello.length) throw new Unexpected(`size ${hello.length}`, String(attrs.size))
      if (fileType(attrs) !== 'file') throw new Unexpected('the type of a file', fileType(attrs))
      if (attrs.mtime === undefined) throw new Unexpected('times', 'none')
      const folder = await sftp.attributes('.')
      if (fileType(folder) !== 'directory') throw new Unexpected('the type of a folder', fileType(folder))
      return `size ${attrs.size}, a file`
    },
  ),
  check('sftp.fstat', 'tells the same of a handle as of its path', `${draft} s6.8`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const handle = await sftp.open(path, read)
    const reply = await sftp.ask(requests.fstat, { handle })
    if (reply.type !== packetType.attrs) throw new Unexpected('ATTRS', describeReply(reply))
    const byPath = await sftp.ask(requests.stat, { path: bytesOf(path) })
    if (!equalBytes(reply.payload.subarray(5), byPath.payload.subarray(5)))
      throw new Unexpected('the same', 'something else')
    return 'the same'
  }),
  check('sftp.set-size', 'cuts and extends a file by its size', `${draft} s6.9`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    await sftp.ok(requests.setstat, { path: bytesOf(path), attrs: { size: 5 } })
    expectData(await content(sftp, path), bytesOf('hello'))
    const handle = await sftp.open(path, read | write)
    await sftp.ok(requests.fsetstat, { handle, attrs: { size: 7 } })
    await sftp.close(handle)
    expectData(await content(sftp, path), bytesOf('hello\0\0'))
    return '5 bytes, then 7'
  }),
  check('sftp.set-mode', 'sets permissions', `${draft} s6.9`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    await sftp.ok(requests.setstat, { path: bytesOf(path), attrs: { permissions: 0o640 } })
    const { permissions = 0 } = await sftp.attributes(path)
    if ((permissions & 0o7777) !== 0o640)
      throw new Unexpected('permissions 640', (permissions & 0o7777).toString(8))
    return 'permissions 640'
  }),
  check('sftp.set-times', 'sets times', `${draft} s6.9`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    await sftp.ok(requests.setstat, {
      path: bytesOf(path),
      attrs: { atime: 1_000_000_000, mtime: 1_234_567_890 },
    })
    const { mtime } = await sftp.attributes(path)
    if (mtime !== 1_234_567_890) throw new Unexpected('the time that was set', String(mtime))
    return 'the time that was set'
  }),
  check(
    'sftp.link',
    'follows a link by STAT, and does not by LSTAT',
    `${draft} s6.8`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const [target, link] = [trial.path(), trial.path('link')]
      await sftp.make(target, hello)
      await makeLink(sftp, target, link)
      const followed = await sftp.attributes(link)
      const itself = await sftp.attributes(link, requests.lstat)
      if (fileType(followed) !== 'file' || fileType(itself) !== 'symlink')
        throw new Unexpected('a file and a link', `${fileType(followed)} and ${fileType(itself)}`)
      return 'a file and a link'
    },
  ),
  check(
    'sftp.readlink',
    'tells the target of a link, as it was given',
    `${draft} s6.10`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const link = trial.path('link')
      const target = '../some where/else'
      await makeLink(sftp, target, link)
      const told = await sftp.name(requests.readlink, link)
      if (told !== target) throw new Unexpected(target, told)
      return 'the target'
    },
  ),
  check(
    'sftp.symlink-order',
    'takes the target of SYMLINK first, as OpenSSH does',
    'OpenSSH PROTOCOL, sftp',
    'should',
    async (trial) => {
      const sftp = await trial.session()
      const [target, link] = [trial.path(), trial.path('link')]
      await sftp.make(target, hello)
      const code = await sftp.status(requests.symlink, {
        linkpath: bytesOf(target),
        targetpath: bytesOf(link),
      })
      if (code !== statusCode.ok) throw new Unexpected('a link', `STATUS ${statusName(code)}`)
      return 'a link'
    },
  ),
  check(
    'sftp.remove-link',
    'removes a link, not what it points to',
    `${draft} s6.5`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const [target, link] = [trial.path(), trial.path('link')]
      await sftp.make(target, hello)
      await makeLink(sftp, target, link)
      await sftp.ok(requests.remove, { filename: bytesOf(link) })
      expectData(await content(sftp, target), hello)
      return 'the file is there'
    },
  ),
]
