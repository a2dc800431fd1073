import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type {
  BlockDevice,
  LocationInput,
  NodeConnectionOptions,
  OpenBlockDeviceOptions,
} from '@sshblock/blockdev/node'
import { createBlockDevice, MemoryDevice, openBlockDevice } from '@sshblock/blockdev/node'
import { beforeAll, expect, it } from 'vitest'
import { ALL_KEY_TYPES, clientKey, hexFingerprint } from '../support/keys.ts'
import {
  needsOpenssh,
  type OpensshOptions,
  type OpensshPeer,
  startOpensshServer,
} from '../support/openssh-server.ts'
import { signal } from '../support/process-tree.ts'
import { needsQemu, qemu, qemuImageOptions, qemuIo } from '../support/qemu.ts'
import { describeWith } from '../support/requirements.ts'
import { sessionsOf } from '../support/server-process.ts'
import { type Agent, needsAgent, startAgent } from '../support/ssh-agent.ts'
import { mountTmpfs, needsTmpfs } from '../support/tmpfs.ts'
import { seededRandom } from '../transport/core/pair.ts'

const mebibyte = 1024 ** 2

/** A server, and how a user of it would reach it: known_hosts and one key file. */
interface Place {
  peer: OpensshPeer
  connection: NodeConnectionOptions
  at(path: string, query?: string): string
}

async function place(options: OpensshOptions = {}): Promise<Place> {
  const peer = await startOpensshServer(options)
  const connection: NodeConnectionOptions = {
    knownHostsFiles: [peer.paths.knownHosts],
    agent: false,
    keyFiles: [(await clientKey('ed25519')).privateFile],
  }
  return {
    peer,
    connection,
    at: (path, query = '') => `ssh://${peer.user}@${peer.host}:${peer.port}${path}${query}`,
  }
}

const open = (there: Place, path: string, options: OpenBlockDeviceOptions = {}): Promise<BlockDevice> =>
  openBlockDevice(there.at(path), { ...there.connection, ...options })

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

describeWith([needsOpenssh()], "QEMU's own test of its ssh driver, replayed", () => {
  let there: Place
  let file: string
  beforeAll(async () => {
    there = await place({ scope: 'file' })
    file = join(there.peer.paths.data, 'replay.img')
  })
  const hash = (
    type: 'md5' | 'sha1' | 'sha256',
    right: boolean,
  ): { mode: 'hash'; type: typeof type; hash: string } => {
    const hex = hexFingerprint(there.peer.hostKeys[0]!.blob, type)
    return { mode: 'hash', type, hash: right ? hex : 'wrong' }
  }
  const rows: [string, (() => object) | undefined, number, 'created' | 'EPERM', number][] = [
    ['defaults', undefined, 4, 'created', 4],
    ['mode none', () => ({ mode: 'none' }), 8, 'created', 8],
    ['mode known_hosts', () => ({ mode: 'known_hosts' }), 4, 'created', 4],
    ['a wrong md5 hash', () => hash('md5', false), 2, 'EPERM', 4],
    ['the right md5 hash', () => hash('md5', true), 8, 'created', 8],
    ['a wrong sha1 hash', () => hash('sha1', false), 2, 'EPERM', 8],
    ['the right sha1 hash', () => hash('sha1', true), 4, 'created', 4],
    ['a wrong sha256 hash', () => hash('sha256', false), 2, 'EPERM', 4],
    ['the right sha256 hash', () => hash('sha256', true), 4, 'created', 4],
  ]
  it.each(rows)('creates with %s', async (_, check, mib, expected, after) => {
    const { peer, connection } = there
    const location = {
      server: { host: peer.host, port: peer.port },
      user: peer.user,
      path: file,
      ...(check === undefined ? {} : { hostKeyCheck: check() }),
    } as LocationInput
    const work = createBlockDevice(location, {
      ...connection,
      size: mib * mebibyte,
      overwrite: true,
      transport: { algorithms: { hostKeys: ['ssh-ed25519'] } },
    })
    if (expected === 'EPERM') await expect(work).rejects.toMatchObject({ code: 'EPERM' })
    else await (await work).close()
    expect(statSync(file).size).toBe(after * mebibyte)
    if (existsSync(file)) {
      const device = await open(there, file)
      expect(device.size).toBe(after * mebibyte)
      await device.close()
    }
  })

  it('names the path and the reason where a folder does not exist', async () => {
    const work = createBlockDevice(there.at('/this/is/not/an/existing/path'), {
      ...there.connection,
      size: 4 * mebibyte,
    })
    await expect(work).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringMatching(/\/this\/is\/not\/an\/existing\/path.*No such file/),
    })
  })

  it('names the methods tried for an invalid user', async () => {
    const { peer } = there
    const location = {
      server: { host: peer.host, port: peer.port },
      path: file,
      user: 'invalid user',
      hostKeyCheck: { mode: 'none' },
    } as LocationInput
    await expect(
      createBlockDevice(location, { ...there.connection, size: 4 * mebibyte }),
    ).rejects.toMatchObject({
      code: 'EPERM',
      message: expect.stringMatching(/invalid user.*publickey/),
    })
  })
})

