// Longer than a test run should be: `npm run faults:soak` (SECONDS=60). A device on OpenSSH, exported over NBD, whose connections are cut
// every other second while others write through it and look at what they have written.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, truncateSync, writeFileSync } from 'node:fs'
import { open, readFile, rm } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { queryObjects, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { serveNbd } from '@sshblock/nbd'
import { describe, expect, it } from 'vitest'
import { OpenLane } from '../../packages/blockdev/src/image/open-lane.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { run, runOrThrow } from '../support/program.ts'
import { needsPrograms, requirePeers } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { filled, needsSshd, startSshd, until } from './real-sshd.ts'

const seconds = Number(process.env['SECONDS'] ?? 60)
const mebibyte = 1024 * 1024

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** What the process holds, after everything that nobody holds was collected. */
interface Held {
  readonly resources: number
  readonly sockets: number
  readonly promises: number
  readonly lanes: number
  readonly heapKiB: number
  readonly buffersKiB: number
  readonly rssMiB: number
}

function held(): Held {
  collectGarbage()
  // Collects once more, and counts what is left.
  const [sockets, promises, lanes] = [Socket, Promise, OpenLane].map((made) => queryObjects(made)) as [
    number,
    number,
    number,
  ]
  const { heapUsed, external, rss } = process.memoryUsage()
  return {
    resources: process.getActiveResourcesInfo().filter((name) => name !== 'TTYWrap').length,
    sockets,
    promises,
    lanes,
    heapKiB: Math.round(heapUsed / 1024),
    buffersKiB: Math.round(external / 1024),
    rssMiB: Math.round(rss / mebibyte),
  }
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

/** An export of an image of `size` bytes, whose connections are cut as long as `cutting` says. */
async function exported(size: number) {
  const sshd = await startSshd()
  const path = join(sshd.data, 'disk.img')
  writeFileSync(path, '')
  truncateSync(path, size)
  const { device } = await sshd.open(path, { keepalive: { intervalMs: 1000, maxMissed: 2 } })
  const socketPath = join(tempDir('nbd'), 'disk.sock')
  const server = await serveNbd([{ name: '', device }], { listen: { socketPath } })
  registerCleanup(() => server.close())
  let cuts = 0
  const cutter = setInterval(() => {
    const how = (['rst', 'fin', 'silence'] as const)[cuts++ % 3]!
    sshd.cut(how)
    if (cuts % 4 === 0) sshd.signalSftpServers('SIGKILL')
  }, 2000)
  registerCleanup(() => clearInterval(cutter))
  return { sshd, path, device, server, socketPath, stopCutting: () => clearInterval(cutter) }
}

describe.runIf(process.env['FAULTS_SOAK'] === '1')('under cuts', () => {
  it('fio writes at random and verifies every block', async () => {
    requirePeers([...needsSshd, needsPrograms('fio', ['fio'], 'fio')])
    const { device, socketPath, server } = await exported(256 * mebibyte)
    const { stdout } = await runOrThrow(
      'fio',
      [
        '--name=verify',
        '--ioengine=nbd',
        `--uri=nbd+unix:///?socket=${socketPath}`,
        '--rw=randwrite',
        '--bsrange=4k-64k',
        '--size=256m',
        '--iodepth=16',
        '--fsync=64',
        '--verify=crc32c',
        '--verify_fatal=1',
        '--verify_state_save=0',
        '--do_verify=1',
        '--verify_backlog=512',
        `--runtime=${seconds}`,
        '--output-format=json',
      ],
      { timeoutMs: (seconds * 4 + 120) * 1000 },
    )
    const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs
    const { losses, restored } = device.info.connection!
    console.log(
      `fio: ${job.write.total_ios} writes, ${job.read.total_ios} verified; ${losses} losses, ${restored} recovered`,
    )
    expect(job.error).toBe(0)
    expect(job.read.total_ios).toBeGreaterThan(0)
    expect(losses).toBeGreaterThan(seconds / 6)
    await server.close()
    await device.close()
  }, 3_600_000)

  it('an ext4 file system on it stays sound, and so do the files', async () => {
    requirePeers([
      ...needsSshd,
      needsPrograms('nbdfuse', ['nbdfuse', 'fusermount3'], 'libnbd-bin'),
      needsPrograms('e2fsprogs', ['mkfs.ext4', 'e2fsck', 'losetup'], 'e2fsprogs'),
    ])
    const { device, socketPath, server, path, stopCutting } = await exported(128 * mebibyte)
    const folder = tempDir('fuse')
    // FUSE, a loop device on its file, and the kernel's ext4 on that: everything that it writes goes through the device.
    const fuse = spawn('nbdfuse', [folder, `nbd+unix:///?socket=${socketPath}`], { stdio: 'ignore' })
    registerCleanup(async () => {
      await run('fusermount3', ['-u', '-z', folder])
      fuse.kill('SIGKILL')
    })
    const disk = join(folder, 'nbd')
    await until('the disk is there', () => existsSync(disk))
    const loop = (await runOrThrow('losetup', ['--find', '--show', disk])).stdout.trim()
    registerCleanup(() => run('losetup', ['--detach', loop]).then(() => {}))
    const patient = { timeoutMs: 200_000 }
    await runOrThrow('mkfs.ext4', ['-q', loop], patient)
    const mounted = tempDir('ext4')
    registerCleanup(() => run('umount', ['--lazy', mounted]).then(() => {}))
    await runOrThrow('mount', [loop, mounted], patient)
    const sums = new Map<string, string>()
    const end = performance.now() + seconds * 1000
    for (let round = 0; performance.now() < end; round++) {
      // Some are written over again and again, some are removed.
      const name = `file-${round % 40}`
      if (round % 7 === 6) {
        await rm(join(mounted, name), { force: true })
        sums.delete(name)
        continue
      }
      const content = filled(round & 0xff, 1 + ((round * 7919) % 700_000))
      content.set(new TextEncoder().encode(`round ${round}`).subarray(0, content.length))
      const file = await open(join(mounted, name), 'w')
      await file.writeFile(content)
      await file.sync()
      await file.close()
      sums.set(name, sha256(content))
    }
    await runOrThrow('umount', [mounted], patient)
    await runOrThrow('mount', ['-o', 'ro', loop, mounted], patient)
    for (const [name, sum] of sums)
      expect([name, sha256(await readFile(join(mounted, name)))]).toEqual([name, sum])
    await runOrThrow('umount', [mounted], patient)
    await runOrThrow('losetup', ['--detach', loop])
    stopCutting()
    const { losses, restored } = device.info.connection!
    console.log(`ext4: ${sums.size} files; ${losses} losses, ${restored} recovered`)
    expect(losses).toBeGreaterThan(seconds / 6)
    await runOrThrow('fusermount3', ['-u', folder])
    await server.close()
    await device.close()
    // On the server, where nothing of ours is in between: sound, and the same files.
    await runOrThrow('e2fsck', ['-f', '-n', path], patient)
  }, 3_600_000)

  it('1000 losses leave no socket, timer, promise or memory behind', async () => {
    // What the test itself would remember of each loss: the server's log, events, connections of the proxy.
    const sshd = await startSshd({ config: ['LogLevel INFO'] })
    const { device } = await sshd.open(sshd.image(new Uint8Array(mebibyte)), { onState: () => {} })
    const rounds = Number(process.env['LOSSES'] ?? 1000)
    const samples: Held[] = []
    const started = performance.now()
    for (let loss = 1; loss <= rounds; loss++) {
      const write = device.write((loss % 200) * 4096, filled(loss & 0xff))
      sshd.cut(loss % 2 === 0 ? 'rst' : 'fin')
      await write
      await device.read((loss % 200) * 4096, filled(0))
      if (loss % Math.ceil(rounds / 10) !== 0) continue
      await device.write(0, filled(1))
      await device.flush()
      await until('a second channel is open', () => device.info.channels === 2)
      await until('nobody else is served', () => sshd.sftpServers.length === 2)
      sshd.proxy.connections.splice(0, sshd.proxy.connections.length - 4)
      samples.push(held())
      const took = ((performance.now() - started) / 1000).toFixed(0)
      console.log(`${loss} losses in ${took} s: ${JSON.stringify(samples.at(-1))}`)
    }
    expect(device.info.connection!.losses).toBeGreaterThanOrEqual(rounds)
    // Once warm, everything is as it was: memory to what the allocator and the compiler do, all else to a few.
    const [warm, end] = [samples[1]!, samples.at(-1)!]
    expect(end.resources - warm.resources).toBeLessThanOrEqual(4)
    expect(end.sockets - warm.sockets).toBeLessThanOrEqual(4)
    expect(end.promises - warm.promises).toBeLessThanOrEqual(40)
    expect(end.lanes).toBeLessThanOrEqual(2)
    expect(end.heapKiB - warm.heapKiB).toBeLessThan(1024)
    expect(end.buffersKiB - warm.buffersKiB).toBeLessThan(1024)
    expect(end.rssMiB - warm.rssMiB).toBeLessThan(24)
    await device.close()
    await until('nobody is served any more', () => sshd.sftpServers.length === 0)
  }, 3_600_000)
})
