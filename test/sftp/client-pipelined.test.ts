/** A client that is given out before the server has answered INIT: what leaves when, and what becomes of it. */
import { expect, test } from 'vitest'
import {
  channelsForUpload,
  SftpClient,
  SftpProtocolError,
  sftpChannels,
  takesRequestsBehindInit,
} from '../../packages/sftp/src/index.ts'
import { replies } from '../../packages/sftp/src/messages/index.ts'
import { packetOf, pattern, ScriptedServer, type ScriptedServerOptions, settle } from './scripted-server.ts'

const content = pattern(5000)
const files = [['/f', content]] as const
const limits = { maxPacketLength: 0n, maxReadLength: 100_000n, maxWriteLength: 50_000n, maxOpenHandles: 7n }

function begun(options: ScriptedServerOptions = {}) {
  const server = new ScriptedServer({ files, ...options })
  server.hold()
  return { server, client: SftpClient.begin(server.channel, { requestTimeoutMs: 1000 }) }
}

test('requests leave behind INIT before VERSION came, and are answered', async () => {
  const { server, client } = begun({ limits })
  const stats = client.stat('/f')
  const file = client.open('/f')
  await settle()
  expect(server.log.map(({ name, extension }) => extension ?? name)).toEqual([
    'INIT',
    'limits@openssh.com',
    'STAT',
    'OPEN',
  ])
  expect(client.extensions.size).toBe(0)
  server.release()
  await expect(client.opened).resolves.toBeUndefined()
  await expect(stats).resolves.toMatchObject({ size: content.length })
  const into = new Uint8Array(content.length)
  await expect((await file).read(0, into)).resolves.toBe(content.length)
  expect(into).toEqual(content)
  await expect(client.limitsKnown).resolves.toMatchObject({ maxReadBytes: 100_000 })
  expect(client.supports('limits@openssh.com', '1')).toBe(true)
})

test('a server without limits refuses to tell them, and the defaults hold', async () => {
  const { server, client } = begun()
  server.release()
  await client.opened
  await expect(client.limitsKnown).resolves.toMatchObject({ maxReadBytes: 32_768 })
  await expect(client.stat('/f')).resolves.toMatchObject({ size: content.length })
})

test('another version fails what was asked for, with the error of opening', async () => {
  const { server, client } = begun({
    onRequest: (request, self) => {
      if (request.name !== 'INIT') return false
      self.answer(request, packetOf(replies.version, { version: 2, extensions: [] }))
      return true
    },
  })
  const stats = client.stat('/f')
  server.release()
  await expect(stats).rejects.toBeInstanceOf(SftpProtocolError)
  await expect(client.opened).rejects.toBeInstanceOf(SftpProtocolError)
})

test('only servers that were tried are asked for anything before they answered', () => {
  for (const known of [
    'SSH-2.0-OpenSSH_9.2p1',
    'SSH-2.0-dropbear_2022.83',
    'SSH-2.0-AsyncSSH_2.10.1',
    'SSH-2.0-sshblock_0.1',
  ])
    expect(takesRequestsBehindInit(known)).toBe(true)
  for (const other of ['SSH-2.0-paramiko_2.12.0', 'SSH-2.0-Go', 'SSH-1.99-OpenSSH_3', '', undefined])
    expect(takesRequestsBehindInit(other)).toBe(false)
})

test.each([
  ['SSH-2.0-OpenSSH_9.2p1', true],
  ['SSH-2.0-Go', false],
])('a channel of %s may be given out unopened: %s', async (peerIdentification, isUnopened) => {
  const server = new ScriptedServer({ files })
  server.hold()
  const session = { info: { peerIdentification }, openSubsystem: async () => server.channel }
  let client: SftpClient | undefined
  const opening = sftpChannels(session)({ mayBeUnopened: true }).then((given) => {
    client = given
  })
  await settle()
  expect(client !== undefined).toBe(isUnopened)
  server.release()
  await opening
  await expect(client!.stat('/f')).resolves.toMatchObject({ size: content.length })
})

test('an upload wants all its channels early over a long way only', () => {
  expect(channelsForUpload(0.1)).toBe(1)
  expect(channelsForUpload(19)).toBe(1)
  expect(channelsForUpload(20)).toBe(8)
})
