// Files, folders, names and attributes (draft-ietf-secsh-filexfer-02 s5 and s6).

import { type Check, check, NotApplicable, Unexpected } from '@sshblock/transport/conformance'
import { equalBytes } from '@sshblock/transport/wire'
import { fileType } from '../messages/attributes.ts'
import { packetType } from '../messages/numbers.ts'
import { openFlag } from '../messages/open-flags.ts'
import * as requests from '../messages/requests.ts'
import { statusCode, statusName } from '../messages/status.ts'
import { refusal } from './protocol-checks.ts'
import { bytesOf, describeReply, type ScriptedSftp, textOf } from './scripted-sftp.ts'
import type { SftpTrial } from './sftp-trial.ts'

const draft = 'filexfer-02'
const openClause = `${draft} s6.3`
const dataClause = `${draft} s6.4`
const hello = bytesOf('hello, world')
const { read, write, creat, trunc, excl, append } = openFlag

/** One status, by its name. @throws Unexpected */
function expectCode(code: number, wanted: number, what: string): void {
  if (code !== wanted) throw new Unexpected(`${statusName(wanted)} for ${what}`, statusName(code))
}

/** What READ gave must be these bytes. @throws Unexpected */
function expectData(came: Uint8Array | number, wanted: Uint8Array): void {
  if (typeof came === 'number') throw new Unexpected(`${wanted.length} bytes`, `STATUS ${statusName(came)}`)
  if (!equalBytes(came, wanted)) throw new Unexpected(JSON.stringify(textOf(wanted.subarray(0, 40))), JSON.stringify(textOf(came.subarray(0, 40))))
}

/** Everything in a file. @throws Unexpected */
async function content(sftp: ScriptedSftp, path: string): Promise<Uint8Array> {
  const handle = await sftp.open(path, read)
  const came = await sftp.read(handle, 0, 30_000)
  await sftp.close(handle)
  if (typeof came === 'number') {
    expectCode(came, statusCode.eof, 'an empty file')
    return new Uint8Array(0)
  }
  return came
}

