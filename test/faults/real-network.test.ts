// The network itself: a reset by the kernel, and a cable that is pulled, in a network namespace of its own.

import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, it, vi } from 'vitest'
import { registerCleanup } from '../support/cleanup.ts'
import { describeWith, needsPrograms, type Requirement } from '../support/requirements.ts'
import { filled, needsSshd, startSshd, until } from './real-sshd.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const size = 1 << 20

function needsSs(): Requirement {
  return needsPrograms('ss', ['ss'], 'iproute2')
}

/** Network namespaces that can be made, and links between them. */
function needsNetworkNamespaces(): Requirement {
  const found = needsPrograms('ip', ['ip'], 'iproute2')
  if (found.missing !== undefined) return found
  const works =
    spawnSync('unshare', ['--net', 'ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb'])
      .status === 0
  return {
    name: 'network namespaces',
    missing: works ? undefined : 'the right to make network namespaces and veth links',
  }
}

describeWith([...needsSshd, needsSs()], 'a connection that the kernel resets', () => {
  it('ss -K in the middle of writes: the device comes back, and nothing is lost', async () => {
    const sshd = await startSshd()
    const path = sshd.image(new Uint8Array(size))
    const { device } = await sshd.open(path)
    const expected = new Uint8Array(size)
    for (let round = 1; round <= 3; round++) {
      const writes: Promise<void>[] = []
      for (let block = 0; block < 32; block++) {
        const data = filled(round * 32 + block, 32_768)
        expected.set(data, block * 32_768)
        writes.push(device.write(block * 32_768, data))
      }
      // Both ends of the proxy's connection to the server.
      const killed = execFileSync('ss', ['-K', 'dst', '127.0.0.1', 'dport', '=', `:${sshd.port}`], {
        encoding: 'utf8',
      })
      expect(killed).toContain(`:${sshd.port}`)
      await Promise.all(writes)
    }
    expect(device.info.connection!.losses).toBeGreaterThanOrEqual(3)
    await device.close()
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0)
  })
})

describeWith([...needsSshd, needsNetworkNamespaces()], 'a cable that is pulled', () => {
  it('link down in the middle of writes: found out by silence; link up: all is written, the old session is proved dead', async () => {
    const name = `sshblock${process.pid}`
    const network = `10.${200 + (process.pid % 50)}.${(process.pid >> 6) % 250}`
    const ip = (...args: string[]) => execFileSync('ip', args, { stdio: 'pipe' })
    const near = `sb${process.pid}`.slice(0, 14)
    ip('netns', 'add', name)
    registerCleanup(() => {
      spawnSync('ip', ['link', 'del', near])
      spawnSync('ip', ['netns', 'del', name])
    })
    ip('link', 'add', near, 'type', 'veth', 'peer', 'name', 'far0', 'netns', name)
    ip('addr', 'add', `${network}.1/24`, 'dev', near)
    ip('link', 'set', near, 'up')
    ip('-n', name, 'addr', 'add', `${network}.2/24`, 'dev', 'far0')
    ip('-n', name, 'link', 'set', 'far0', 'up')
    ip('-n', name, 'link', 'set', 'lo', 'up')
    const sshd = await startSshd({ listen: `${network}.2`, prefix: ['ip', 'netns', 'exec', name] })
    const path = sshd.image(new Uint8Array(size))
    const { device, events } = await sshd.open(path, {
      keepalive: { intervalMs: 200, maxMissed: 2 },
      attemptTimeoutMs: 2000,
    })
    await device.write(0, filled(1))
    await device.flush()
    ip('link', 'set', near, 'down')
    const writes = [1, 2, 3].map((block) => device.write(block * 4096, filled(block + 1)))
    await until('the loss is found out', () => device.info.connection!.state === 'reconnecting')
    ip('link', 'set', near, 'up')
    await Promise.all(writes)
    await device.close()
    expect(events.findLast(({ type }) => type === 'restored')).toMatchObject({ fence: 'processes' })
    expect(readFileSync(path).subarray(0, 16_384)).toEqual(
      Buffer.concat([filled(1), filled(2), filled(3), filled(4)]),
    )
  })
})
