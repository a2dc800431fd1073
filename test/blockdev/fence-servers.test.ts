// Which fence there is on the servers that people have, and that it works: a connection is cut with writes without an
// answer, and the device goes on, or fails where nothing can be proved.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openBlockDevice } from '../../packages/blockdev/src/node.ts'
import { needsAsyncssh, startAsyncssh } from '../support/asyncssh-server.ts'
import { needsDropbear, startDropbear } from '../support/dropbear-server.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { needsOpenssh10, startOpenssh10 } from '../support/openssh10.ts'
import type { Peer } from '../support/peer.ts'
import { startProxy } from '../support/proxy.ts'
import { requirePeers } from '../support/requirements.ts'
import { pattern, rejection } from './scripted-file.ts'

const rows: [name: string, start: () => Promise<Peer>, fence: 'processes' | 'none'][] = [
  ['OpenSSH with internal-sftp', () => startOpensshServer({ sftp: 'internal-sftp' }), 'processes'],
  ['OpenSSH with sftp-server', () => startOpensshServer({ sftp: 'sftp-server' }), 'processes'],
  ['OpenSSH 10', startOpenssh10, 'processes'],
  ['dropbear', () => startDropbear(), 'processes'],
  [
    'OpenSSH that allows SFTP alone',
    () => startOpensshServer({ config: ['ForceCommand internal-sftp'] }),
    'none',
  ],
  ['OpenSSH with one session per connection', () => startOpensshServer({ maxSessions: 1 }), 'none'],
  ['asyncssh, one process for everybody', () => startAsyncssh(), 'none'],
]

describe('the fence on', () => {
  test.each(rows)('%s', async (name, start, fence) => {
    requirePeers([needsOpenssh(), needsDropbear(), needsAsyncssh(), await needsOpenssh10()])
    const peer = await start()
    const path = join(peer.paths.data, 'fence.img')
    const content = pattern(1 << 20)
    writeFileSync(path, content, { mode: 0o666 })
    const proxy = await startProxy({ target: peer })
    const { privateFile } = await clientKey('ed25519')
    const device = await openBlockDevice(
      `ssh://${peer.user}@127.0.0.1:${proxy.port}${path}?host_key_check=no`,
      {
        agent: false,
        keyFiles: [privateFile],
        knownHostsFiles: [],
        writable: true,
        firstRetryMs: 20,
        ...(name.startsWith('asyncssh') ? { flushPolicy: 'unsafe' as const } : {}),
      },
    )
    await device.write(0, content.subarray(0, 512))
    await expect.poll(() => device.info.connection?.fence, { timeout: 10_000 }).toBe(fence)
    const data = pattern(1 << 20, 5)
    const writes = Array.from({ length: 16 }, (_, i) =>
      device.write(i * 65_536, data.subarray(i * 65_536, (i + 1) * 65_536)),
    )
    for (const write of writes) write.catch(() => {})
    proxy.cut('rst')
    if (fence === 'none') {
      const error = await rejection(Promise.all(writes))
      expect(error).toMatchObject({ code: 'EIO', message: expect.stringMatching(/are unknown/) })
      await device.close().catch(() => {})
      return
    }
    await Promise.all(writes)
    await device.flush()
    expect(device.info.connection).toMatchObject({ state: 'connected', restored: 1 })
    await device.close()
    expect(Buffer.compare(readFileSync(path), data)).toBe(0)
  })
})
