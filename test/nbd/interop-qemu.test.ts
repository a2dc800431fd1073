import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { findProgram, run } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { client, needsFio, needsQemu } from './support/peers.ts'
import { serve, until } from './support/serve.ts'
import { pattern, TestDisk } from './support/test-disk.ts'

const MiB = 1 << 20

describeWith([needsQemu], 'qemu-img', () => {
  test('sees size and holes', async () => {
    const server = await serve([
      { name: 'disk', device: new TestDisk({ size: 16 * MiB }).put(4 * MiB, pattern(MiB)) },
    ])
    const info = JSON.parse((await client('qemu-img', 'info', '--output=json', server.uri('disk'))).stdout)
    expect(info).toMatchObject({ format: 'raw', 'virtual-size': 16 * MiB })
    const map = JSON.parse((await client('qemu-img', 'map', '--output=json', server.uri('disk'))).stdout)
    expect(map).toMatchObject([
      { start: 0, length: 4 * MiB, data: false, zero: true },
      { start: 4 * MiB, length: MiB, data: true, zero: false },
      { start: 5 * MiB, length: 11 * MiB, data: false, zero: true },
    ])
  })

  test('converts to and from an export, and finds them equal', async () => {
    const from = new TestDisk({ size: 24 * MiB })
      .put(MiB - 512, pattern(5 * MiB))
      .put(20 * MiB, pattern(MiB, 3))
    const to = new TestDisk({ size: 24 * MiB }).put(0, pattern(24 * MiB, 4))
    const server = await serve([
      { name: 'from', device: from, readOnly: true },
      { name: 'to', device: to },
    ])
    const image = join(server.dir, 'image.qcow2')
    await client('qemu-img', 'convert', '-O', 'qcow2', server.uri('from'), image)
    await client('qemu-img', 'compare', server.uri('from'), image)
    await client('qemu-img', 'convert', '-n', '-W', '-O', 'raw', image, server.uri('to'))
    await client('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', server.uri('from'), server.uri('to'))
    expect(Buffer.compare(from.bytes, to.bytes)).toBe(0)
    to.put(10 * MiB, Uint8Array.of(1))
    const differ = await run('qemu-img', [
      'compare',
      '-f',
      'raw',
      '-F',
      'raw',
      server.uri('from'),
      server.uri('to'),
    ])
    expect(differ.code).toBe(1)
    expect(differ.stdout).toMatch(/mismatch at offset 10485760/)
  })
})

