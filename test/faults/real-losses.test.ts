// The device on OpenSSH while processes are stopped and killed and connections are cut: nothing stale, nothing lost.

import { readFileSync } from 'node:fs'
import { connect as connectSocket, createServer } from 'node:net'
import { join } from 'node:path'
import { agentAuth, HostKeyError, keyFileAuth } from '@sshblock/transport/node'
import { expect, it, vi } from 'vitest'
import { rejection } from '../blockdev/scripted-file.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { clientKey } from '../support/keys.ts'
import { descendantsOf, isAlive, signal } from '../support/process-tree.ts'
import { describeWith } from '../support/requirements.ts'
import { needsAgent, startAgent } from '../support/ssh-agent.ts'
import { tempDir } from '../support/temp-dir.ts'
import { filled, needsSshd, startSshd, until, untilArrived } from './real-sshd.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const size = 1 << 20

/** A device with A in its first block, flushed, and B sent to it, buffered before a stopped sftp-server. */
async function withBufferedWrite(options: Parameters<Awaited<ReturnType<typeof startSshd>>['open']>[1] = {}) {
  const sshd = await startSshd()
  const path = sshd.image(new Uint8Array(size))
  const { device, events } = await sshd.open(path, options)
  await device.write(0, filled(0xaa))
  await device.flush()
  await until('the second channel is open', () => device.info.channels === 2)
  const stopped = sshd.signalSftpServers('SIGSTOP')
  registerCleanup(() => {
    for (const pid of stopped) signal(pid, 'SIGCONT')
  })
  const before = sshd.proxy.counters().toServer.bytes
  const write = device.write(0, filled(0xbb))
  write.catch(() => {})
  await untilArrived(sshd, before + 4096)
  return { sshd, path, device, events, stopped, write }
}

function firstByte(path: string): number {
  return readFileSync(path)[0]!
}

describeWith(needsSshd, 'ghosts of OpenSSH', () => {
  it('a write buffered before a stopped sftp-server never lands on newer data: the old process is proved dead first', async () => {
    const { sshd, path, device, events, stopped, write } = await withBufferedWrite()
    sshd.cut('rst')
    await write
    await device.write(0, filled(0xcc))
    await device.flush()
    expect(events.findLast(({ type }) => type === 'restored')).toMatchObject({ fence: 'processes' })
    // The one that had the write before it; the other served reads alone.
    expect(stopped.filter(isAlive).length).toBeLessThan(stopped.length)
    for (const pid of stopped) signal(pid, 'SIGCONT')
    await device.close()
    expect(firstByte(path)).toBe(0xcc)
  })

  it('the same on a connection that is half-open', async () => {
    const { sshd, path, device, write, stopped } = await withBufferedWrite({
      keepalive: { intervalMs: 200, maxMissed: 2 },
    })
    sshd.cut('silence')
    await write
    await device.write(0, filled(0xcc))
    await device.close()
    // The one that had the write before it; the other served reads alone.
    expect(stopped.filter(isAlive).length).toBeLessThan(stopped.length)
    expect(firstByte(path)).toBe(0xcc)
  })

  it('without a proof the device fails and names the range; and the ghost does come', async () => {
    const { sshd, path, device, write, stopped } = await withBufferedWrite({ fence: 'none' })
    sshd.cut('rst')
    await expect(write).rejects.toMatchObject({
      code: 'EIO',
      message: expect.stringContaining('bytes 0 to 4096'),
    })
    await expect(device.write(0, filled(0xcc))).rejects.toMatchObject({ code: 'ESHUTDOWN' })
    await expect(device.flush()).rejects.toMatchObject({ code: 'ESHUTDOWN' })
    expect(device.info.connection).toMatchObject({ state: 'failed' })
    await device.close().catch(() => {})
    // A second device that writes there now would be overwritten: that is why the first one gave up.
    expect(firstByte(path)).toBe(0xaa)
    for (const pid of stopped) signal(pid, 'SIGCONT')
    await until('the ghost has come', () => firstByte(path) === 0xbb)
    await until('the old servers are gone', () => !stopped.some(isAlive))
    const again = await sshd.open(path)
    await again.device.write(0, filled(0xcc))
    await again.device.close()
    expect(firstByte(path)).toBe(0xcc)
  })
})