describeWith([needsOpenssh()], 'a device on OpenSSH', () => {
  it('agrees with the memory device over a long history, and the file with both', async () => {
    const there = await place()
    const path = join(there.peer.paths.data, 'history.img')
    const size = 6 * mebibyte
    const device = await createBlockDevice(there.at(path), { ...there.connection, size })
    const model = new MemoryDevice({ size })
    const random = seededRandom(2026)
    const draw = (below: number): number => {
      const bytes = new Uint8Array(4)
      random(bytes)
      return new DataView(bytes.buffer).getUint32(0) % below
    }
    let pending: Promise<unknown>[] = []
    for (let step = 0; step < 600; step++) {
      const offset = draw(size - 1)
      const length = Math.min(1 + draw(step % 10 === 0 ? 600_000 : 9000), size - offset)
      const kind = draw(10)
      if (kind < 5) {
        const bytes = new Uint8Array(length)
        random(bytes)
        pending.push(device.write(offset, bytes), model.write(offset, bytes))
      } else if (kind < 9) {
        const [actual, expected] = [new Uint8Array(length), new Uint8Array(length)]
        pending.push(
          Promise.all([device.read(offset, actual), model.read(offset, expected)]).then(() =>
            expect(sha256(actual)).toBe(sha256(expected)),
          ),
        )
      } else {
        pending.push(device.writeZeroes(offset, length), model.writeZeroes(offset, length))
      }
      if (pending.length > 60) {
        await Promise.all(pending)
        pending = []
        await device.flush()
      }
    }
    await Promise.all(pending)
    await device.close()
    const expected = new Uint8Array(size)
    await model.read(0, expected)
    expect(sha256(readFileSync(path))).toBe(sha256(expected))
  })

  it.each(ALL_KEY_TYPES)('opens by an agent with a key of type %s', async (type) => {
    const there = await place()
    const path = join(there.peer.paths.data, 'a.img')
    writeFileSync(path, new Uint8Array(4096))
    const agent = await startAgent({ keys: [await clientKey(type)] })
    const device = await openBlockDevice(there.at(path), {
      ...there.connection,
      keyFiles: [],
      agent: agent.socket,
    })
    expect(device.size).toBe(4096)
    await device.close()
  })

  it('refuses to open for writing where the server has no fsync, unless told to, and then warns once', async () => {
    const there = await place({ sftp: 'sftp-server -P fsync' })
    const path = join(there.peer.paths.data, 'a.img')
    writeFileSync(path, new Uint8Array(4096))
    await expect(open(there, path, { writable: true })).rejects.toMatchObject({
      code: 'ENOTSUP',
      message: expect.stringMatching(/fsync@openssh\.com/),
    })
    const warnings: string[] = []
    const device = await open(there, path, {
      writable: true,
      flushPolicy: 'unsafe',
      onWarning: (text) => warnings.push(text),
    })
    await device.write(0, Uint8Array.of(1))
    await device.flush()
    await device.flush()
    expect(warnings).toEqual([expect.stringMatching(/^server "?127\.0\.0\.1"? has no fsync@openssh\.com/)])
    expect(device.durability).toBe('volatile')
    await device.close()
  })

  it('works without limits@openssh.com in pieces that every server takes', async () => {
    const there = await place({ sftp: 'sftp-server -P limits' })
    const device = await createBlockDevice(there.at(join(there.peer.paths.data, 'a.img')), {
      ...there.connection,
      size: 3 * mebibyte,
    })
    const bytes = new Uint8Array(3 * mebibyte)
    seededRandom(3)(bytes)
    await device.write(0, bytes)
    const back = new Uint8Array(bytes.length)
    await device.read(0, back)
    expect(sha256(back)).toBe(sha256(bytes))
    await device.close()
  })

  it('fails at open with a permission error on a read-only server', async () => {
    const there = await place({ sftp: 'sftp-server -R' })
    const path = join(there.peer.paths.data, 'a.img')
    writeFileSync(path, new Uint8Array(4096))
    await expect(open(there, path, { writable: true })).rejects.toMatchObject({
      code: expect.stringMatching(/EACCES|EPERM|EROFS/),
    })
    await (await open(there, path)).close()
  })

  it('refuses folders and pipes, and takes /dev/zero for what it is', async () => {
    const there = await place()
    const dir = join(there.peer.paths.data, 'folder')
    mkdirSync(dir)
    await expect(open(there, dir)).rejects.toMatchObject({ code: 'EISDIR' })
    const fifo = join(there.peer.paths.data, 'fifo')
    execFileSync('mkfifo', [fifo])
    // Opening a fifo for reading waits for a writer in the server; SFTP can only be asked what it is beforehand.
    await expect(open(there, fifo)).rejects.toMatchObject({ code: 'EINVAL' })
    const zero = await open(there, '/dev/zero').then(
      async (device) => {
        const { size } = device
        await device.close()
        return size
      },
      (error: { code: string }) => error.code,
    )
    expect([0, 'EINVAL']).toContain(zero)
  })

  it('reads zeros past the end only inside the last block, and an error where the file became shorter', async () => {
    const there = await place()
    const path = join(there.peer.paths.data, 'short.img')
    writeFileSync(path, new Uint8Array(64 * 1024).fill(7))
    const device = await open(there, path)
    const lenient = await open(there, path, { onTruncated: 'zeros' } as OpenBlockDeviceOptions)
    truncateSync(path, 1000)
    const block = new Uint8Array(4096)
    await expect(device.read(32 * 1024, block)).rejects.toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/shorter|truncated/i),
    })
    await device.close().catch(() => {})
    await lenient.close().catch(() => {})
  })

  it('without an outage budget fails everything pending at once when the connection is lost', async () => {
    const there = await place()
    const device = await createBlockDevice(there.at(join(there.peer.paths.data, 'a.img')), {
      ...there.connection,
      size: 64 * mebibyte,
      reconnectDelayMs: 0,
    })
    await device.write(0, Uint8Array.of(1))
    const calls = Promise.allSettled(
      Array.from({ length: 32 }, (_, i) => device.write(i * mebibyte, new Uint8Array(mebibyte))),
    )
    const flush = device.flush().then(
      () => undefined,
      (error: { code: string }) => error.code,
    )
    for (const { pid } of sessionsOf(there.peer)) signal(pid, 'SIGKILL')
    const startedAt = Date.now()
    const results = await calls
    expect(Date.now() - startedAt).toBeLessThan(3000)
    expect(results.some(({ status }) => status === 'rejected')).toBe(true)
    for (const result of results)
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'EIO' })
    expect(await flush).toBe('EIO')
    await device.close().catch(() => {})
  })
})