describeWith([needsQemu], 'qemu-io', () => {
  test('writes, zeroes, discards, flushes and reads patterns back', async () => {
    const disk = new TestDisk({ size: 16 * MiB, canDiscard: true })
    const server = await serve(disk)
    const commands = [
      'write -P 0xab 0 1M',
      'write -f -P 0xcd 1000448 64k',
      'aio_write -P 0x11 2M 4M',
      'aio_write -P 0x22 6M 4M',
      'aio_flush',
      'write -z 3M 1M',
      'write -z -u 7M 1M',
      'discard 12M 1M',
      'flush',
      'read -P 0xab 0 1000448',
      'read -P 0xcd 1000448 64k',
      'read -P 0x11 2M 1M',
      'read -P 0 3M 1M',
      'read -P 0x22 8M 2M',
      'read -P 0 7M 1M',
      'read -P 0 12M 4M',
    ]
    const { stdout } = await client(
      'qemu-io',
      '-f',
      'raw',
      ...commands.flatMap((each) => ['-c', each]),
      server.uri(),
    )
    expect(stdout).not.toMatch(/fail|error/i)
    expect(stdout.match(/^read [0-9]+\/[0-9]+ bytes/gm)?.length).toBe(7)
    expect(disk.bytes[0]).toBe(0xab)
    expect(disk.calls.map((call) => call.kind)).toEqual(
      expect.arrayContaining(['write', 'writeZeroes', 'discard', 'flush']),
    )
    expect(disk.calls.some((call) => call.kind === 'write' && call.fua)).toBe(true)
  })

  test('notices a pattern that is not there', async () => {
    const server = await serve(new TestDisk().put(0, pattern(4096)))
    const { stdout } = await run('qemu-io', ['-f', 'raw', '-c', 'read -P 0x77 0 4096', server.uri()])
    expect(stdout).toMatch(/verification failed/)
  })

  test('is told of a bad block and goes on with the next', async () => {
    const disk = new TestDisk().put(0, new Uint8Array(MiB).fill(5))
    disk.before = ({ offset }) => {
      if (offset === 65_536) throw new BlockDeviceError('EIO', 'a bad block')
    }
    const server = await serve(disk)
    const commands = ['read -P 5 65536 4096', 'read -P 5 131072 4096']
    const { stdout, stderr } = await run('qemu-io', [
      '-f',
      'raw',
      ...commands.flatMap((each) => ['-c', each]),
      server.uri(),
    ])
    expect(stdout + stderr).toMatch(/read failed: Input\/output error/)
    expect(stdout).toMatch(/read 4096\/4096 bytes at offset 131072/)
  })

  test('cannot open a read-only export for writing', async () => {
    const server = await serve([{ name: '', device: new TestDisk(), readOnly: true }])
    const { stdout, stderr } = await run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', server.uri()])
    expect(stdout + stderr).toMatch(/Permission denied/)
    expect(
      (await client('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 0 0 512', server.uri())).stdout,
    ).toMatch(/read 512/)
  })

  test('killed while it writes leaves nothing behind', async () => {
    const disk = new TestDisk({ size: 16 * MiB })
    const server = await serve(disk)
    disk.before = ({ kind, signal }) =>
      kind === 'write'
        ? new Promise((_resolve, reject) => {
            signal?.addEventListener('abort', () => reject(new BlockDeviceError('ABORT_ERR', 'cancelled')))
          })
        : undefined
    const qemu = spawn(findProgram('qemu-io')!, ['-f', 'raw', '-c', 'write 0 4M', server.uri()], {
      stdio: 'ignore',
    })
    registerCleanup(() => void qemu.kill('SIGKILL'))
    await until(() => disk.pending > 0)
    qemu.kill('SIGKILL')
    await until(() => server.statistics().clients === 0)
    expect(disk.pending).toBe(0)
    expect(server.statistics()).toMatchObject({ requestsInFlight: 0, bytesInFlight: 0 })
  })
})

describeWith([needsQemu], 'qemu-nbd --list', () => {
  test('shows every export with flags, block sizes and contexts', async () => {
    const server = await serve([
      { name: 'disk', device: new TestDisk({ size: MiB }), description: 'first' },
      { name: 'second', device: new TestDisk({ size: MiB }), readOnly: true },
    ])
    const { stdout } = await client('qemu-nbd', '--list', '-k', server.socketPath)
    expect(stdout).toMatch(/exports available: 2/)
    expect(stdout).toMatch(/export: 'disk'\n {2}description: first\n {2}size: {2}1048576/)
    expect(stdout).toMatch(/\( flush fua zeroes df multi cache fast-zero \)/)
    expect(stdout).toMatch(/\( readonly flush fua df multi cache \)/)
    expect(stdout).toMatch(/min block: 1\n {2}opt block: 65536\n {2}max block: 33554432/)
    expect(stdout).toMatch(/base:allocation/)
  })
})

describeWith([needsFio], 'fio', () => {
  test('verifies what it wrote, 32 in flight, from two jobs over connections of their own', async () => {
    const disk = new TestDisk({ size: 16 * MiB })
    const server = await serve(disk)
    const job = join(server.dir, 'job.fio')
    writeFileSync(
      job,
      [
        '[global]',
        'ioengine=nbd',
        `uri=${server.uri()}`,
        'rw=randrw',
        'bsrange=512-64k',
        'iodepth=32',
        'size=8m',
        'verify=crc32c',
        'verify_fatal=1',
        'verify_backlog=64',
        'fsync=50',
        'loops=2',
        '[first]',
        'offset=0',
        '[second]',
        'offset=8m',
        '',
      ].join('\n'),
    )
    const report = join(server.dir, 'report.json')
    // It leaves files with the state of its verification where it runs.
    await client('fio', '--output-format=json', `--output=${report}`, `--aux-path=${server.dir}`, job)
    const text = readFileSync(report, 'utf8')
    const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
      jobs: { error: number; write: { io_bytes: number } }[]
    }
    expect(jobs.map(({ error }) => error)).toEqual([0, 0])
    expect(jobs.every(({ write }) => write.io_bytes > MiB)).toBe(true)
    expect(server.statistics().acceptedClients).toBeGreaterThanOrEqual(2)
    expect(disk.peakPending).toBeGreaterThan(8)
  })
})
