// Whole trees that survive the death of their server: OpenSSH's sftp-server, killed at any byte, and started again.

import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SftpClient } from '@sshblock/sftp'
import { getTree, putTree, spawnSftpServer, type TreeRetryOptions } from '@sshblock/sftp/node'
import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import { expect, test, vi } from 'vitest'
import { registerCleanup } from '../support/cleanup.ts'
import { findProgram } from '../support/program.ts'
import { describeWith, needsPrograms } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { pattern } from './scripted-server.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 60_000 })

const needsSftpServer = needsPrograms('OpenSSH sftp-server', ['sftp-server'], 'openssh-sftp-server')
const bigBytes = 6_000_000

/** A channel whose server dies when so many bytes went up, or came down. */
class Mortal implements ByteChannel {
  readonly #inner: ByteChannel
  readonly #kill: () => void
  #left: number

  constructor(inner: ByteChannel, afterBytes: number, kill: () => void) {
    this.#inner = inner
    this.#left = afterBytes
    this.#kill = kill
  }

  start(receiver: ByteReceiver): void {
    this.#inner.start({
      data: (view) => {
        this.#passed(view.length)
        receiver.data(view)
      },
      writable: () => receiver.writable(),
      end: () => receiver.end(),
      closed: (cause) => receiver.closed(cause),
    })
  }

  write(bytes: Uint8Array): void {
    this.#inner.write(bytes)
    this.#passed(bytes.length)
  }

  #passed(bytes: number): void {
    const was = this.#left
    this.#left -= bytes
    if (was > 0 && this.#left <= 0) this.#kill()
  }

  get writableBytes(): number {
    return this.#inner.writableBytes
  }

  pause(): void {
    this.#inner.pause()
  }

  resume(): void {
    this.#inner.resume()
  }

  end(): void {
    this.#inner.end()
  }

  close(): void {
    this.#inner.close()
  }
}

/** Servers that die after so many bytes, one after the other; the last one lives. */
class Servers {
  started = 0
  told = 0
  readonly #lives: readonly number[]

  constructor(lives: readonly number[]) {
    this.#lives = lives
  }

  async connect(): Promise<SftpClient> {
    const { channel, process } = spawnSftpServer(findProgram('sftp-server') ?? 'sftp-server')
    registerCleanup(() => void process.kill('SIGKILL'))
    const life = this.#lives[this.started++] ?? Number.POSITIVE_INFINITY
    return SftpClient.open(new Mortal(channel, life, () => process.kill('SIGKILL')))
  }

  get retry(): TreeRetryOptions {
    return {
      reconnect: ({ client }) => {
        void client.close().catch(() => {})
        return this.connect()
      },
      firstRetryMs: 1,
      maxRetryMs: 20,
      patienceMs: 30_000,
      onRetry: () => {
        this.told++
      },
    }
  }
}

async function makeTree(): Promise<string> {
  const root = tempDir('tree')
  await mkdir(join(root, 'a/b/empty'), { recursive: true })
  for (let i = 0; i < 40; i++) await writeFile(join(root, 'a', `f${i}`), pattern(i * 997, i))
  await writeFile(join(root, 'a/b/deep'), 'deep')
  await writeFile(join(root, 'big'), pattern(bigBytes, 3))
  await chmod(join(root, 'a/b'), 0o750)
  await symlink('../f1', join(root, 'a/b/link'))
  return root
}

/** Everything below a folder: kinds, modes of folders, targets, and what files hold. */
function told(root: string, path = '.'): string[] {
  return readdirSync(join(root, path))
    .sort()
    .flatMap((name) => {
      const each = join(path, name)
      const stats = lstatSync(join(root, each))
      if (stats.isDirectory()) return [`${each} ${(stats.mode & 0o777).toString(8)}`, ...told(root, each)]
      if (stats.isSymbolicLink()) return [`${each} -> ${readlinkSync(join(root, each))}`]
      return [
        `${each} ${createHash('sha256')
          .update(readFileSync(join(root, each)))
          .digest('hex')}`,
      ]
    })
}

// In the first lists and directories, among the small files, in the big one, and once more soon after.
const lives = [[300], [2000, 900], [40_000, 3000, 300_000], [3_000_000, 1_000_000, 700], [5_900_000, 200_000]]

describeWith([needsSftpServer], 'a tree whose server is killed', () => {
  test.each(lives.flatMap((each) => [['put', each] as const, ['get', each] as const]))(
    '%s is whole in the end, after deaths behind %j bytes',
    async (direction, lifetimes) => {
      const from = await makeTree()
      const to = join(tempDir('copy'), 'copy')
      const servers = new Servers(lifetimes)
      const copy = direction === 'put' ? putTree : getTree
      const client = await servers.connect()
      const files: string[] = []
      const result = await copy(client, from, to, {
        preserve: true,
        symlinks: 'copy',
        retry: servers.retry,
        onFile: (path) => files.push(path),
      })
      expect(result).toMatchObject({ files: 42, directories: 4, links: 1, skipped: [] })
      // Each file once, and no more than was there.
      expect(new Set(files).size).toBe(42)
      expect(files).toHaveLength(42)
      expect(told(to)).toEqual(told(from))
      // All of them share one way back.
      expect(servers.started).toBe(lifetimes.length + 1)
      expect(servers.told).toBeGreaterThanOrEqual(lifetimes.length)
      expect(servers.told).toBeLessThanOrEqual(3 * lifetimes.length)
    },
  )

  test('without a way back a loss ends it, as it always did', async () => {
    const from = await makeTree()
    const to = join(tempDir('copy'), 'copy')
    const client = await new Servers([300_000]).connect()
    await expect(putTree(client, from, to)).rejects.toThrow(/closed|lost|ended/)
    expect(existsSync(join(to, 'big'))).toBe(false)
  })

  test('what cannot be helped by another connection ends it at once', async () => {
    const from = await makeTree()
    const servers = new Servers([])
    const client = await servers.connect()
    const nowhere = join(tempDir('copy'), 'no', 'such', 'folder')
    await expect(putTree(client, from, nowhere, { retry: servers.retry })).rejects.toMatchObject({
      code: 'ENOENT',
    })
    expect(servers.started).toBe(1)
  })
})
