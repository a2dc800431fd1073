// Packets, versions, ids, unknown and malformed requests, handles (draft-ietf-secsh-filexfer-02 s3, s4, s6, s7, s8).

import { type Check, check, NotApplicable, Unexpected } from '@sshblock/transport/conformance'
import { concat, Writer } from '@sshblock/transport/wire'
import { maxHandleBytes } from '../limits.ts'
import { packetType, packetTypeName } from '../messages/numbers.ts'
import { openFlag } from '../messages/open-flags.ts'
import * as replies from '../messages/replies.ts'
import * as requests from '../messages/requests.ts'
import { statusCode, statusName } from '../messages/status.ts'
import { refusal } from './expectations.ts'
import {
  bytesOf,
  decodeReply,
  describeReply,
  describeSftpArrival,
  framed,
  type ScriptedSftp,
  statusIn,
} from './scripted-sftp.ts'
import type { SftpTrial } from './sftp-trial.ts'

const draft = 'filexfer-02'
const requiredPacketBytes = 34_000

/** A request of another type than any that is known, with this id. */
function requestOf(type: number, id: number): Uint8Array {
  return new Writer().u8(type).u32(id).u32(0).u32(0).u32(0).u32(0).copy()
}

/** The server refuses by STATUS, or ends the session: it does not go on as if nothing had been. @throws Unexpected */
async function expectRefused(sftp: ScriptedSftp, id?: number): Promise<string> {
  const arrival = await sftp.next()
  if (arrival.kind === 'end') return 'the end of the session'
  if (arrival.kind === 'reply' && arrival.reply.type === packetType.status) {
    if (statusIn(arrival.reply) === statusCode.ok) throw new Unexpected('a refusal', 'STATUS OK')
    if (id === undefined || arrival.reply.id === id) return describeReply(arrival.reply)
  }
  throw new Unexpected('a refusal, or the end of the session', describeSftpArrival(arrival))
}

/** The session ends, without an answer. @throws Unexpected */
async function expectEnd(sftp: ScriptedSftp): Promise<string> {
  const arrival = await sftp.next()
  if (arrival.kind !== 'end') throw new Unexpected('the end of the session', describeSftpArrival(arrival))
  return describeSftpArrival(arrival)
}

/** Sends bytes that are no honest request; the server refuses them or ends the session. */
function malformed(id: string, claim: string, bytes: (ourId: number) => Uint8Array): Check<SftpTrial> {
  return check(id, claim, `${draft} s3`, 'guard', async (trial) => {
    const sftp = await trial.session()
    const ourId = sftp.id()
    sftp.sendRaw(bytes(ourId))
    return expectRefused(sftp)
  })
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0))