describeWith([needsOpenssh(), needsTmpfs], 'a full disk', () => {
  it('is ENOSPC for that write, and the device goes on', async () => {
    // Mounted first: the server may see mounts as they were when it started.
    const dir = await mountTmpfs(256 * 1024)
    const there = await place()
    const path = join(dir, 'full.img')
    const device = await createBlockDevice(there.at(path), { ...there.connection, size: mebibyte })
    await device.write(0, new Uint8Array(64 * 1024).fill(1))
    await device.flush()
    await expect(device.write(0, new Uint8Array(mebibyte).fill(2))).rejects.toMatchObject({
      code: 'ENOSPC',
      offset: 0,
      length: mebibyte,
    })
    const block = new Uint8Array(512)
    await device.read(900 * 1024, block)
    await device.close().catch(() => {})
  })
})

describeWith(
  [needsOpenssh(), needsQemu(), needsAgent()],
  "our device and QEMU's ssh driver on the same file",
  () => {
    let there: Place
    let agent: Agent
    beforeAll(async () => {
      there = await place({ scope: 'file' })
      agent = await startAgent({ keys: [await clientKey('ed25519')], scope: 'file' })
    })

    it('read what the other wrote, at random places', async () => {
      const path = join(there.peer.paths.data, 'shared.img')
      const size = 4 * mebibyte
      const device = await createBlockDevice(there.at(path), { ...there.connection, size })
      const image = qemuImageOptions(there.peer, path)
      const access = { peer: there.peer, agent }
      const places = Array.from({ length: 40 }, (_, i) => ((i * 104_729) % (size / 512 - 64)) * 512)
      for (const [i, offset] of places.entries())
        if (i % 2 === 0) await device.write(offset, new Uint8Array(512 * (1 + (i % 16))).fill(i + 1))
      await device.flush()
      const written = new Map<number, number>()
      for (const [i, offset] of places.entries()) if (i % 2 === 0) written.set(offset, i)
      const mine = await qemuIo(
        image,
        [...written]
          .filter(([offset, i]) => !overlapsLater(places, offset, i))
          .map(([offset, i]) => `read -P ${i + 1} ${offset} ${512 * (1 + (i % 16))}`),
        access,
      )
      expect(mine.stdout + mine.stderr).not.toMatch(/Pattern verification failed|error/i)
      expect(mine.stdout).toMatch(/read \d+\/\d+ bytes/)
      await device.close()
      const theirs = await qemuIo(
        image,
        ['write -P 0xa5 1048576 65536', 'write -P 0x5a 3145728 512', 'flush'],
        access,
      )
      expect(theirs.stdout).toMatch(/wrote 65536\/65536/)
      const again = await open(there, path)
      const big = new Uint8Array(65_536)
      await again.read(1_048_576, big)
      expect(big.every((byte) => byte === 0xa5)).toBe(true)
      const small = new Uint8Array(512)
      await again.read(3_145_728, small)
      expect(small.every((byte) => byte === 0x5a)).toBe(true)
      await again.close()
      const whole = new Uint8Array(size)
      const third = await open(there, path)
      await third.read(0, whole)
      await third.close()
      expect(sha256(whole)).toBe(sha256(readFileSync(path)))
    })

    it('agree on the size of an image that is not a multiple of 512, and on what its last block holds', async () => {
      const path = join(there.peer.paths.data, 'odd.img')
      writeFileSync(path, new Uint8Array(1000).fill(9))
      const device = await open(there, path)
      const info = await qemu(
        'qemu-img',
        ['info', '--output=json', '--image-opts', qemuImageOptions(there.peer, path)],
        { peer: there.peer, agent },
      )
      const theirSize = (JSON.parse(info.stdout) as { 'virtual-size': number })['virtual-size']
      expect([1000, 1024]).toContain(device.size)
      expect(theirSize).toBe(1024)
      const created = join(there.peer.paths.data, 'rounded.img')
      const rounded = await createBlockDevice(there.at(created), { ...there.connection, size: 1_000_001 })
      expect(rounded.size).toBe(1_000_448)
      await rounded.close()
      expect(statSync(created).size).toBe(1_000_448)
      await device.close()
    })
  },
)

/** Whether an even-numbered write after `i` touches what write `i` wrote. */
function overlapsLater(places: readonly number[], offset: number, i: number): boolean {
  const end = offset + 512 * (1 + (i % 16))
  return places.some(
    (other, j) => j > i && j % 2 === 0 && other < end && other + 512 * (1 + (j % 16)) > offset,
  )
}
