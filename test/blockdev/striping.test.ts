// More channels and connections on a real OpenSSH server: opened where a round trip and the server's window limit, refused
// where MaxSessions says so, and never of another file.

import { execFileSync } from 'node:child_process'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { openBlockDevice } from '../../packages/blockdev/src/node.ts'
import type { OpenBlockDeviceOptions } from '../../packages/blockdev/src/ssh-driver.ts'
import { clientKey } from '../support/keys.ts'
import {
  needsOpenssh,
  type OpensshOptions,
  type OpensshPeer,
  startOpensshServer,
} from '../support/openssh-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { connectNearby } from './near-session.ts'
import { pattern } from './scripted-file.ts'

const MiB = 1 << 20

describeWith([needsOpenssh()], 'a disk on several channels', () => {
  let keyFile: string
  beforeAll(async () => {
    keyFile = (await clientKey('ed25519')).privateFile
  })

  let count = 0
  async function open(
    server: OpensshOptions,
    options: OpenBlockDeviceOptions & { delayMs?: number; size?: number } = {},
  ) {
    const { delayMs = 0, size = 64 * MiB, ...rest } = options
    const peer: OpensshPeer = await startOpensshServer({ sftp: 'sftp-server', ...server })
    const path = join(peer.paths.data, `disk-${++count}.img`)
    const content = pattern(size, count)
    writeFileSync(path, content)
    const proxy = await startProxy({ target: peer, delayMs })
    const warnings: string[] = []
    const device = await openBlockDevice(
      `ssh://${peer.user}@127.0.0.1:${proxy.port}${path}?host_key_check=no`,
      {
        agent: false,
        keyFiles: [keyFile],
        knownHostsFiles: [],
        writable: true,
        onWarning: (text) => warnings.push(text),
        ...rest,
      },
    )
    return { peer, path, content, proxy, device, warnings }
  }

  test('at 20 ms of round trip a long write opens channels, then a connection, and all bytes arrive', async () => {
    const { device, path, content } = await open({}, { delayMs: 10, maxChannels: 2, maxConnections: 2 })
    let most = { channels: 0, connections: 0 }
    let next = 0
    const writer = async () => {
      for (;;) {
        const at = (next++ % 64) * MiB
        const { channels, connections } = device.info.connection!
        most = {
          channels: Math.max(most.channels, channels),
          connections: Math.max(most.connections, connections),
        }
        if (next > 1024 || (next > 64 && most.connections >= 2 && most.channels >= 3)) return
        await device.write(at, content.subarray(at, at + MiB))
      }
    }
    await Promise.all(Array.from({ length: 24 }, writer))
    await device.flush()
    expect(most.channels).toBeGreaterThanOrEqual(3)
    expect(most.connections).toBe(2)
    await device.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  }, 60_000)

  test('without a round trip that matters nothing is opened but the channel that no flush blocks', async () => {
    const { device, content } = await open({}, { size: 16 * MiB, connect: connectNearby(keyFile) })
    await Promise.all(
      Array.from({ length: 16 }, (_, i) => device.write(i * MiB, content.subarray(i * MiB, (i + 1) * MiB))),
    )
    await device.flush()
    expect(device.info.connection).toMatchObject({ connections: 1 })
    expect(device.info.channels).toBeLessThanOrEqual(2)
    await device.close()
  })

  test.each([
    [1, 1],
    [2, 2],
    [3, 3],
  ])('MaxSessions %i is respected: %i channels, and no error', async (maxSessions, channels) => {
    const { device, path, content } = await open(
      { maxSessions },
      { size: 4 * MiB, minChannels: 4, maxConnections: 1 },
    )
    const data = pattern(4 * MiB, 50)
    for (let at = 0; at < 4 * MiB; at += 65_536) await device.write(at, data.subarray(at, at + 65_536))
    content.set(data)
    await device.flush()
    await expect.poll(() => device.info.channels, { timeout: 5000 }).toBe(channels)
    const found = new Uint8Array(4 * MiB)
    await Promise.all([device.read(0, found), device.flush()])
    expect(Buffer.compare(found, content)).toBe(0)
    await device.close()
    expect(Buffer.compare(readFileSync(path), content)).toBe(0)
  })

  test('a path that leads to another file by now gives no further channel', async () => {
    const { device, path, content, warnings } = await open({}, { size: MiB, connect: connectNearby(keyFile) })
    renameSync(path, `${path}.old`)
    // The same content, size and times: for a device that writes that proves nothing.
    execFileSync('cp', ['-p', `${path}.old`, path])
    await device.write(0, content.subarray(0, 4096))
    await expect.poll(() => warnings.length, { timeout: 5000 }).toBe(1)
    expect(warnings[0]).toMatch(/another file/)
    expect(device.info.channels).toBe(1)
    await device.close()
  })

  test('the time of the last change is the present one when the lanes were compared', async () => {
    const { device, path, content } = await open({}, { size: MiB, minChannels: 3 })
    await device.write(0, content.subarray(0, 4096))
    await expect.poll(() => device.info.channels, { timeout: 5000 }).toBe(3)
    await device.close()
    const [accessed = 0, changed = 0] = execFileSync('stat', ['-c', '%X %Y', path], { encoding: 'utf8' })
      .split(' ')
      .map(Number)
    const now = Date.now() / 1000
    expect(Math.abs(now - changed)).toBeLessThan(60)
    expect(Math.abs(now - accessed)).toBeLessThan(60)
  })
})
