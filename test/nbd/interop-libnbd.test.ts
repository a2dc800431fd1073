import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { serveNbd } from '@sshblock/nbd'
import { expect, test } from 'vitest'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { MemoryDevice } from '../../packages/blockdev/src/memory-device.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { describeWith } from '../support/requirements.ts'
import { client, nbdsh, needsLibnbd, needsNbdClient, needsNbdsh } from './support/peers.ts'
import { serve } from './support/serve.ts'
import { pattern, TestDisk } from './support/test-disk.ts'

const MiB = 1 << 20

describeWith([needsLibnbd], 'nbdinfo', () => {
  test('reads everything that an export says of itself', async () => {
    const server = await serve([
      { name: 'disk 1', device: new TestDisk({ size: 5 * MiB }), description: 'über' },
    ])
    const { stdout } = await client('nbdinfo', '--json', server.uri('disk 1'))
    expect(JSON.parse(stdout)).toMatchObject({
      protocol: 'newstyle-fixed',
      TLS: false,
      structured: true,
      exports: [
        {
          'export-name': 'disk 1',
          description: 'über',
          contexts: ['base:allocation'],
          is_read_only: false,
          can_cache: true,
          can_df: true,
          can_fast_zero: true,
          can_flush: true,
          can_fua: true,
          can_multi_conn: true,
          can_trim: false,
          can_zero: true,
          block_size_minimum: 1,
          block_size_preferred: 65_536,
          block_size_maximum: 33_554_432,
          'export-size': 5 * MiB,
        },
      ],
    })
  })

  test('lists all exports', async () => {
    const server = await serve([
      { name: 'a', device: new TestDisk({ size: MiB }), readOnly: true },
      { name: '', device: async () => new TestDisk({ size: 2 * MiB, canDiscard: true }) },
    ])
    const { stdout } = await client('nbdinfo', '--list', '--json', server.uri())
    expect(JSON.parse(stdout).exports).toMatchObject([
      { 'export-name': 'a', 'export-size': MiB, is_read_only: true, can_zero: false },
      { 'export-name': '', 'export-size': 2 * MiB, is_read_only: false, can_trim: true },
    ])
  })

  test('maps holes and data', async () => {
    const server = await serve(new TestDisk({ size: 64 * MiB }).put(MiB, pattern(8 * MiB)))
    const { stdout } = await client('nbdinfo', '--map', '--json', server.uri())
    expect(JSON.parse(stdout)).toEqual([
      { offset: 0, length: MiB, type: 3, description: 'hole,zero' },
      { offset: MiB, length: 8 * MiB, type: 0, description: 'data' },
      { offset: 9 * MiB, length: 55 * MiB, type: 3, description: 'hole,zero' },
    ])
  })

  test('is served over TCP, IPv6 too', async () => {
    for (const host of ['127.0.0.1', '::1']) {
      const exports = [{ name: 'disk', device: new TestDisk({ size: MiB }) }]
      const server = await serveNbd(exports, { listen: { host, port: 0 } })
      registerCleanup(() => server.close())
      expect((await client('nbdinfo', '--size', server.uri('disk'))).stdout).toBe(`${MiB}\n`)
    }
  })
})

describeWith([needsLibnbd], 'nbdcopy', () => {
  test('reads an export into a file, over several connections, holes as holes', async () => {
    const disk = new TestDisk({ size: 32 * MiB })
      .put(3 * MiB + 77, pattern(9 * MiB))
      .put(32 * MiB - 5, pattern(5))
    const server = await serve(disk)
    const out = join(server.dir, 'out')
    await client('nbdcopy', server.uri(), out)
    expect(Buffer.compare(readFileSync(out), disk.bytes)).toBe(0)
    expect(server.statistics().acceptedClients).toBeGreaterThan(1)
    expect(server.statistics().readBytes).toBeLessThan(16 * MiB)
  })

  test('writes a file into an export, zeros as zeros, and flushes', async () => {
    const disk = new TestDisk({ size: 32 * MiB }).put(0, pattern(32 * MiB, 9))
    const server = await serve(disk)
    const content = new Uint8Array(32 * MiB)
    content.set(pattern(9 * MiB), 3 * MiB + 77)
    const file = join(server.dir, 'in')
    writeFileSync(file, content)
    await client('nbdcopy', '--flush', file, server.uri())
    expect(Buffer.compare(disk.bytes, content)).toBe(0)
    const { requests } = server.statistics()
    expect(requests.writeZeroes).toBeGreaterThan(0)
    expect(requests.flush).toBeGreaterThan(0)
  })

  test('copies between two exports by small requests, without structured replies of extents', async () => {
    const from = new TestDisk({ size: 4 * MiB }).put(0, pattern(4 * MiB))
    const to = new TestDisk({ size: 4 * MiB })
    const server = await serve([
      { name: 'from', device: from, readOnly: true },
      { name: 'to', device: to },
    ])
    const sizes = ['--request-size=32768', '--requests=64', '--connections=3']
    await client('nbdcopy', '--no-extents', ...sizes, server.uri('from'), server.uri('to'))
    expect(Buffer.compare(from.bytes, to.bytes)).toBe(0)
  })
})

