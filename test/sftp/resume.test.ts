// Files that survive lost connections, against the model machine of test/faults: a disk that forgets what was not synced,
// connections cut at any byte, and old sessions that go on behind the client's back. The local side is a real folder.

import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SftpClient, SftpStatusError } from '@sshblock/sftp'
import { getFileResuming, putFileResuming, type ResumingTransferOptions } from '@sshblock/sftp/node'
import { HostKeyError } from '@sshblock/transport/errors'
import { afterEach, describe, expect, test } from 'vitest'
import { connectionReset, type Loss } from '../faults/model/link.ts'
import { Machine, type ModelConnection } from '../faults/model/machine.ts'
import { Random } from '../faults/model/random.ts'
import { VirtualTime } from '../faults/model/virtual-time.ts'
import { tempDir } from '../support/temp-dir.ts'
import { pattern } from './scripted-server.ts'

const reset: Loss = { client: 'reset', arriving: 1, lateMs: 0, serverSeesMs: 0 }
const remotePath = '/copy.bin'

class Ground {
  readonly time = new VirtualTime()
  readonly machine: Machine
  readonly folder = tempDir('resume')
  readonly local = join(this.folder, 'local.bin')
  /** What happens to each new connection, in order; the last entry is for all further ones. */
  plan: ((connection: ModelConnection) => void)[] = [() => {}]
  connections = 0
  retries: number[] = []
  #stopped = false
  readonly #clients: SftpClient[] = []