export const sftpFileChecks: readonly Check<SftpTrial>[] = [
  check('sftp.write-read', 'gives back what was written', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), read | write | creat)
    await sftp.write(handle, 0, hello)
    expectData(await sftp.read(handle, 0, hello.length), hello)
    expectData(await sftp.read(handle, 7, 5), hello.subarray(7))
    return `${hello.length} bytes`
  }),
  check('sftp.order', 'reads what was written just before, without an answer between', 'filexfer-13 s4.1', 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), read | write | creat)
    const [one, two] = [sftp.id(), sftp.id()]
    sftp.sendPayload(requests.write.bytes({ id: one, handle, offset: 0, data: hello }))
    sftp.sendPayload(requests.read.bytes({ id: two, handle, offset: 0, len: hello.length }))
    const answers = [await sftp.next(), await sftp.next()]
    const data = answers.find((answer) => answer.kind === 'reply' && answer.reply.id === two)
    if (data?.kind !== 'reply' || data.reply.type !== packetType.data)
      throw new Unexpected('DATA', data?.kind === 'reply' ? describeReply(data.reply) : 'no answer')
    return describeReply(data.reply)
  }),
  check('sftp.read-end', 'answers READ at the end of a file with EOF', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), read | write | creat)
    await sftp.write(handle, 0, hello)
    for (const offset of [hello.length, hello.length + 1000]) {
      const came = await sftp.read(handle, offset, 10)
      if (typeof came !== 'number') throw new Unexpected('EOF', `DATA with ${came.length} bytes`)
      expectCode(came, statusCode.eof, `READ at ${offset}`)
    }
    return 'STATUS EOF'
  }),
  check('sftp.read-short', 'gives what there is where less is there than was asked for', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), read | write | creat)
    await sftp.write(handle, 0, hello)
    expectData(await sftp.read(handle, 7, 20_000), hello.subarray(7))
    return `${hello.length - 7} bytes`
  }),
  check('sftp.read-huge', 'survives READ of 2^32 - 1 bytes', dataClause, 'guard', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const handle = await sftp.open(path, read)
    const came = await sftp.read(handle, 0, 0xffff_ffff)
    if (typeof came === 'number') return refusal(came)
    expectData(came, hello)
    return `DATA with ${came.length} bytes`
  }),
  check('sftp.write-beyond', 'reads as zeros what lies between the end of a file and a WRITE beyond it', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), read | write | creat)
    await sftp.write(handle, 0, hello)
    await sftp.write(handle, 100, hello)
    expectData(await sftp.read(handle, hello.length, 88), new Uint8Array(88))
    expectData(await sftp.read(handle, 100, 100), hello)
    return '88 zeros'
  }),
  check('sftp.offset-64-bit', 'takes offsets beyond 4 GiB', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    const handle = await sftp.open(path, read | write | creat)
    const offset = 5 * 2 ** 30
    await sftp.write(handle, offset, hello)
    expectData(await sftp.read(handle, offset, hello.length), hello)
    const { size } = await sftp.attributes(path)
    await sftp.status(requests.setstat, { path: bytesOf(path), attrs: { size: 0 } })
    if (size !== offset + hello.length) throw new Unexpected(`a size of ${offset + hello.length}`, String(size))
    return `a size of ${size}`
  }),
  check('sftp.open-truncate', 'empties a file that is opened with TRUNC', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    await sftp.close(await sftp.open(path, write | creat | trunc))
    expectData(await content(sftp, path), new Uint8Array(0))
    return 'an empty file'
  }),
  check('sftp.open-keep', 'keeps the content of a file that is opened without TRUNC', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const handle = await sftp.open(path, write | creat)
    await sftp.write(handle, 0, bytesOf('J'))
    await sftp.close(handle)
    expectData(await content(sftp, path), bytesOf('Jello, world'))
    return 'the rest of the file'
  }),
  check('sftp.open-exclusive', 'opens no file with EXCL that is there already', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const code = await sftp.status(requests.open, { filename: bytesOf(path), pflags: write | creat | excl, attrs: {} })
    expectData(await content(sftp, path), hello)
    return refusal(code)
  }),
  check('sftp.open-append', 'writes at the end of a file that is opened with APPEND', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const handle = await sftp.open(path, write | append)
    await sftp.write(handle, 0, bytesOf('!'))
    await sftp.close(handle)
    expectData(await content(sftp, path), bytesOf('hello, world!'))
    return '13 bytes'
  }),
  check('sftp.open-read-only', 'writes nothing through a handle that was opened to read', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const handle = await sftp.open(path, read)
    const code = await sftp.status(requests.write, { handle, offset: 0, data: bytesOf('J') })
    expectData(await content(sftp, path), hello)
    return refusal(code)
  }),
  check('sftp.open-write-only', 'reads nothing through a handle that was opened to write', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const came = await sftp.read(await sftp.open(path, write), 0, 5)
    if (typeof came !== 'number') throw new Unexpected('a refusal', `DATA with ${came.length} bytes`)
    return refusal(came)
  }),
  check('sftp.open-mode', 'makes a file with the permissions that were asked for, but the umask', openClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.close(await sftp.open(path, write | creat, { permissions: 0o600 }))
    const { permissions = 0 } = await sftp.attributes(path)
    if ((permissions & 0o777) !== 0o600) throw new Unexpected('permissions 600', (permissions & 0o777).toString(8))
    return 'permissions 600'
  }),
  check('sftp.missing', 'answers with NO_SUCH_FILE where there is no file or folder of that name', `${draft} s7`, 'must', async (trial) => {
    const sftp = await trial.session()
    const name = trial.path('missing')
    const path = bytesOf(name)
    const questions: [string, () => Promise<number>][] = [
      ['OPEN', () => sftp.status(requests.open, { filename: path, pflags: read, attrs: {} })],
      ['OPENDIR', () => sftp.status(requests.opendir, { path })],
      ['STAT', () => sftp.status(requests.stat, { path })],
      ['LSTAT', () => sftp.status(requests.lstat, { path })],
      ['SETSTAT', () => sftp.status(requests.setstat, { path, attrs: { permissions: 0o600 } })],
      ['REMOVE', () => sftp.status(requests.remove, { filename: path })],
      ['RMDIR', () => sftp.status(requests.rmdir, { path })],
      ['RENAME', () => sftp.status(requests.rename, { oldpath: path, newpath: bytesOf(`${name}2`) })],
      ['READLINK', () => sftp.status(requests.readlink, { path })],
      ['MKDIR inside', () => sftp.status(requests.mkdir, { path: bytesOf(`${name}/x`), attrs: {} })],
    ]
    for (const [what, ask] of questions) expectCode(await ask(), statusCode.noSuchFile, what)
    return 'ten times NO_SUCH_FILE'
  }),
]