describeWith([needsLibnbd], 'nbdcopy and the memory device of @sshblock/blockdev', () => {
  test('copy there and back', async () => {
    const content = pattern(6 * MiB + 512)
    const device = new MemoryDevice({ size: content.length })
    const server = await serve([{ name: 'memory', device }])
    const [file, back] = [join(server.dir, 'in'), join(server.dir, 'back')]
    writeFileSync(file, content)
    await client('nbdcopy', '--flush', file, server.uri())
    expect(Buffer.compare(device.snapshot(), content)).toBe(0)
    await client('nbdcopy', server.uri(), back)
    expect(Buffer.compare(readFileSync(back), content)).toBe(0)
  })
})

describeWith([needsNbdsh], 'nbdsh', () => {
  test('goes through every option', async () => {
    const server = await serve([
      { name: 'a', device: new TestDisk({ size: MiB }), description: 'first' },
      { name: 'b', device: new TestDisk({ size: 2 * MiB }), readOnly: true },
    ])
    const script = `
h.set_opt_mode(True)
h.add_meta_context('base:allocation')
h.connect_unix('${server.socketPath}')
show([h.get_protocol(), h.get_structured_replies_negotiated(), h.aio_is_negotiating()])
names = []
show(h.opt_list(lambda name, description: names.append([name, description])))
show(names)
h.set_export_name('nothing')
show([error(h.opt_info), error(h.opt_go)])
contexts = []
h.set_export_name('a')
h.set_full_info(True)
def listed(*queries):
    h.clear_meta_contexts()
    for query in queries: h.add_meta_context(query)
    return h.opt_list_meta_context(lambda name: contexts.append(name))
show([listed(), listed('base:'), listed('base:unknown', 'x-mine:yes'), listed('base:allocation')])
show(contexts)
h.opt_info()
show([h.get_size(), h.get_canonical_export_name(), h.get_export_description(), h.is_read_only()])
show([h.get_block_size(nbd.SIZE_MINIMUM), h.get_block_size(nbd.SIZE_PREFERRED), h.get_block_size(nbd.SIZE_MAXIMUM)])
h.set_export_name('b')
h.opt_go()
show([h.get_size(), h.is_read_only(), h.can_meta_context('base:allocation'), h.can_df()])
h.shutdown()

aborting = nbd.NBD()
aborting.set_opt_mode(True)
aborting.connect_unix('${server.socketPath}')
aborting.opt_abort()
show(aborting.aio_is_closed())

plain = nbd.NBD()
plain.set_request_structured_replies(False)
plain.set_handshake_flags(0)
plain.set_export_name('a')
plain.connect_unix('${server.socketPath}')
show([plain.get_protocol(), plain.get_size(), plain.get_structured_replies_negotiated(), plain.pread(4, 0).hex()])
plain.shutdown()

wants_tls = nbd.NBD()
show(wants_tls.supports_tls())
wants_tls.set_tls(nbd.TLS_ALLOW)
wants_tls.set_export_name('a')
wants_tls.connect_unix('${server.socketPath}')
show([wants_tls.get_tls_negotiated(), wants_tls.get_structured_replies_negotiated(), wants_tls.get_size()])
wants_tls.shutdown()

needs_tls = nbd.NBD()
needs_tls.set_tls(nbd.TLS_REQUIRE)
show(error(lambda: needs_tls.connect_unix('${server.socketPath}')) is not None)
`
    expect(await nbdsh(script)).toEqual([
      ['newstyle-fixed', true, true],
      2,
      [
        ['a', 'first'],
        ['b', ''],
      ],
      ['ENOENT', 'ENOENT'],
      [1, 1, 0, 1],
      ['base:allocation', 'base:allocation', 'base:allocation'],
      [MiB, 'a', 'first', false],
      [1, 65_536, 33_554_432],
      [2 * MiB, true, true, true],
      true,
      // Without any handshake flag libnbd has EXPORT_NAME alone.
      ['newstyle', MiB, false, '00000000'],
      true,
      [false, true, MiB],
      true,
    ])
  })

  test('sees every error value', async () => {
    const disk = new TestDisk({ size: 64 * MiB, canDiscard: true }).put(0, pattern(4096))
    disk.before = ({ offset }) => {
      if (offset === 512) throw new BlockDeviceError('EIO', 'a bad block')
      if (offset === 1024) throw Object.assign(new Error(), { code: 'ENOMEM' })
    }
    const server = await serve([
      { name: 'rw', device: disk },
      { name: 'ro', device: disk, readOnly: true },
    ])
    const script = `
def connect(name, structured):
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_request_structured_replies(structured)
    handle.set_export_name(name)
    handle.connect_unix('${server.socketPath}')
    return handle
size = 64 << 20
block = bytearray(512)
for structured in [False, True]:
    rw, ro = connect('rw', structured), connect('ro', structured)
    show([
        error(lambda: rw.pread(512, 512)),
        error(lambda: rw.pread(512, 1024)),
        error(lambda: rw.pread(512, size - 511)),
        error(lambda: rw.pread(512, 1 << 62)),
        error(lambda: rw.pread((32 << 20) + 1, 0)),
        error(lambda: rw.pwrite(block, size - 511)),
        error(lambda: rw.zero(512, size - 511)),
        error(lambda: rw.trim(512, size - 511)),
        error(lambda: rw.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)),
        error(lambda: rw.pwrite(block, 0, 0x8000)),
        error(lambda: rw.block_status(512, 0, lambda *args: 0)),
        error(lambda: ro.pwrite(block, 0)),
        error(lambda: ro.zero(512, 0)),
        error(lambda: ro.trim(512, 0)),
        error(lambda: rw.pread(512, 0)),
    ])
show(error(lambda: rw.pread((32 << 20) + 1, 0, nbd.CMD_FLAG_DF)))
`
    const common = [
      'EIO',
      'ENOMEM',
      'EINVAL',
      'EINVAL',
      'EINVAL',
      'ENOSPC',
      'ENOSPC',
      'EINVAL',
      'ENOTSUP',
      'EINVAL',
    ]
    const expected = [...common, 'EINVAL', 'EPERM', 'EPERM', 'EPERM', null]
    expect(await nbdsh(script)).toEqual([expected, expected, 'EOVERFLOW'])
    expect(server.statistics().clients).toBe(0)
  })

  test('sees structured reads chunk by chunk, and block status', async () => {
    const disk = new TestDisk({ size: 8 * MiB }).put(2 * MiB, pattern(MiB)).put(5 * MiB, pattern(MiB))
    disk.before = ({ kind, offset }) => {
      if (kind === 'read' && offset === 5 * MiB) throw new BlockDeviceError('EIO', 'a bad block')
    }
    const server = await serve(disk)
    const script = `
chunks = []
def chunk(data, offset, status, err):
    chunks.append([offset, len(data), {nbd.READ_DATA: 'data', nbd.READ_HOLE: 'hole', nbd.READ_ERROR: 'error'}[status]])
    return 0
h.pread_structured(4 << 20, 0, chunk)
show(sorted(chunks))
chunks.clear()
h.pread_structured(4 << 20, 0, chunk, nbd.CMD_FLAG_DF)
show(chunks)
chunks.clear()
show(error(lambda: h.pread_structured(8 << 20, 0, chunk)))
show(sorted(chunk for chunk in chunks if chunk[2] == 'error'))
extents = []
def extent(context, offset, entries, err):
    extents.append([context, offset, list(entries)])
    return 0
h.block_status(8 << 20, 0, extent)
h.block_status(8 << 20, 0, extent, nbd.CMD_FLAG_REQ_ONE)
show(extents)
h.zero(1 << 20, 2 << 20, nbd.CMD_FLAG_FUA)
h.cache(1 << 20, 0)
h.flush()
h.pwrite(b'hello', 7, nbd.CMD_FLAG_FUA)
show(h.pread(5, 7).decode())
show(h.is_zero() if hasattr(h, 'is_zero') else h.pread(1 << 20, 2 << 20) == bytearray(1 << 20))
`
    expect(await nbdsh(script, '--base-allocation', '-u', server.uri())).toEqual([
      [
        [0, 2 * MiB, 'hole'],
        [2 * MiB, MiB, 'data'],
        [3 * MiB, MiB, 'hole'],
      ],
      [[0, 4 * MiB, 'data']],
      'EIO',
      [[5 * MiB, 0, 'error']],
      [
        ['base:allocation', 0, [2 * MiB, 3, MiB, 0, 2 * MiB, 3, MiB, 0, 2 * MiB, 3]],
        ['base:allocation', 0, [2 * MiB, 3]],
      ],
      'hello',
      true,
    ])
  })
})

describeWith([needsNbdClient], 'nbd-client', () => {
  test('lists the exports', async () => {
    const exports = [
      { name: 'one', device: new TestDisk() },
      { name: 'two', device: new TestDisk() },
    ]
    const server = await serveNbd(exports, { listen: { port: 0 } })
    registerCleanup(() => server.close())
    const { port } = server.address as { port: number }
    const { stdout } = await client('nbd-client', '-l', '127.0.0.1', String(port))
    expect(stdout).toMatch(/^one$/m)
    expect(stdout).toMatch(/^two$/m)
  })
})