  constructor(seed = 1, windowBytes = 65_536) {
    const random = new Random(seed)
    this.machine = new Machine({
      time: this.time,
      random,
      link: { latencyMs: () => 0, windowBytes, pieceBytes: () => 32_768, reorders: false },
      maxChannels: 10,
      permitsExec: false,
      endsOlderSessions: false,
      connectMs: () => 0,
      keepaliveMs: 1000,
    })
    void (async () => {
      while (!this.#stopped) await this.time.run(() => this.#stopped, 1)
    })()
  }

  async connect(): Promise<SftpClient> {
    const connection = await this.machine.connect()
    const channel = await connection.openChannel()
    const client = await SftpClient.open(channel)
    this.#clients.push(client)
    await client.limitsKnown
    this.plan[Math.min(this.connections++, this.plan.length - 1)]!(connection)
    return client
  }

  get options(): ResumingTransferOptions {
    return {
      reconnect: () => this.connect(),
      firstRetryMs: 1,
      maxRetryMs: 2,
      patienceMs: 20_000,
      syncEveryBytes: 64 * 1024,
      onRetry: ({ attempt }) => this.retries.push(attempt),
    }
  }

  remote(path = remotePath): Uint8Array | undefined {
    return this.machine.disk.names.get(path)?.bytes
  }

  stop(): void {
    this.#stopped = true
    for (const client of this.#clients) void client.close()
  }
}

function cut(
  direction: 'up' | 'down',
  at: number,
  loss: Loss = reset,
): (connection: ModelConnection) => void {
  return (connection) => connection.links[0]!.cutAt(direction, at, loss, () => connection.lose(loss))
}

let ground: Ground
afterEach(() => ground.stop())

describe('get', () => {
  test('goes on behind a loss at any byte, and leaves nothing but the file', async () => {
    const content = pattern(900_000)
    for (let at = 1; at < 900_000; at += at < 100 ? 7 : 91_013) {
      ground = new Ground()
      ground.machine.disk.create(remotePath, content, 1000)
      ground.plan = [cut('down', at), cut('down', 350_000), () => {}]
      const result = await getFileResuming(await connected(), remotePath, ground.local, ground.options)
      expect(result).toMatchObject({ bytes: 900_000, retries: 2, restarts: 0 })
      expect(Buffer.compare(readFileSync(ground.local), content)).toBe(0)
      expect(readdirSync(ground.folder)).toEqual(['local.bin'])
      ground.stop()
    }
  })

  test('a file that was replaced during the outage is copied anew, whole', async () => {
    ground = new Ground()
    ground.machine.disk.create(remotePath, pattern(900_000, 1), 1000)
    ground.plan = [
      cut('down', 700_000),
      () => ground.machine.disk.create(remotePath, pattern(900_000, 2), 2000),
      () => {},
    ]
    const result = await getFileResuming(await connected(), remotePath, ground.local, ground.options)
    expect(result.restarts).toBe(1)
    expect(Buffer.compare(readFileSync(ground.local), pattern(900_000, 2))).toBe(0)
  })

  test('another file of the same size and time is told by its bytes', async () => {
    ground = new Ground()
    ground.machine.disk.create(remotePath, pattern(900_000, 1), 1000)
    ground.plan = [
      cut('down', 700_000),
      () => ground.machine.disk.create(remotePath, pattern(900_000, 2), 1000),
      () => {},
    ]
    const result = await getFileResuming(await connected(), remotePath, ground.local, ground.options)
    expect(result.restarts).toBe(1)
    expect(Buffer.compare(readFileSync(ground.local), pattern(900_000, 2))).toBe(0)
  })

  test('a file that changes while it is read is read again', async () => {
    ground = new Ground()
    const file = ground.machine.disk.create(remotePath, pattern(300_000, 1), 1000)
    let changed = false
    const result = await getFileResuming(await connected(), remotePath, ground.local, {
      ...ground.options,
      onProgress: () => {
        if (changed) return
        changed = true
        file.write(0, pattern(300_000, 2), 2000)
      },
    })
    expect(result.restarts).toBe(1)
    expect(Buffer.compare(readFileSync(ground.local), pattern(300_000, 2))).toBe(0)
  })

  test('a file that never stands still is no copy', async () => {
    ground = new Ground()
    const file = ground.machine.disk.create(remotePath, pattern(100_000, 1), 1000)
    let time = 1000
    await expect(
      getFileResuming(await connected(), remotePath, ground.local, {
        ...ground.options,
        onProgress: () => {
          file.mtime = ++time
        },
      }),
    ).rejects.toMatchObject({ code: 'ERR_SFTP_FILE_CHANGED' })
    expect(readdirSync(ground.folder)).toEqual([])
  })

  test('patience ends: the loss is told with what had arrived, and no half file stays', async () => {
    ground = new Ground()
    ground.machine.disk.create(remotePath, pattern(900_000), 1000)
    ground.plan = [cut('down', 700_000)]
    const options = { ...ground.options, patienceMs: 30 }
    options.reconnect = () => Promise.reject(connectionReset())
    const error = await getFileResuming(await connected(), remotePath, ground.local, options).catch((e) => e)
    expect(error).toMatchObject({ name: 'SftpTransferError', code: 'ERR_SSH_CONNECTION_LOST' })
    expect(error.transferredBytes).toBeGreaterThan(0)
    expect(readdirSync(ground.folder)).toEqual([])
    expect(ground.retries.length).toBeGreaterThan(2)
  })

  test('another host key ends the transfer at once', async () => {
    ground = new Ground()
    ground.machine.disk.create(remotePath, pattern(300_000), 1000)
    ground.plan = [cut('down', 150_000)]
    const options = { ...ground.options }
    options.reconnect = () => Promise.reject(new HostKeyError('mismatch', 'another key'))
    await expect(getFileResuming(await connected(), remotePath, ground.local, options)).rejects.toMatchObject(
      {
        code: 'ERR_SSH_HOST_KEY_MISMATCH',
      },
    )
    expect(ground.retries).toEqual([1])
  })

  test('cancelled during the pause it ends at once', async () => {
    ground = new Ground()
    ground.machine.disk.create(remotePath, pattern(300_000), 1000)
    ground.plan = [cut('down', 150_000)]
    const controller = new AbortController()
    const running = getFileResuming(await connected(), remotePath, ground.local, {
      ...ground.options,
      firstRetryMs: 3_600_000,
      maxRetryMs: 3_600_000,
      patienceMs: 1e9,
      signal: controller.signal,
      onRetry: () => setImmediate(() => controller.abort()),
    })
    await expect(running).rejects.toMatchObject({ name: 'AbortedError' })
    expect(readdirSync(ground.folder)).toEqual([])
  })

  test('a file that is not there is the refusal of its opening', async () => {
    ground = new Ground()
    await expect(
      getFileResuming(await connected(), remotePath, ground.local, ground.options),
    ).rejects.toBeInstanceOf(SftpStatusError)
  })
})

describe('put', () => {
  test('goes on behind a loss at any byte, the last ones included, and leaves nothing but the file', async () => {
    const content = pattern(300_000)
    // The end is where CLOSE and the renaming are: every byte of it.
    const total = await bytesOfPut(content)
    const places = [1, 20, 1000, 60_000, 170_001]
    for (let at = total - 140; at <= total; at += 9) places.push(at)
    for (const at of places) {
      for (const arriving of [0, 1]) {
        ground = new Ground()
        writeFileSync(ground.local, content)
        ground.plan = [cut('up', at, { ...reset, arriving, lateMs: 3 }), () => {}]
        const result = await putFileResuming(await connected(), ground.local, remotePath, ground.options)
        expect(result).toMatchObject({ bytes: 300_000, retries: 1, restarts: 0 })
        expect(Buffer.compare(ground.remote()!, content)).toBe(0)
        expect([...ground.machine.disk.names.keys()]).toEqual([remotePath])
        ground.stop()
      }
    }
  })

  test('a loss while answers come, at any byte of the last ones', async () => {
    const content = pattern(100_000)
    for (let at = 1; at < 500; at += 11) {
      ground = new Ground()
      writeFileSync(ground.local, content)
      ground.plan = [cut('down', at), () => {}]
      await putFileResuming(await connected(), ground.local, remotePath, ground.options)
      expect(Buffer.compare(ground.remote()!, content)).toBe(0)
      ground.stop()
    }
  })

  test('what a server forgot when it went down is sent again', async () => {
    const content = pattern(600_000)
    for (const seed of [1, 2, 3, 4]) {
      ground = new Ground(seed)
      writeFileSync(ground.local, content)
      ground.plan = [
        cut('up', 400_000),
        (connection) => {
          ground.machine.crash()
          connection.vanish(false)
        },
        () => {},
      ]
      const result = await putFileResuming(await connected(), ground.local, remotePath, ground.options)
      expect(Buffer.compare(ground.remote()!, content)).toBe(0)
      expect(result.retries).toBeGreaterThan(0)
      ground.stop()
    }
  })

  test('writes of the old session that come late do not hurt a copy begun anew', async () => {
    ground = new Ground(1, 2 ** 21)
    writeFileSync(ground.local, pattern(1_500_000, 1))
    const connection = () => ground.machine.modelConnections[0]!
    let ghosts = 0
    let stopped = false
    ground.machine.onWrite = (process) => {
      if (process.link.isLost) ghosts++
    }
    ground.plan = [
      () => {},
      () => {
        writeFileSync(ground.local, pattern(1_500_000, 2))
        utimesSync(ground.local, 5000, 5000)
      },
    ]
    const result = await putFileResuming(await connected(), ground.local, remotePath, {
      ...ground.options,
      onProgress: ({ transferredBytes }) => {
        // The old server is stopped with writes before it, and goes on when the new copy is on its way.
        const link = connection().links[0]!
        if (ground.connections === 1 && !stopped) {
          stopped = true
          link.holdServer()
          ground.time.setTimer(() => connection().lose(reset), 30)
        } else if (ground.connections === 2 && stopped && transferredBytes > 500_000) {
          stopped = false
          link.releaseServer()
        }
      },
    })
    expect(result.restarts).toBe(1)
    await ground.time.sleep(100)
    expect(ghosts).toBeGreaterThan(0)
    expect(Buffer.compare(ground.remote()!, pattern(1_500_000, 2))).toBe(0)
    expect([...ground.machine.disk.names.keys()]).toEqual([remotePath])
  })

  test('an fsync that fails ends the transfer: what it covered may be gone', async () => {
    ground = new Ground()
    writeFileSync(ground.local, pattern(300_000))
    ground.machine.trouble.failingSyncs = 1
    await expect(
      putFileResuming(await connected(), ground.local, remotePath, ground.options),
    ).rejects.toMatchObject({ name: 'SftpTransferError', code: 'EIO' })
    expect([...ground.machine.disk.names.keys()]).toEqual([])
  })

  test('a full disk is told, and the half copy is removed', async () => {
    ground = new Ground()
    writeFileSync(ground.local, pattern(300_000))
    ground.machine.trouble.failingWrites.push('ENOSPC')
    await expect(
      putFileResuming(await connected(), ground.local, remotePath, ground.options),
    ).rejects.toMatchObject({ code: 'EIO' })
    expect(ground.remote()).toBeUndefined()
    expect(existsSync(ground.local)).toBe(true)
  })

  test("somebody else's file of the same name stays until the copy is whole", async () => {
    ground = new Ground()
    const old = pattern(1000, 9)
    ground.machine.disk.create(remotePath, old, 1000)
    writeFileSync(ground.local, pattern(300_000))
    ground.plan = [cut('up', 150_000)]
    const options = { ...ground.options, patienceMs: 20 }
    options.reconnect = () => Promise.reject(connectionReset())
    await expect(putFileResuming(await connected(), ground.local, remotePath, options)).rejects.toThrow()
    expect(Buffer.compare(ground.remote()!, old)).toBe(0)
  })
})

function connected(): Promise<SftpClient> {
  return ground.connect()
}

async function bytesOfPut(content: Uint8Array): Promise<number> {
  ground = new Ground()
  writeFileSync(ground.local, content)
  const client = await connected()
  const before = ground.machine.modelConnections[0]!.links[0]!.upBytes
  await putFileResuming(client, ground.local, remotePath, ground.options)
  const link = ground.machine.modelConnections[0]!.links[0]!
  const bytes = link.upBytes - before
  ground.stop()
  return bytes
}
