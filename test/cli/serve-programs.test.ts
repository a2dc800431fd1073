/**
 * Real programs on an image behind `sshblock serve` and OpenSSH: what they write is what lies on the server, and what lies
 * there is what they read. SSHBLOCK_LONG=1 (npm run test:long) takes images of real size.
 */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { nbdsh, needsFio, needsLibnbd, needsNbdsh, needsQemu } from '../nbd/support/peers.ts'
import { until } from '../nbd/support/serve.ts'
import { bundlesPackages } from '../support/bundles.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { run, runOrThrow } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { type ServedImage, serveImage } from './served-image.ts'

bundlesPackages()

const mebibyte = 1024 ** 2
const isLong = process.env['SSHBLOCK_LONG'] === '1'
/** Bytes of the image that is copied. */
const copied = (isLong ? 1024 : 16) * mebibyte
const timeoutMs = isLong ? 600_000 : 55_000

function program(name: string, ...args: string[]) {
  return runOrThrow(name, args, { timeoutMs })
}

describeWith(
  [needsOpenssh(), needsLibnbd, needsQemu, needsFio, needsNbdsh],
  'through serve on OpenSSH',
  () => {
    let peer: OpensshPeer
    let served: ServedImage

    beforeAll(async () => {
      peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
      served = await serveImage({ peer, size: copied, timeoutMs: 10 * timeoutMs })
    }, timeoutMs)

    // Programs came and went; the command ends in order, without a word.
    afterAll(async () => {
      if (served !== undefined) expect(await served.stop()).toMatchObject({ code: 0, stderr: '' })
    }, timeoutMs)

    test(
      'nbdinfo sees a writable disk of the right size that several connections may use',
      async () => {
        const { stdout } = await program('nbdinfo', '--json', served.uri)
        expect(JSON.parse(stdout)).toMatchObject({
          protocol: 'newstyle-fixed',
          structured: true,
          exports: [
            {
              'export-size': copied,
              description: `peer:${served.file}`,
              contexts: ['base:allocation'],
              is_read_only: false,
              can_flush: true,
              can_fua: true,
              can_multi_conn: true,
              can_zero: true,
              block_size_maximum: 32 * mebibyte,
            },
          ],
        })
      },
      timeoutMs,
    )

    test(
      'nbdcopy writes an image that is the same on the server, and reads it back the same',
      async () => {
        const dir = tempDir()
        const source = join(dir, 'source')
        // Data, a hole, and data again.
        const part = randomBytes(mebibyte)
        const content = Buffer.alloc(copied)
        for (let at = 0; at < copied; at += 4 * mebibyte) content.set(part, at)
        writeFileSync(source, content)
        await program('nbdcopy', '--flush', source, served.uri)
        await program('cmp', source, served.file)
        const back = join(dir, 'back')
        await program('nbdcopy', served.uri, back)
        await program('cmp', back, source)
      },
      timeoutMs,
    )

    test(
      'qemu-img tells its size, converts to and from it, compares, and runs its bench',
      async () => {
        const dir = tempDir()
        const image = await serveImage({ peer, size: 8 * mebibyte })
        const source = join(dir, 'source.qcow2')
        const raw = join(dir, 'raw')
        writeFileSync(raw, randomBytes(8 * mebibyte))
        await program('qemu-img', 'convert', '-O', 'qcow2', raw, source)
        await program('qemu-img', 'convert', '-n', '-O', 'raw', source, image.uri)
        await program('cmp', raw, image.file)
        const info = await program('qemu-img', 'info', '--output=json', image.uri)
        expect(JSON.parse(info.stdout)).toMatchObject({ format: 'raw', 'virtual-size': 8 * mebibyte })
        await program('qemu-img', 'compare', '-F', 'qcow2', '-f', 'raw', image.uri, source)
        const bench = await program(
          'qemu-img',
          'bench',
          '-f',
          'raw',
          '-w',
          '-c',
          '256',
          '-d',
          '32',
          '-s',
          '4k',
          '-S',
          '20k',
          '--pattern=7',
          image.uri,
        )
        expect(bench.stdout).toContain('Run completed')
        const compared = await run('qemu-img', ['compare', '-F', 'qcow2', '-f', 'raw', image.uri, source])
        expect(compared).toMatchObject({ code: 1 })
        await image.stop()
        expect(
          readFileSync(image.file)
            .subarray(20_480, 24_576)
            .every((byte) => byte === 7),
        ).toBe(true)
      },
      timeoutMs,
    )

    test(
      'qemu-io reads the patterns it wrote, zeroed, and wrote through',
      async () => {
        const commands = [
          'write -P 0xa5 4k 60k',
          'write -f -P 0x5a 1001 511',
          'write -z 8k 8k',
          'aio_write -P 1 1M 1M',
          'aio_write -P 2 2M 1M',
          'aio_flush',
          'read -P 0x5a 1001 511',
          'read -P 0xa5 4k 4k',
          'read -P 0 8k 8k',
          'read -P 0xa5 16k 48k',
          'read -P 1 1M 1M',
          'read -P 2 2M 1M',
        ]
        const { stdout } = await program(
          'qemu-io',
          '-f',
          'raw',
          ...commands.flatMap((each) => ['-c', each]),
          served.uri,
        )
        expect(stdout).not.toMatch(/failed|error/i)
        expect(
          readFileSync(served.file)
            .subarray(8192, 16_384)
            .every((byte) => byte === 0),
        ).toBe(true)
      },
      timeoutMs,
    )

    test(
      'fio finds what it wrote, 32 in flight, four jobs on connections of their own',
      async () => {
        const dir = tempDir()
        const each = copied / 4
        const lines = [
          '[global]',
          'ioengine=nbd',
          `uri=${served.uri}`,
          'rw=randrw',
          'bsrange=512-64k',
          'iodepth=32',
          `size=${each}`,
          `io_size=${isLong ? each : 2 * mebibyte}`,
          'verify=crc32c',
          'verify_fatal=1',
          'verify_backlog=64',
          'fsync=100',
          ...[0, 1, 2, 3].flatMap((i) => [`[job${i}]`, `offset=${i * each}`]),
        ]
        writeFileSync(join(dir, 'job.fio'), `${lines.join('\n')}\n`)
        const report = join(dir, 'report.json')
        await program(
          'fio',
          '--output-format=json',
          `--output=${report}`,
          `--aux-path=${dir}`,
          join(dir, 'job.fio'),
        )
        const text = readFileSync(report, 'utf8')
        const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
          jobs: { error: number; write: { io_bytes: number }; read: { io_bytes: number } }[]
        }
        expect(jobs.map(({ error }) => error)).toEqual([0, 0, 0, 0])
        expect(jobs.every(({ write, read }) => write.io_bytes > 0 && read.io_bytes > 0)).toBe(true)
      },
      timeoutMs,
    )

    test(
      'nbdsh gets every option answered, and the errors that requests deserve',
      async () => {
        const readOnly = await serveImage({ peer, size: mebibyte, flags: ['--read-only'] })
        const script = `
size = ${copied}
h.set_opt_mode(True)
h.add_meta_context('base:allocation')
h.connect_uri('${served.uri}')
names = []
h.opt_list(lambda name, description: names.append(name))
contexts = []
h.opt_list_meta_context(lambda name: contexts.append(name))
h.opt_info()
show([names, contexts, h.get_size(), h.get_structured_replies_negotiated()])
h.opt_go()
h.set_strict_mode(0)
show([
    error(lambda: h.pread(512, size - 511)),
    error(lambda: h.pread((32 << 20) + 1, 0)),
    error(lambda: h.pwrite(bytearray(512), size - 511)),
    error(lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)),
    error(lambda: h.trim(512, 0)),
    error(lambda: h.cache(512, 0)),
    error(lambda: h.pwrite(bytearray(512), 0, nbd.CMD_FLAG_FUA)),
    error(lambda: h.block_status(1 << 20, 0, lambda *args: 0)),
    error(lambda: h.flush()),
])
h.shutdown()
aborting = nbd.NBD()
aborting.set_opt_mode(True)
aborting.connect_uri('${served.uri}')
aborting.opt_abort()
show(aborting.aio_is_closed())
plain = nbd.NBD()
plain.set_request_structured_replies(False)
plain.set_handshake_flags(0)
plain.connect_uri('${served.uri}')
show([plain.get_protocol(), plain.get_size(), error(lambda: plain.pread(4096, 0))])
plain.shutdown()
ro = nbd.NBD()
ro.set_strict_mode(0)
ro.connect_uri('${readOnly.uri}')
show([ro.is_read_only(), error(lambda: ro.pwrite(bytearray(512), 0)), error(lambda: ro.zero(512, 0)), error(lambda: ro.pread(512, 0))])
missing = nbd.NBD()
missing.set_export_name('other')
missing.set_uri_allow_local_file(True)
show(error(lambda: missing.connect_unix('${socketOf(served.uri)}')))
`
        expect(await nbdsh(script)).toEqual([
          [[''], ['base:allocation'], copied, true],
          ['EINVAL', 'EINVAL', 'ENOSPC', 'ENOTSUP', 'EINVAL', null, null, null, null],
          true,
          ['newstyle', copied, null],
          [true, 'EPERM', 'EPERM', null],
          'ENOENT',
        ])
        await readOnly.stop()
      },
      timeoutMs,
    )

    test(
      'a negotiation cut at any byte leaves the command alive, and no descriptor open',
      async () => {
        const path = socketOf(served.uri)
        const descriptors = (): number => readdirSync(`/proc/${served.serving.pid}/fd`).length
        const before = descriptors()
        const recorded = await recordClient(path)
        expect(recorded.length).toBeGreaterThan(60)
        for (let length = 0; length <= recorded.length; length++) {
          const client = await connected(path)
          // What the server says to a client that is gone concerns nobody.
          client.on('error', () => {}).resume()
          client.write(recorded.subarray(0, length), () =>
            length % 2 === 0 ? client.destroy() : client.end(),
          )
          await until(() => client.closed && descriptors() <= before)
        }
        const { stdout } = await program('nbdinfo', '--size', served.uri)
        expect(stdout).toBe(`${copied}\n`)
      },
      timeoutMs,
    )
  },
)

function socketOf(uri: string): string {
  return decodeURIComponent(/socket=(.+)/.exec(uri)?.[1] ?? '')
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path }, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** Everything that nbdinfo says to the server, negotiation and requests. */
async function recordClient(path: string): Promise<Buffer> {
  const said: Buffer[] = []
  const relay = createServer((client) => {
    const server = connect({ path })
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('data', (chunk: Buffer) => said.push(chunk))
    client.pipe(server).pipe(client)
  })
  registerCleanup(() => new Promise<void>((resolve) => relay.close(() => resolve())))
  const own = join(tempDir(), 'relay')
  await new Promise<void>((resolve) => relay.listen(own, resolve))
  await program('nbdinfo', '--map', `nbd+unix:///?socket=${own}`)
  return Buffer.concat(said)
}
