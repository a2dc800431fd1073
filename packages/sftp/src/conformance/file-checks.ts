// Files and what is in them (draft-ietf-secsh-filexfer-02 s6.3 and s6.4).

import { type Check, check, Unexpected } from '@sshblock/transport/conformance'
import { packetType } from '../messages/numbers.ts'
import { openFlag } from '../messages/open-flags.ts'
import * as requests from '../messages/requests.ts'
import { statusCode } from '../messages/status.ts'
import { content, expectCode, expectData, hello, refusal } from './expectations.ts'
import { bytesOf, describeReply } from './scripted-sftp.ts'
import type { SftpTrial } from './sftp-trial.ts'

const draft = 'filexfer-02'
const openClause = `${draft} s6.3`
const dataClause = `${draft} s6.4`
const { read, write, creat, trunc, excl, append } = openFlag

export const sftpFileChecks: readonly Check<SftpTrial>[] = [
  check('sftp.write-read', 'gives back what was written', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), read | write | creat)
    await sftp.write(handle, 0, hello)
    expectData(await sftp.read(handle, 0, hello.length), hello)
    expectData(await sftp.read(handle, 7, 5), hello.subarray(7))
    return `${hello.length} bytes`
  }),
  check(
    'sftp.order',
    'reads what was written just before, without an answer between',
    'filexfer-13 s4.1',
    'must',
    async (trial) => {
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
    },
  ),
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
  check(
    'sftp.read-short',
    'gives what there is where less is there than was asked for',
    dataClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const handle = await sftp.open(trial.path(), read | write | creat)
      await sftp.write(handle, 0, hello)
      expectData(await sftp.read(handle, 7, 20_000), hello.subarray(7))
      return `${hello.length - 7} bytes`
    },
  ),
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
  check(
    'sftp.write-beyond',
    'reads as zeros what lies between the end of a file and a WRITE beyond it',
    dataClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const handle = await sftp.open(trial.path(), read | write | creat)
      await sftp.write(handle, 0, hello)
      await sftp.write(handle, 100, hello)
      expectData(await sftp.read(handle, hello.length, 88), new Uint8Array(88))
      expectData(await sftp.read(handle, 100, 100), hello)
      return '88 zeros'
    },
  ),
  check('sftp.offset-64-bit', 'takes offsets beyond 4 GiB', dataClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const path = trial.path()
    const handle = await sftp.open(path, read | write | creat)
    const offset = 5 * 2 ** 30
    await sftp.write(handle, offset, hello)
    expectData(await sftp.read(handle, offset, hello.length), hello)
    const { size } = await sftp.attributes(path)
    await sftp.status(requests.setstat, { path: bytesOf(path), attrs: { size: 0 } })
    if (size !== offset + hello.length)
      throw new Unexpected(`a size of ${offset + hello.length}`, String(size))
    return `a size of ${size}`
  }),
  check(
    'sftp.open-truncate',
    'empties a file that is opened with TRUNC',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      await sftp.close(await sftp.open(path, write | creat | trunc))
      expectData(await content(sftp, path), new Uint8Array(0))
      return 'an empty file'
    },
  ),
  check(
    'sftp.open-keep',
    'keeps the content of a file that is opened without TRUNC',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      const handle = await sftp.open(path, write | creat)
      await sftp.write(handle, 0, bytesOf('J'))
      await sftp.close(handle)
      expectData(await content(sftp, path), bytesOf('Jello, world'))
      return 'the rest of the file'
    },
  ),
  check(
    'sftp.open-exclusive',
    'opens no file with EXCL that is there already',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      const code = await sftp.status(requests.open, {
        filename: bytesOf(path),
        pflags: write | creat | excl,
        attrs: {},
      })
      expectData(await content(sftp, path), hello)
      return refusal(code)
    },
  ),
  check(
    'sftp.open-append',
    'writes at the end of a file that is opened with APPEND',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      const handle = await sftp.open(path, write | append)
      await sftp.write(handle, 0, bytesOf('!'))
      await sftp.close(handle)
      expectData(await content(sftp, path), bytesOf('hello, world!'))
      return '13 bytes'
    },
  ),
  check(
    'sftp.open-read-only',
    'writes nothing through a handle that was opened to read',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      const handle = await sftp.open(path, read)
      const code = await sftp.status(requests.write, { handle, offset: 0, data: bytesOf('J') })
      expectData(await content(sftp, path), hello)
      return refusal(code)
    },
  ),
  check(
    'sftp.open-write-only',
    'reads nothing through a handle that was opened to write',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.make(path, hello)
      const came = await sftp.read(await sftp.open(path, write), 0, 5)
      if (typeof came !== 'number') throw new Unexpected('a refusal', `DATA with ${came.length} bytes`)
      return refusal(came)
    },
  ),
  check(
    'sftp.open-mode',
    'makes a file with the permissions that were asked for, but the umask',
    openClause,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const path = trial.path()
      await sftp.close(await sftp.open(path, write | creat, { permissions: 0o600 }))
      const { permissions = 0 } = await sftp.attributes(path)
      if ((permissions & 0o777) !== 0o600)
        throw new Unexpected('permissions 600', (permissions & 0o777).toString(8))
      return 'permissions 600'
    },
  ),
  check(
    'sftp.missing',
    'answers with NO_SUCH_FILE where there is no file or folder of that name',
    `${draft} s7`,
    'must',
    async (trial) => {
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
    },
  ),
]