export const sftpNameChecks: readonly Check<SftpTrial>[] = [
  check('sftp.list', 'lists every name of a folder once', `${draft} s6.7`, 'must', async (trial) => {
    const sftp = await trial.session()
    const folder = trial.path('folder')
    await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
    const made = Array.from({ length: 120 }, (_, at) => `file ${at} ä`)
    for (const name of made) await sftp.make(`${folder}/${name}`, new Uint8Array(0))
    const listed = (await sftp.list(folder)).filter((name) => name !== '.' && name !== '..')
    if (listed.sort().join() !== made.sort().join()) throw new Unexpected('120 names', `${listed.length} names`)
    return '120 names'
  }),
  check('sftp.mkdir-twice', 'makes no folder that is there already', `${draft} s6.6`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = bytesOf(trial.path('folder'))
    await sftp.ok(requests.mkdir, { path, attrs: {} })
    return refusal(await sftp.status(requests.mkdir, { path, attrs: {} }))
  }),
  check('sftp.rmdir-full', 'removes no folder in which something is', `${draft} s6.6`, 'must', async (trial) => {
    const sftp = await trial.session()
    const folder = trial.path('folder')
    await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
    await sftp.make(`${folder}/file`, hello)
    const came = refusal(await sftp.status(requests.rmdir, { path: bytesOf(folder) }))
    expectData(await content(sftp, `${folder}/file`), hello)
    return came
  }),
  check('sftp.remove-folder', 'removes no folder by REMOVE, and no file by RMDIR', `${draft} s6.5`, 'must', async (trial) => {
    const sftp = await trial.session()
    const folder = trial.path('folder')
    await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
    const first = refusal(await sftp.status(requests.remove, { filename: bytesOf(folder) }))
    await sftp.make(`${folder}/file`, hello)
    return `${first}, ${refusal(await sftp.status(requests.rmdir, { path: bytesOf(`${folder}/file`) }))}`
  }),
  check('sftp.rename', 'gives a file another name', `${draft} s6.5`, 'must', async (trial) => {
    const sftp = await trial.session()
    const [oldpath, newpath] = [trial.path(), trial.path()]
    await sftp.make(oldpath, hello)
    await sftp.ok(requests.rename, { oldpath: bytesOf(oldpath), newpath: bytesOf(newpath) })
    expectData(await content(sftp, newpath), hello)
    expectCode(await sftp.status(requests.lstat, { path: bytesOf(oldpath) }), statusCode.noSuchFile, 'the old name')
    return 'the new name'
  }),
  check('sftp.rename-onto', 'renames nothing onto a name that is there already', `${draft} s6.5`, 'must', async (trial) => {
    const sftp = await trial.session()
    const [oldpath, newpath] = [trial.path(), trial.path()]
    await sftp.make(oldpath, hello)
    await sftp.make(newpath, bytesOf('other'))
    const code = await sftp.status(requests.rename, { oldpath: bytesOf(oldpath), newpath: bytesOf(newpath) })
    expectData(await content(sftp, newpath), bytesOf(code === statusCode.ok ? 'hello, world' : 'other'))
    return refusal(code)
  }),
  check('sftp.realpath', "makes paths absolute and free of '.' and '..'", `${draft} s6.11`, 'must', async (trial) => {
    const sftp = await trial.session()
    const folder = trial.path('folder')
    await sftp.ok(requests.mkdir, { path: bytesOf(folder), attrs: {} })
    const home = await sftp.name(requests.realpath, '.')
    if (!home.startsWith('/')) throw new Unexpected('an absolute path', home)
    const there = await sftp.name(requests.realpath, folder)
    const around = await sftp.name(requests.realpath, `${folder}/./../${folder.split('/').at(-1)}/.`)
    if (around !== there) throw new Unexpected(there, around)
    return 'absolute paths'
  }),
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
  check('sftp.attributes', 'tells size, permissions with the type, and times', `${draft} s5`, 'must', async (trial) => {
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
  }),
  check('sftp.fstat', 'tells the same of a handle as of its path', `${draft} s6.8`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    const handle = await sftp.open(path, read)
    const reply = await sftp.ask(requests.fstat, { handle })
    if (reply.type !== packetType.attrs) throw new Unexpected('ATTRS', describeReply(reply))
    const byPath = await sftp.ask(requests.stat, { path: bytesOf(path) })
    if (!equalBytes(reply.payload.subarray(5), byPath.payload.subarray(5))) throw new Unexpected('the same', 'something else')
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
    if ((permissions & 0o7777) !== 0o640) throw new Unexpected('permissions 640', (permissions & 0o7777).toString(8))
    return 'permissions 640'
  }),
  check('sftp.set-times', 'sets times', `${draft} s6.9`, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    await sftp.make(path, hello)
    await sftp.ok(requests.setstat, { path: bytesOf(path), attrs: { atime: 1_000_000_000, mtime: 1_234_567_890 } })
    const { mtime } = await sftp.attributes(path)
    if (mtime !== 1_234_567_890) throw new Unexpected('the time that was set', String(mtime))
    return 'the time that was set'
  }),
  check('sftp.link', 'follows a link by STAT, and does not by LSTAT', `${draft} s6.8`, 'must', async (trial) => {
    const sftp = await trial.session()
    const [target, link] = [trial.path(), trial.path('link')]
    await sftp.make(target, hello)
    await makeLink(sftp, target, link)
    const followed = await sftp.attributes(link)
    const itself = await sftp.attributes(link, requests.lstat)
    if (fileType(followed) !== 'file' || fileType(itself) !== 'symlink')
      throw new Unexpected('a file and a link', `${fileType(followed)} and ${fileType(itself)}`)
    return 'a file and a link'
  }),
  check('sftp.readlink', 'tells the target of a link, as it was given', `${draft} s6.10`, 'must', async (trial) => {
    const sftp = await trial.session()
    const link = trial.path('link')
    const target = '../some where/else'
    await makeLink(sftp, target, link)
    const told = await sftp.name(requests.readlink, link)
    if (told !== target) throw new Unexpected(target, told)
    return 'the target'
  }),
  check('sftp.symlink-order', 'takes the target of SYMLINK first, as OpenSSH does', 'OpenSSH PROTOCOL 4.1', 'should', async (trial) => {
    const sftp = await trial.session()
    const [target, link] = [trial.path(), trial.path('link')]
    await sftp.make(target, hello)
    const code = await sftp.status(requests.symlink, { linkpath: bytesOf(target), targetpath: bytesOf(link) })
    if (code !== statusCode.ok) throw new Unexpected('a link', `STATUS ${statusName(code)}`)
    return 'a link'
  }),
  check('sftp.remove-link', 'removes a link, not what it points to', `${draft} s6.5`, 'must', async (trial) => {
    const sftp = await trial.session()
    const [target, link] = [trial.path(), trial.path('link')]
    await sftp.make(target, hello)
    await makeLink(sftp, target, link)
    await sftp.ok(requests.remove, { filename: bytesOf(link) })
    expectData(await content(sftp, target), hello)
    return 'the file is there'
  }),
]