describeWith(needsSshd, 'losses on OpenSSH', () => {
  it('connections that are killed, reset and ended in the middle of writes lose nothing', async () => {
    const sshd = await startSshd()
    const path = sshd.image(new Uint8Array(size))
    const { device, events } = await sshd.open(path)
    const expected = new Uint8Array(size)
    let round = 0
    const accidents = [
      () => sshd.cut('rst'),
      () => sshd.cut('fin'),
      () => {
        // The processes of the connection, as an administrator would kill them.
        for (const pid of descendantsOf(sshd.process.pid)) signal(pid, 'SIGKILL')
      },
      () => sshd.signalSftpServers('SIGKILL'),
    ]
    for (const accident of [...accidents, ...accidents]) {
      const writes: Promise<void>[] = []
      for (let block = 0; block < 64; block++) {
        const data = filled((round * 64 + block) & 0xff, 16_384)
        expected.set(data, block * 16_384)
        writes.push(device.write(block * 16_384, data))
        if (block === 20 + round) accident()
      }
      await Promise.all(writes)
      const seen = new Uint8Array(16_384)
      await device.read(round * 16_384, seen)
      expect(Buffer.compare(seen, expected.subarray(round * 16_384, (round + 1) * 16_384))).toBe(0)
      await device.flush()
      round++
    }
    const { connection } = device.info
    expect(connection!.losses).toBeGreaterThanOrEqual(8)
    expect(events.filter(({ type }) => type === 'restored').length).toBeGreaterThanOrEqual(8)
    await device.close()
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0)
    await until('nobody is served any more', () => sshd.sftpServers.length === 0)
  })

  it('another host key after a loss: the device fails for good', async () => {
    const sshd = await startSshd()
    const impostor = await startSshd({ hostKeyType: 'rsa-2048' })
    const path = sshd.image(new Uint8Array(size))
    const { device } = await sshd.open(path)
    await device.write(0, filled(1))
    await device.flush()
    sshd.proxy.retarget({ host: '127.0.0.1', port: impostor.port })
    sshd.cut('rst')
    const error = await rejection(device.write(0, filled(2)))
    expect(error).toMatchObject({ code: 'EIO', cause: expect.any(HostKeyError) })
    expect(device.info.connection!.state).toBe('failed')
    expect(await rejection(device.read(0, filled(0)))).toMatchObject({ code: 'ESHUTDOWN' })
    expect(firstByte(path)).toBe(1)
  })
})

describeWith([...needsSshd, needsAgent()], 'an agent that dies', () => {
  it('killed in the middle of authenticating again: the next way in is taken', async () => {
    const sshd = await startSshd()
    const key = await clientKey('ed25519')
    const agent = await startAgent({ keys: [key] })
    // Between device and agent somebody who can pull the plug at the moment of the signature.
    let killAtSignature = false
    let killed = 0
    const socketPath = join(tempDir('agent-proxy'), 'agent.sock')
    const plug = createServer((client) => {
      const server = connectSocket(agent.socket)
      client.on('data', (bytes) => {
        // SSH_AGENTC_SIGN_REQUEST (13) behind the length.
        if (killAtSignature && bytes[4] === 13) {
          killed++
          signal(agent.pid, 'SIGKILL')
          client.destroy()
        } else server.write(bytes)
      })
      server.on('data', (bytes) => client.write(bytes))
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        one.on('error', () => other.destroy())
        one.on('close', () => other.destroy())
      }
    })
    await new Promise<void>((resolve) => plug.listen(socketPath, resolve))
    registerCleanup(() => new Promise<void>((resolve) => plug.close(() => resolve())))
    const { device } = await sshd.open(sshd.image(new Uint8Array(size)), {
      auth: [agentAuth({ socketPath }), keyFileAuth(key.privateFile)],
    })
    expect(device.info.server!.authentication).toMatch(/agent/)
    await device.write(0, filled(7))
    killAtSignature = true
    sshd.cut('rst')
    const seen = new Uint8Array(4096)
    await device.read(0, seen)
    expect(seen).toEqual(filled(7))
    expect(killed).toBeGreaterThan(0)
    expect(device.info.server!.authentication).not.toMatch(/agent/)
    await device.close()
  })
})
