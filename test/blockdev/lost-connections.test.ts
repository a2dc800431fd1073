// Lost connections with a real OpenSSH server: what was acknowledged is there afterwards, what is read is never stale, and
// every call ends.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { ConnectionEvent } from '../../packages/blockdev/src/image/options.ts'
import { openBlockDevice } from '../../packages/blockdev/src/node.ts'
import type { SftpDevice } from '../../packages/blockdev/src/sftp-device.ts'
import type { OpenBlockDeviceOptions } from '../../packages/blockdev/src/ssh-driver.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { commandOf, descendantsOf, signal } from '../support/process-tree.ts'
import { startProxy, type TcpProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { pattern, rejection } from './scripted-file.ts'

const MiB = 1 << 20

interface Disk {
  readonly device: SftpDevice
  readonly events: ConnectionEvent[]
  readonly types: () => string[]
}

describeWith([needsOpenssh()], 'a disk on an OpenSSH server whose connection is lost', () => {
  let peer: OpensshPeer
  let keyFile: string
  beforeAll(async () => {
    peer = await startOpensshServer({ scope: 'file', sftp: 'sftp-server' })
    keyFile = (await clientKey('ed25519')).privateFile
  })

  let count = 0
  function image(size = 4 * MiB, server = peer): { path: string; content: Uint8Array } {
    const path = join(server.paths.data, `disk-${++count}.img`)
    const content = pattern(size, count)
    writeFileSync(path, content)
    return { path, content }
  }

  async function open(
    path: string,
    proxy: { port: number },
    options: OpenBlockDeviceOptions = {},
  ): Promise<Disk> {
    const events: ConnectionEvent[] = []
    const device = await openBlockDevice(
      `ssh://${peer.user}@127.0.0.1:${proxy.port}${path}?host_key_check=no`,
      {
        agent: false,
        keyFiles: [keyFile],
        knownHostsFiles: [],
        writable: true,
        firstRetryMs: 20,
        onState: (event) => events.push(event),
        ...options,
      },
    )
    return { device, events, types: () => events.map(({ type }) => type) }
  }

  const proxyTo = (server = peer): Promise<TcpProxy> =>
    startProxy({ target: { host: server.host, port: server.port } })

  const sftpServers = (server = peer) =>
    descendantsOf(server.pid).filter((pid) => /sftp-server/.test(commandOf(pid)))

  /** Those that came since. */
  function newSftpServers(): () => number[] {
    const before = new Set(sftpServers())
    return () => sftpServers().filter((pid) => !before.has(pid))
  }

  for (const how of ['fin', 'rst'] as const) {
    test(`reads go on after a cut (${how}), and nobody is told an error`, async () => {
      const { path, content } = image()
      const proxy = await proxyTo()
      const { device, types } = await open(path, proxy, { writable: false, readAhead: false })
      const found = new Uint8Array(content.length)
      const reads = Array.from({ length: 32 }, (_, i) => {
        const at = (i * content.length) / 32
        return device.read(at, found.subarray(at, at + content.length / 32))
      })
      proxy.cut(how)
      await Promise.all(reads)
      expect(Buffer.compare(found, content)).toBe(0)
      expect(types()).toContain('restored')
      expect(device.info.connection).toMatchObject({ state: 'connected', losses: 1, restored: 1 })
      await device.close()
    })

    test(`writes without an answer at a cut (${how}) are sent again when the old processes are proved dead`, async () => {
      const { path, content } = image()
      const proxy = await proxyTo()
      const { device, events } = await open(path, proxy)
      const data = pattern(2 * MiB, 77)
      await device.write(0, data.subarray(0, 4096))
      content.set(data, 0)
      const writes = Array.from({ length: 32 }, (_, i) =>
        device.write(i * 65_536, data.subarray(i * 65_536, (i + 1) * 65_536)),
      )
      await Promise.race(writes)
      proxy.cut(how)
      await Promise.all(writes)
      await device.flush()
      expect(events.find(({ type }) => type === 'restored')).toMatchObject({ fence: 'processes' })
      expect(device.info.connection).toMatchObject({ state: 'connected', journalBytes: 0 })
      await device.close()
      expect(Buffer.compare(readFileSync(path), content)).toBe(0)
    })
  }

  test('a flush that the cut interrupts is answered only after everything was written again and synced', async () => {
    const { path, content } = image()
    const proxy = await proxyTo()
    const { device, events } = await open(path, proxy)
    const data = pattern(1 * MiB, 5)
    content.set(data, 12_345)
    await device.write(12_345, data)
    const flushed = device.flush()
    proxy.cut('rst')
    await flushed
    expect(events.find(({ type }) => type === 'restored')).toMatchObject({ rewrittenBytes: MiB })
    await device.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  })

  test('sshd and everything below it killed: the device goes on', async () => {
    const { path, content } = image()
    const proxy = await proxyTo()
    const { device } = await open(path, proxy)
    const data = pattern(MiB, 6)
    await device.write(MiB, data)
    content.set(data, MiB)
    for (const pid of descendantsOf(peer.pid)) signal(pid, 'SIGKILL')
    const found = new Uint8Array(content.length)
    await device.read(0, found)
    expect(Buffer.compare(found, content)).toBe(0)
    await device.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  })

  test('one sftp-server killed: its writes are sent again on another channel after its exit was seen', async () => {
    const { path, content } = image()
    const proxy = await proxyTo()
    const servers = newSftpServers()
    const { device, events } = await open(path, proxy, { maxChannels: 1, readAhead: false })
    await device.write(0, content.subarray(0, 4096))
    // A login shell may stand before the server.
    const all = servers()
    for (const pid of all) signal(pid, 'SIGSTOP')
    const data = pattern(MiB, 8)
    const write = device.write(0, data)
    content.set(data, 0)
    await new Promise((resolve) => setTimeout(resolve, 50))
    for (const pid of all) signal(pid, 'SIGKILL')
    await write
    expect(events.find(({ type }) => type === 'restored')).toMatchObject({ fence: 'exit-status' })
    await device.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  })

  test('a half-open connection is noticed, and the calls on it are made again', async () => {
    const { path, content } = image()
    const proxy = await proxyTo()
    const { device, events } = await open(path, proxy, { keepalive: { intervalMs: 50, maxMissed: 2 } })
    await device.write(0, content.subarray(0, 4096))
    proxy.cut('silence')
    const data = pattern(MiB, 9)
    content.set(data, MiB)
    await device.write(MiB, data)
    const found = new Uint8Array(MiB)
    await device.read(MiB, found)
    expect(Buffer.compare(found, data)).toBe(0)
    expect(events.find((event) => event.type === 'lost')).toMatchObject({
      cause: { code: 'ERR_SSH_KEEPALIVE' },
    })
    await device.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  })

  describe('a stopped sftp-server holds old writes while the connection is lost (ghost writes)', () => {
    const oldBytes = 64 * 1024

    async function ghost(options: OpenBlockDeviceOptions) {
      const { path, content } = image()
      const proxy = await proxyTo()
      const servers = newSftpServers()
      const disk = await open(path, proxy, { maxChannels: 1, ...options })
      await disk.device.write(0, content.subarray(0, 4096))
      const stopped = servers()
      for (const pid of stopped) signal(pid, 'SIGSTOP')
      const old = pattern(oldBytes, 21)
      // Small enough that the server's end of the connection takes it in.
      const writes = Array.from({ length: 4 }, (_, i) => {
        const at = (i * oldBytes) / 4
        return disk.device.write(at, old.subarray(at, at + oldBytes / 4))
      })
      const write = Promise.all(writes).then(
        () => undefined,
        (error: unknown) => error as Error & { code: string },
      )
      for (const each of writes) each.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 100))
      proxy.cut('rst')
      return { ...disk, path, content, stopped, old, write, proxy }
    }

    test('with a command on the server they are proved dead: nothing stale ever arrives', async () => {
      const { device, events, path, content, stopped, old, write } = await ghost({})
      expect(await write).toBeUndefined()
      const newer = pattern(oldBytes, 22)
      await device.write(0, newer)
      await device.flush()
      for (const pid of stopped) signal(pid, 'SIGCONT')
      await new Promise((resolve) => setTimeout(resolve, 200))
      content.set(newer, 0)
      expect(Buffer.compare(readFileSync(path), content)).toBe(0)
      expect(Buffer.compare(old, newer)).not.toBe(0)
      expect(events.find(({ type }) => type === 'restored')).toMatchObject({ fence: 'processes' })
      await device.close()
    })

    test('without a fence the device fails, and names the ranges', async () => {
      const { device, write, stopped, types } = await ghost({ fence: 'none' })
      const error = await write
      expect(error).toMatchObject({ code: 'EIO' })
      expect(error!.message).toMatch(/bytes 0 to 16384, .* 49152 to 65536 are unknown/)
      expect(await rejection(device.write(0, new Uint8Array(1)))).toMatchObject({ code: 'ESHUTDOWN' })
      expect(await rejection(device.read(0, new Uint8Array(1)))).toMatchObject({ code: 'ESHUTDOWN' })
      expect(await rejection(device.flush())).toMatchObject({ code: 'ESHUTDOWN' })
      expect(types().at(-1)).toBe('failed')
      for (const pid of stopped) signal(pid, 'SIGKILL')
      await device.close().catch(() => {})
    })

    test("with onLoss 'replay' and no fence the hazard is real: the old write arrives over the newer one", async () => {
      const { device, write, stopped, old, path } = await ghost({ fence: 'none', onLoss: 'replay' })
      expect(await write).toBeUndefined()
      await device.write(0, pattern(oldBytes, 22))
      await device.flush()
      for (const pid of stopped) signal(pid, 'SIGCONT')
      await expect
        .poll(() => Buffer.compare(readFileSync(path).subarray(0, 16_384), old.subarray(0, 16_384)), {
          timeout: 5000,
        })
        .toBe(0)
      await device.close()
    })
  })

  test('a file that was replaced meanwhile is refused for good', async () => {
    const { path } = image()
    const proxy = await proxyTo()
    const { device } = await open(path, proxy, { writable: false })
    await device.read(0, new Uint8Array(65_536))
    proxy.cut('rst')
    writeFileSync(path, pattern(4 * MiB, 999))
    const error = await rejection(device.read(MiB, new Uint8Array(4096)))
    expect(error.message).toMatch(/not the one that was opened/)
    expect(await rejection(device.read(0, new Uint8Array(1)))).toMatchObject({ code: 'ESHUTDOWN' })
    await device.close().catch(() => {})
  })

  test('when the budget is over calls fail at once, and when the server is back the device goes on', async () => {
    const { path, content } = image()
    const proxy = await proxyTo()
    const { device, types } = await open(path, proxy, { reconnectDelayMs: 150, maxRetryMs: 50 })
    const data = pattern(4096, 31)
    await device.write(0, data)
    proxy.refuse()
    proxy.cut('rst')
    const started = performance.now()
    expect(await rejection(device.read(0, new Uint8Array(512)))).toMatchObject({ code: 'EIO' })
    expect(performance.now() - started).toBeGreaterThan(100)
    expect(await rejection(device.flush())).toMatchObject({ code: 'EIO' })
    expect(types()).toContain('budget-over')
    await proxy.accept()
    await expect.poll(() => device.info.connection?.state, { timeout: 5000 }).toBe('connected')
    await device.flush()
    content.set(data, 0)
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
    await device.close()
  })

  test('closing during an outage ends', async () => {
    const { path } = image()
    const proxy = await proxyTo()
    const { device } = await open(path, proxy, { reconnectDelayMs: 100 })
    await device.write(0, pattern(4096, 31))
    proxy.refuse()
    proxy.cut('rst')
    expect(await rejection(device.close())).toMatchObject({ code: 'EIO' })
  })
})
