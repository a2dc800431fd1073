// From a location to a disk on a real OpenSSH server: trust, login, the replay table of QEMU's own test of its ssh driver,
// and each wrong thing with an error of its own.

import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { AuthError, HostKeyError } from '@sshblock/transport/errors'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  createBlockDevice,
  type NodeConnectionOptions,
  openBlockDevice,
} from '../../packages/blockdev/src/node.ts'
import type {
  CreateBlockDeviceOptions,
  OpenBlockDeviceOptions,
} from '../../packages/blockdev/src/ssh-driver.ts'
import { freePort } from '../support/free-port.ts'
import { clientKey, hexFingerprint, strangerHostKey, unknownClientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { describeWith } from '../support/requirements.ts'
import { type Agent, needsAgent, startAgent } from '../support/ssh-agent.ts'
import { tempDir } from '../support/temp-dir.ts'
import { connectNearby } from './near-session.ts'
import { pattern, rejection } from './scripted-file.ts'

describeWith([needsOpenssh(), needsAgent()], 'a disk on an OpenSSH server', () => {
  let peer: OpensshPeer
  let agent: Agent
  let trust: NodeConnectionOptions
  beforeAll(async () => {
    peer = await startOpensshServer({ scope: 'file' })
    agent = await startAgent({ keys: [await clientKey('ed25519')], scope: 'file' })
    trust = { knownHostsFiles: [peer.paths.knownHosts], agent: agent.socket, keyFiles: [] }
  })

  const uri = (path: string, query = '') => `ssh://${peer.user}@${peer.host}:${peer.port}${path}${query}`
  const open = (location: string, options: OpenBlockDeviceOptions & NodeConnectionOptions = {}) =>
    openBlockDevice(location, { ...trust, ...options })
  const create = (location: string, options: CreateBlockDeviceOptions & NodeConnectionOptions) =>
    createBlockDevice(location, { ...trust, ...options })

  test('is created, written, flushed, opened again and read; the file on the server is what it should be', async () => {
    const path = join(peer.paths.data, 'round trip.img')
    const content = pattern(3_000_320)
    const made = await create(uri(path.replace(' ', '%20')), { size: content.length })
    await Promise.all([
      made.write(0, content.subarray(0, 1_000_000)),
      made.write(1_000_000, content.subarray(1_000_000)),
    ])
    await made.flush()
    await made.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
    const again = await open(uri(path.replace(' ', '%20')))
    const found = new Uint8Array(content.length)
    for (let at = 0; at < found.length; at += 65_536) await again.read(at, found.subarray(at, at + 65_536))
    expect(Buffer.compare(found, content)).toBe(0)
    await again.close()
  })

  test('tells whom it talks to and how', async () => {
    const path = join(peer.paths.data, 'info.img')
    writeFileSync(path, new Uint8Array(512))
    const disk = await open(uri(path))
    expect(disk.info).toMatchObject({
      path,
      size: 512,
      kind: 'file',
      readOnly: true,
      flushPolicy: 'strict',
      durability: 'durable',
    })
    const server = disk.info.server!
    expect(server).toMatchObject({
      host: peer.host,
      port: peer.port,
      user: peer.user,
      identification: expect.stringMatching(/^SSH-2\.0-OpenSSH/),
    })
    const shown = peer.hostKeys.find(({ algorithm }) => algorithm === server.hostKeyType)!
    expect(server.hostKeyFingerprint).toBe(shown.fingerprint)
    expect(server.algorithms.kex).not.toBe('')
    expect(server.authentication).toMatch(/publickey/)
    expect(disk.info.extensions.has('fsync@openssh.com')).toBe(true)
    await disk.close()
  })

  test('closing says goodbye, and leaves nothing running', async () => {
    const path = join(peer.paths.data, 'goodbye.img')
    writeFileSync(path, new Uint8Array(512))
    const mine = await startOpensshServer({ config: ['LogLevel DEBUG'] })
    const disk = await openBlockDevice(`ssh://${mine.user}@${mine.host}:${mine.port}${path}`, {
      ...trust,
      knownHostsFiles: [mine.paths.knownHosts],
    })
    await disk.close()
    await disk.close()
    await mine.waitForLog(/Received disconnect from .*:11:/)
    expect(await rejection(disk.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EBADF' })
    // Also where the opening failed after the login.
    await rejection(
      openBlockDevice(`ssh://${mine.user}@${mine.host}:${mine.port}/nothing`, {
        ...trust,
        knownHostsFiles: [mine.paths.knownHosts],
      }),
    )
    await mine.waitForLog(/(Received disconnect from .*:11:[\s\S]*){2}/)
  })

  test('the replay table: each host key check, right and wrong; a wrong one leaves the file untouched', async () => {
    const path = join(peer.paths.data, 'replay.img')
    const size = () => statSync(path).size
    // The server shows the first of its keys that the driver prefers: learn which.
    const probe = await create(uri(path), { size: 512 })
    const { hostKeyType } = probe.info.server!
    await probe.close()
    const { blob } = peer.hostKeys.find(({ algorithm }) => algorithm === hostKeyType)!
    const MiB = 1 << 20
    const rows: [query: string, size: number, code: string | undefined][] = [
      ['', 4 * MiB, undefined],
      ['?host_key_check=no', 8 * MiB, undefined],
      ['?host_key_check=yes', 4 * MiB, undefined],
      ['?host_key_check=md5:wrong', 2 * MiB, 'EPERM'],
      [`?host_key_check=md5:${hexFingerprint(blob, 'md5')}`, 8 * MiB, undefined],
      ['?host_key_check=sha1:wrong', 2 * MiB, 'EPERM'],
      [`?host_key_check=sha1:${hexFingerprint(blob, 'sha1')}`, 4 * MiB, undefined],
      ['?host_key_check=sha256:wrong', 2 * MiB, 'EPERM'],
      [`?host_key_check=sha256:${hexFingerprint(blob, 'sha256')}`, 4 * MiB, undefined],
    ]
    for (const [query, wanted, code] of rows) {
      const before = size()
      // Where known_hosts is not asked, there is none.
      const knownHostsFiles = query === '' || query.endsWith('yes') ? [peer.paths.knownHosts] : []
      const made = create(uri(path, query), { size: wanted, overwrite: true, knownHostsFiles })
      if (code === undefined) await (await made).close()
      else expect(await rejection(made), query).toMatchObject({ code, cause: expect.any(HostKeyError) })
      expect(size(), query).toBe(code === undefined ? wanted : before)
    }
  })

  test('the rule for hex: colons before bytes, any case; nothing after the last byte, nothing short', async () => {
    const path = join(peer.paths.data, 'hex.img')
    writeFileSync(path, new Uint8Array(512))
    const disk = await open(uri(path))
    const { hostKeyType, hostKeyFingerprint } = disk.info.server!
    await disk.close()
    const hex = hexFingerprint(
      peer.hostKeys.find(({ algorithm }) => algorithm === hostKeyType)!.blob,
      'sha256',
    )
    const colons = hex.replace(/(..)(?=.)/g, '$1:')
    const tries: [check: string, works: boolean][] = [
      [`sha256:${colons}`, true],
      [`sha256:::${colons.toUpperCase().replaceAll(':', '::')}`, true],
      [`sha256:${colons}:`, false],
      [`sha256:${hex.slice(0, -2)}`, false],
      [`sha256:${hex}00`, false],
      [`md5:${hex}`, false],
      [hostKeyFingerprint, true],
      [`${hostKeyFingerprint}=`, true],
      [`SHA256:${hostKeyFingerprint.slice(7).replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))}`, false],
    ]
    for (const [check, works] of tries) {
      const opened = openBlockDevice(
        { server: { host: peer.host, port: peer.port }, user: peer.user, path, hostKeyCheck: check },
        { agent: agent.socket, keyFiles: [], knownHostsFiles: [] },
      )
      if (works) await (await opened).close()
      else
        expect(await rejection(opened), check).toMatchObject({
          code: 'EPERM',
          cause: { code: 'ERR_SSH_HOST_KEY_MISMATCH' },
        })
    }
  })

  test('no check reaches authentication without a verdict: a wrong host key, and the agent is never asked', async () => {
    const asked: string[] = []
    const spy = {
      list: async () => {
        asked.push('list')
        return []
      },
      sign: async () => {
        asked.push('sign')
        return new Uint8Array(0)
      },
    }
    for (const query of ['?host_key_check=sha256:00', '']) {
      await rejection(
        openBlockDevice(uri('/x', query), { knownHostsFiles: [], auth: [{ type: 'agent', agent: spy }] }),
      )
    }
    expect(asked).toEqual([])
  })

  test('an unknown host key, a changed one, and each of the other wrong things have their own error', async () => {
    const path = join(peer.paths.data, 'wrong.img')
    writeFileSync(path, new Uint8Array(512))
    expect(await rejection(open(uri(path), { knownHostsFiles: [] }))).toMatchObject({
      code: 'EPERM',
      cause: { code: 'ERR_SSH_HOST_KEY_UNKNOWN' },
    })

    const stranger = await strangerHostKey('ed25519')
    const changed = join(tempDir('known-hosts'), 'known_hosts')
    writeFileSync(changed, `[${peer.host}]:${peer.port} ${stranger.publicLine}\n`)
    expect(await rejection(open(uri(path), { knownHostsFiles: [changed] }))).toMatchObject({
      code: 'EPERM',
      cause: { code: 'ERR_SSH_HOST_KEY_CHANGED' },
    })

    const noSuchUser = await rejection(open(`ssh://invalid%20user@${peer.host}:${peer.port}${path}`))
    expect(noSuchUser).toMatchObject({ code: 'EPERM', cause: expect.any(AuthError) })
    expect(noSuchUser.message).toMatch(/"invalid user".*allows publickey.*tried publickey/)

    const unknown = await unknownClientKey()
    expect(await rejection(open(uri(path), { agent: false, keyFiles: [unknown.privateFile] }))).toMatchObject(
      { code: 'EPERM', cause: expect.any(AuthError) },
    )
    expect(await rejection(open(uri(path), { agent: false, keyFiles: [] }))).toMatchObject({
      code: 'EPERM',
      cause: { allowed: ['publickey'] },
    })

    const missing = await rejection(create(uri(join(peer.paths.data, 'nothing', 'x.img')), { size: 512 }))
    expect(missing).toMatchObject({ code: 'ENOENT' })
    expect(missing.message).toMatch(/nothing\/x\.img.*No such file \(SFTP status 2/)

    expect(await rejection(open(`ssh://${peer.user}@${peer.host}:${await freePort()}${path}`))).toMatchObject(
      { code: 'ECONNREFUSED' },
    )
    expect(await rejection(open(`ssh://${peer.user}@no-such-host.invalid${path}`))).toMatchObject({
      code: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/),
    })
    expect(await rejection(open('ssh:///path'))).toMatchObject({ code: 'EINVAL', field: 'host' })
    expect(await rejection(open('ssh://h'))).toMatchObject({ code: 'EINVAL', field: 'path' })
    expect(existsSync(path)).toBe(true)
  })

  test('something that is no SSH server, and a server without sftp, have their own error', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.0 400 Bad Request\r\n\r\n')).listen(
      0,
      '127.0.0.1',
    )
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    const notSsh = await rejection(open(`ssh://u@127.0.0.1:${port}/p`))
    server.close()
    expect(notSsh.code).toMatch(/^ERR_SSH_/)
    const noSftp = await startOpensshServer({ sftp: null })
    const error = await rejection(
      openBlockDevice(`ssh://${noSftp.user}@${noSftp.host}:${noSftp.port}/p`, {
        ...trust,
        knownHostsFiles: [noSftp.paths.knownHosts],
      }),
    )
    expect(error.message).toMatch(/sftp/)
    expect(new Set([notSsh.code, error.code]).size).toBe(2)
  })

  test('cancelling the opening ends it', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await new Promise((resolve) => silent.once('listening', resolve))
    const { port } = silent.address() as { port: number }
    const error = await rejection(open(`ssh://u@127.0.0.1:${port}/p`, { signal: AbortSignal.timeout(100) }))
    silent.close()
    expect(error.code).toBe('ABORT_ERR')
  })

  test('reads go on beside a flush on a second channel; a server that gives one channel only is no error', async () => {
    const content = pattern(1 << 20)
    const path = join(peer.paths.data, 'channels.img')
    for (const [maxSessions, channels] of [
      [10, 2],
      [1, 1],
    ] as const) {
      writeFileSync(path, content)
      const server = await startOpensshServer({ maxSessions })
      const disk = await openBlockDevice(`ssh://${server.user}@${server.host}:${server.port}${path}`, {
        ...trust,
        connect: connectNearby((await clientKey('ed25519')).privateFile),
        writable: true,
      })
      await disk.write(0, content.subarray(0, 4096))
      await disk.writeZeroes(1 << 19, 1 << 19)
      for (let i = 0; i < 100 && disk.info.channels < channels; i++)
        await new Promise((resolve) => setTimeout(resolve, 10))
      expect(disk.info.channels).toBe(channels)
      const into = new Uint8Array(1 << 20)
      await Promise.all([disk.flush(), disk.read(0, into)])
      expect(Buffer.compare(into.subarray(0, 1 << 19), content.subarray(0, 1 << 19))).toBe(0)
      expect(into.subarray(1 << 19).every((byte) => byte === 0)).toBe(true)
      await disk.close()
    }
  })

  test('without an outage budget a connection that is lost fails everything pending at once', async () => {
    const path = join(peer.paths.data, 'lost.img')
    writeFileSync(path, pattern(1 << 20))
    const server = await startOpensshServer()
    const disk = await openBlockDevice(`ssh://${server.user}@${server.host}:${server.port}${path}`, {
      ...trust,
      knownHostsFiles: [server.paths.knownHosts],
      writable: true,
      reconnectDelayMs: 0,
    })
    const started = performance.now()
    const pending = Array.from({ length: 20 }, (_, i) =>
      i % 2 === 0 ? disk.read(i * 4096, new Uint8Array(4096)) : disk.write(i * 4096, new Uint8Array(4096)),
    )
    const outcomes = Promise.allSettled(pending)
    await server.stop()
    await outcomes
    expect(await rejection(disk.read(0, new Uint8Array(1)))).toMatchObject({ code: 'EIO' })
    await rejection(disk.flush())
    await disk.close().catch(() => {})
    expect(performance.now() - started).toBeLessThan(10_000)
  })
})

describe('defaults', () => {
  test('a location that cannot be used is refused before anything is connected', async () => {
    expect(await rejection(openBlockDevice('http://h/p'))).toMatchObject({ code: 'EINVAL', field: 'scheme' })
    expect(await rejection(createBlockDevice({ path: '/p' } as never, { size: 1 }))).toMatchObject({
      code: 'EINVAL',
      field: 'server',
    })
  })
})