export const sftpPacketChecks: readonly Check<SftpTrial>[] = [
  check('sftp.version', 'answers INIT of version 3 with VERSION 3', `${draft} s4`, 'must', async (trial) => {
    const sftp = await trial.raw()
    const version = await sftp.init(3)
    if (version !== 3) throw new Unexpected('VERSION 3', `VERSION ${version}`)
    return `VERSION 3 with ${sftp.extensions.size} extensions`
  }),
  check(
    'sftp.version-higher',
    'answers INIT of version 9 with a version of its own, 3 or more',
    `${draft} s4`,
    'must',
    async (trial) => {
      const sftp = await trial.raw()
      const version = await sftp.init(9)
      if (version < 3 || version > 9) throw new Unexpected('a version from 3 to 9', `VERSION ${version}`)
      return `VERSION ${version}`
    },
  ),
  check(
    'sftp.before-init',
    'does nothing that is asked before INIT',
    `${draft} s4`,
    'guard',
    async (trial) => {
      const sftp = await trial.raw()
      sftp.send(requests.realpath, { id: 1, path: bytesOf('.') })
      return expectRefused(sftp)
    },
  ),
  check('sftp.split', 'takes a request that comes byte by byte', `${draft} s3`, 'must', async (trial) => {
    const sftp = await trial.session()
    const id = sftp.id()
    for (const byte of framed(requests.realpath.bytes({ id, path: bytesOf('.') }))) {
      sftp.sendRaw(Uint8Array.of(byte))
      await turn()
    }
    return describeReply(await sftp.answer(id))
  }),
  check(
    'sftp.many',
    'answers each of 100 requests that come in one piece',
    `${draft} s3`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const ids = Array.from({ length: 100 }, () => sftp.id())
      sftp.sendRaw(concat(...ids.map((id) => framed(requests.realpath.bytes({ id, path: bytesOf('.') })))))
      const open = new Set(ids)
      while (open.size > 0) {
        const arrival = await sftp.next()
        if (arrival.kind !== 'reply')
          throw new Unexpected(`${open.size} more answers`, describeSftpArrival(arrival))
        if (!open.delete(arrival.reply.id))
          throw new Unexpected('an answer to each', `one to ${arrival.reply.id}`)
      }
      return '100 answers'
    },
  ),
  check(
    'sftp.ids',
    'answers with the id of the request, whatever number it is',
    `${draft} s3`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      for (const id of [0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        sftp.send(requests.realpath, { id, path: bytesOf('.') })
        await sftp.answer(id)
      }
      return 'four answers'
    },
  ),
  check(
    'sftp.34000',
    `takes a packet of ${requiredPacketBytes} bytes`,
    `${draft} s3`,
    'should',
    async (trial) => {
      const sftp = await trial.session()
      const handle = await sftp.open(trial.path(), openFlag.write | openFlag.creat)
      const overhead = 4 + 1 + 4 + 4 + handle.length + 8 + 4
      const data = new Uint8Array(requiredPacketBytes - overhead).fill(3)
      await sftp.write(handle, 0, data)
      return `a WRITE of ${data.length} bytes`
    },
  ),
  check(
    'sftp.unknown-type',
    'answers a request of a type that it does not know with OP_UNSUPPORTED',
    `${draft} s7`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      for (const type of [21, 99, 150, 202, 255]) {
        const id = sftp.id()
        sftp.sendPayload(requestOf(type, id))
        const code = statusIn(await sftp.answer(id))
        if (code !== statusCode.opUnsupported)
          throw new Unexpected(`OP_UNSUPPORTED for type ${type}`, statusName(code))
      }
      return 'five times OP_UNSUPPORTED'
    },
  ),
  check(
    'sftp.reply-types',
    'takes replies of a server for requests that it does not know',
    `${draft} s7`,
    'guard',
    async (trial) => {
      const came = new Set<string>()
      for (const type of [
        packetType.status,
        packetType.handle,
        packetType.data,
        packetType.name,
        packetType.attrs,
      ]) {
        const sftp = await trial.session()
        sftp.sendPayload(requestOf(type, sftp.id()))
        try {
          came.add(await expectRefused(sftp))
        } catch (error) {
          if (error instanceof Unexpected)
            throw new Unexpected(`${error.expected} at ${packetTypeName(type)}`, error.came)
          throw error
        }
      }
      return [...came].join(', ')
    },
  ),
  check(
    'sftp.unknown-extension',
    'answers an extension that it does not know with OP_UNSUPPORTED',
    `${draft} s8`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const id = sftp.id()
      sftp.sendPayload(
        new Writer().u8(packetType.extended).u32(id).text('nothing@conformance.invalid').text('x').copy(),
      )
      const code = statusIn(await sftp.answer(id))
      if (code !== statusCode.opUnsupported) throw new Unexpected('OP_UNSUPPORTED', statusName(code))
      return 'STATUS OP_UNSUPPORTED'
    },
  ),
  check(
    'sftp.status-form',
    'sends a message and a language tag with every STATUS',
    `${draft} s7`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const reply = await sftp.ask(requests.lstat, { path: bytesOf('/nothing of this name') })
      if (reply.type !== packetType.status) throw new Unexpected('STATUS', describeReply(reply))
      const { message, language } = decodeReply(replies.status, reply)
      const bytes = 1 + 4 + 4 + 4 + bytesOf(message).length + 4 + bytesOf(language).length
      if (reply.payload.length < bytes)
        throw new Unexpected('both texts', `a STATUS of ${reply.payload.length} bytes`)
      return 'both'
    },
  ),
  malformed('sftp.length-0', 'refuses a packet of length 0', (id) =>
    // Something follows: a server that waits for a type byte gets one.
    concat(new Uint8Array(4), framed(requests.realpath.bytes({ id, path: bytesOf('.') }))),
  ),
  check(
    'sftp.length-huge',
    'ends the session at a length of 2^32 - 1 without waiting for so much',
    `${draft} s3`,
    'guard',
    async (trial) => {
      const sftp = await trial.session()
      sftp.sendRaw(Uint8Array.of(255, 255, 255, 255, packetType.write, 0, 0, 0, 1))
      return expectEnd(sftp)
    },
  ),
  malformed('sftp.truncated', 'refuses a request that is too short', (id) =>
    framed(new Writer().u8(packetType.open).u32(id).text('x').copy()),
  ),
  malformed('sftp.string-length', 'refuses a string longer than its packet', (id) =>
    framed(new Writer().u8(packetType.realpath).u32(id).u32(0xffff_ffff).u8(46).copy()),
  ),
  malformed('sftp.attribute-count', 'refuses more extended attributes than there are bytes', (id) =>
    framed(new Writer().u8(packetType.setstat).u32(id).text('x').u32(0x8000_0000).u32(0xffff_ffff).copy()),
  ),
  check(
    'sftp.end',
    'ends the session when the client ends its direction',
    'RFC 4254 s5.3',
    'must',
    async (trial) => {
      const sftp = await trial.session()
      sftp.channel.end()
      return expectEnd(sftp)
    },
  ),
]

