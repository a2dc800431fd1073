import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NodeConnectionOptions } from '@sshblock/blockdev/node'
import { createBlockDevice, openBlockDevice } from '@sshblock/blockdev/node'
import { expect, it } from 'vitest'
import { needsAsyncssh, startAsyncssh } from '../support/asyncssh-server.ts'
import { needsDropbear, startDropbear } from '../support/dropbear-server.ts'
import { needsGesftp, startGesftpServer } from '../support/gesftp-server.ts'
import { clientKey } from '../support/keys.ts'
import { needsParamiko, startParamiko } from '../support/paramiko-server.ts'
import type { Peer } from '../support/peer.ts'
import { describeWith, type Requirement } from '../support/requirements.ts'
import { seededRandom } from '../transport/core/pair.ts'

const servers: [string, Requirement, () => Promise<Peer>][] = [
  ['dropbear', needsDropbear(), () => startDropbear()],
  ['asyncssh', needsAsyncssh(), () => startAsyncssh()],
  ['paramiko', needsParamiko(), () => startParamiko()],
  ['gesftpserver', needsGesftp(), () => startGesftpServer()],
]

for (const [name, requirement, start] of servers) {
  describeWith([requirement], `a device on ${name}`, () => {
    it('is created, written at random places, flushed, re-opened and read, and the file says the same', async () => {
      const peer = await start()
      const path = join(peer.paths.data, 'disk.img')
      const location = `ssh://${peer.user}@${peer.host}:${peer.port}${path}`
      const warnings: string[] = []
      const connection: NodeConnectionOptions = {
        knownHostsFiles: [peer.paths.knownHosts],
        agent: false,
        keyFiles: [(await clientKey('ed25519')).privateFile],
      }
      const size = 2 * 1024 ** 2
      const expected = new Uint8Array(size)
      // Servers without fsync@openssh.com are refused for writing unless the user accepts that.
      const device = await createBlockDevice(location, {
        ...connection,
        size,
        flushPolicy: 'unsafe',
        onWarning: (text) => warnings.push(text),
      })
      const random = seededRandom(11)
      const writes: Promise<void>[] = []
      for (let i = 0; i < 60; i++) {
        const bytes = new Uint8Array(1 + ((i * 7919) % 50_000))
        random(bytes)
        const offset = (i * 104_729 * 13) % (size - bytes.length)
        expected.set(bytes, offset)
        writes.push(device.write(offset, bytes))
      }
      await Promise.all(writes)
      await device.flush()
      await device.close()
      const reader = await openBlockDevice(location, connection)
      expect(reader.size).toBe(size)
      const whole = new Uint8Array(size)
      await reader.read(0, whole)
      await reader.close()
      const sum = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
      expect(sum(whole)).toBe(sum(expected))
      expect(sum(readFileSync(path))).toBe(sum(expected))
      expect(warnings.length).toBe(device.durability === 'volatile' ? 1 : 0)
    })
  })
}