const handleClause = `${draft} s6.3`

/** Uses a handle in every request that takes one; each has to be refused. */
async function unusable(sftp: ScriptedSftp, handle: Uint8Array): Promise<string> {
  const came = new Set<string>()
  const data = bytesOf('x')
  const questions: [string, () => Promise<number>][] = [
    ['FSTAT', () => sftp.status(requests.fstat, { handle })],
    ['FSETSTAT', () => sftp.status(requests.fsetstat, { handle, attrs: {} })],
    ['READ', () => sftp.status(requests.read, { handle, offset: 0, len: 1 })],
    ['WRITE', () => sftp.status(requests.write, { handle, offset: 0, data })],
    ['READDIR', () => sftp.status(requests.readdir, { handle })],
    ['CLOSE', () => sftp.status(requests.close, { handle })],
  ]
  for (const [name, ask] of questions) {
    const code = await ask()
    if (code === statusCode.ok || code === statusCode.eof)
      throw new Unexpected(`a refusal of ${name}`, statusName(code))
    came.add(statusName(code))
  }
  return [...came].join(', ')
}

export const sftpHandleChecks: readonly Check<SftpTrial>[] = [
  check('sftp.handle-length', 'gives handles of 1 to 256 bytes', handleClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.opendir('.')
    if (handle.length < 1 || handle.length > maxHandleBytes)
      throw new Unexpected('1 to 256 bytes', String(handle.length))
    return `${handle.length} bytes`
  }),
  check(
    'sftp.handle-unknown',
    'refuses handles that it did not give',
    handleClause,
    'must',
    async (trial) => {
      const came = new Set<string>()
      for (const handle of [
        new Uint8Array(0),
        bytesOf('no handle'),
        Uint8Array.of(255, 255, 255, 255),
        new Uint8Array(256),
      ])
        came.add(await unusable(await trial.session(), handle))
      return [...came].join('; ')
    },
  ),
  check('sftp.handle-closed', 'refuses a handle that was closed', handleClause, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.opendir('.')
    await sftp.close(handle)
    return unusable(sftp, handle)
  }),
  check(
    'sftp.handle-other-session',
    'refuses a handle of another session',
    handleClause,
    'guard',
    async (trial) => {
      const [one, other] = [await trial.session(), await trial.session()]
      return unusable(other, await one.opendir('.'))
    },
  ),
  check(
    'sftp.handle-of-folder',
    'reads and writes no folder as a file',
    `${draft} s6.4`,
    'must',
    async (trial) => {
      const sftp = await trial.session()
      const handle = await sftp.opendir('.')
      const read = await sftp.read(handle, 0, 10)
      if (typeof read !== 'number')
        throw new Unexpected('a refusal of READ', `DATA with ${read.length} bytes`)
      const write = await sftp.status(requests.write, { handle, offset: 0, data: bytesOf('x') })
      return `${refusal(read)}, ${refusal(write)}`
    },
  ),
  check('sftp.handle-of-file', 'lists no file as a folder', `${draft} s6.7`, 'must', async (trial) => {
    const sftp = await trial.session()
    const handle = await sftp.open(trial.path(), openFlag.read | openFlag.write | openFlag.creat)
    return refusal(await sftp.status(requests.readdir, { handle }))
  }),
  check(
    'sftp.handle-many',
    'refuses handles beyond a limit, and lives on',
    handleClause,
    'guard',
    async (trial) => {
      const sftp = await trial.session()
      const most = 2000
      const handles: Uint8Array[] = []
      for (let at = 0; at < most; at++) {
        const reply = await sftp.ask(requests.opendir, { path: bytesOf('.') })
        if (reply.type === packetType.handle) {
          handles.push(decodeReply(replies.handle, reply).handle)
          continue
        }
        const came = refusal(statusIn(reply))
        await sftp.close(handles[0]!)
        await sftp.close(await sftp.opendir('.'))
        return `${came} behind ${at} handles`
      }
      throw new NotApplicable(`it gives ${most} handles and more`)
    },
  ),
]
