import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { SftpBackend } from '../../../packages/sftp/src/backend.ts'
import { MemoryBackend } from '../../../packages/sftp/src/memory-backend.ts'
import {
  fileType,
  openFlag,
  packetType,
  replies,
  requests,
  statusName,
} from '../../../packages/sftp/src/messages/index.ts'
import { NodeBackend } from '../../../packages/sftp/src/node-backend.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { bytes, extended, type RawClient, type RawReply, text } from '../support/raw-client.ts'
import { served } from '../support/served.ts'

let umaskBefore: number
beforeAll(() => {
  umaskBefore = process.umask(0o022)
})
afterAll(() => {
  process.umask(umaskBefore)
})

/** A client with the handles it holds, by number. */
interface Actor {
  readonly client: RawClient
  readonly handles: Uint8Array[]
}

/** What a reply says that must not depend on the back end: no times, owners, sizes of directories. */
function told(reply: RawReply): unknown {
  switch (reply.type) {
    case packetType.status:
      return statusName(replies.status.decode(reply.payload).code)
    case packetType.data:
      return Buffer.from(replies.data.decode(reply.payload).data).toString('latin1')
    case packetType.attrs: {
      const { attrs } = replies.attrs.decode(reply.payload)
      return {
        permissions: attrs.permissions,
        size: fileType(attrs) === 'directory' ? undefined : attrs.size,
      }
    }
    case packetType.name:
      return replies.name.decode(reply.payload).names.map(({ filename, attrs }) => ({
        name: text(filename),
        permissions: attrs.permissions,
        size: fileType(attrs) === 'directory' ? undefined : attrs.size,
      }))
    default:
      return reply.type
  }
}

type Step = (actor: Actor) => Promise<unknown>

const name = fc.constantFrom('a', 'b', 'c', 'd')
const path = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => `/${parts.join('/')}`),
  },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.oneof(name, fc.constantFrom('..', '.')), { maxLength: 5 })
      .map((parts) => parts.join('/')),
  },
  { weight: 1, arbitrary: name.map((part) => `/${part}/.`) },
)
const target = fc.oneof(
  path,
  fc.constantFrom('a', '../b', './c', '/', '..', '/d/', 'a/b', '/a/../b', 'nowhere'),
)
const slot = fc.nat({ max: 4 })
const offset = fc.constantFrom(0, 1, 5, 100, 65_535, 65_536, 70_000)
const size = fc.constantFrom(0, 1, 3, 300, 65_537)
const permissions = fc.constantFrom(0o700, 0o755, 0o744, 0o1777)

function pick({ handles }: Actor, index: number): Uint8Array {
  return handles[index % Math.max(1, handles.length)] ?? bytes('none')
}

function described<T>(
  what: string,
  values: fc.Arbitrary<T>,
  run: (actor: Actor, values: T) => Promise<RawReply>,
) {
  return values.map((value) => {
    const step: Step & { toString(): string } = async (actor) => {
      const reply = await run(actor, value)
      if (reply.type === packetType.handle) actor.handles.push(replies.handle.decode(reply.payload).handle)
      return told(reply)
    }
    step.toString = () => `${what} ${JSON.stringify(value)}`
    return step
  })
}

const pflags = fc
  .tuple(
    fc.constantFrom(openFlag.read, openFlag.write, openFlag.read | openFlag.write),
    fc.subarray([openFlag.append, openFlag.creat, openFlag.trunc, openFlag.excl]),
  )
  // O_TRUNC without writing is unspecified by POSIX.
  .map(([mode, more]) =>
    more.filter((flag) => flag !== openFlag.trunc || mode !== openFlag.read).reduce((a, b) => a | b, mode),
  )

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: described('open', fc.record({ path, pflags, permissions }), ({ client }, v) =>
      client.ask(requests.open, {
        filename: bytes(v.path),
        pflags: v.pflags,
        attrs: { permissions: v.permissions },
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: described('close', slot, (actor, index) => {
      const handle = pick(actor, index)
      actor.handles.splice(index % Math.max(1, actor.handles.length), 1)
      return actor.client.ask(requests.close, { handle })
    }),
  },
  {
    weight: 4,
    arbitrary: described('write', fc.record({ slot, offset, length: size }), (actor, v) =>
      actor.client.ask(requests.write, {
        handle: pick(actor, v.slot),
        offset: v.offset,
        data: new Uint8Array(v.length).fill(65 + (v.offset % 26)),
      }),
    ),
  },
  {
    weight: 4,
    arbitrary: described('read', fc.record({ slot, offset, len: size }), (actor, v) =>
      actor.client.ask(requests.read, { handle: pick(actor, v.slot), offset: v.offset, len: v.len }),
    ),
  },
  {
    weight: 2,
    arbitrary: described('fstat', slot, (actor, index) =>
      actor.client.ask(requests.fstat, { handle: pick(actor, index) }),
    ),
  },
  {
    weight: 2,
    arbitrary: described('fsetstat', fc.record({ slot, size, permissions }), (actor, v) =>
      actor.client.ask(requests.fsetstat, {
        handle: pick(actor, v.slot),
        attrs: { size: v.size, permissions: v.permissions },
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: described('lstat', path, ({ client }, p) => client.ask(requests.lstat, { path: bytes(p) })),
  },
  {
    weight: 2,
    arbitrary: described('stat', path, ({ client }, p) => client.ask(requests.stat, { path: bytes(p) })),
  },
  {
    weight: 2,
    arbitrary: described('setstat', fc.record({ path, size, permissions }), ({ client }, v) =>
      client.ask(requests.setstat, {
        path: bytes(v.path),
        attrs: { size: v.size, permissions: v.permissions },
      }),
    ),
  },
  {
    weight: 4,
    arbitrary: described('mkdir', fc.record({ path, permissions }), ({ client }, v) =>
      client.ask(requests.mkdir, { path: bytes(v.path), attrs: { permissions: v.permissions } }),
    ),
  },
  {
    weight: 2,
    arbitrary: described('rmdir', path, ({ client }, p) => client.ask(requests.rmdir, { path: bytes(p) })),
  },
  {
    weight: 2,
    arbitrary: described('remove', path, ({ client }, p) =>
      client.ask(requests.remove, { filename: bytes(p) }),
    ),
  },
  {
    weight: 3,
    arbitrary: described('rename', fc.tuple(path, path), ({ client }, [from, to]) =>
      client.ask(requests.rename, { oldpath: bytes(from), newpath: bytes(to) }),
    ),
  },
  {
    weight: 3,
    arbitrary: described('posix-rename', fc.tuple(path, path), ({ client }, [from, to]) =>
      client.askExtended((writer, id) =>
        extended.posixRename.encode(writer, { id, oldpath: bytes(from), newpath: bytes(to) }),
      ),
    ),
  },
  {
    weight: 2,
    arbitrary: described('hardlink', fc.tuple(path, path), ({ client }, [from, to]) =>
      client.askExtended((writer, id) =>
        extended.hardlink.encode(writer, { id, oldpath: bytes(from), newpath: bytes(to) }),
      ),
    ),
  },
  {
    weight: 3,
    arbitrary: described('symlink', fc.record({ target, path }), ({ client }, v) =>
      client.ask(requests.symlink, { linkpath: bytes(v.target), targetpath: bytes(v.path) }),
    ),
  },
  {
    weight: 1,
    arbitrary: described('readlink', path, ({ client }, p) =>
      client.ask(requests.readlink, { path: bytes(p) }),
    ),
  },
  {
    weight: 2,
    arbitrary: described('realpath', path, ({ client }, p) =>
      client.ask(requests.realpath, { path: bytes(p) }),
    ),
  },
  {
    weight: 1,
    arbitrary: described('lsetstat', fc.record({ path, permissions }), ({ client }, v) =>
      client.askExtended((writer, id) =>
        extended.lsetstat.encode(writer, { id, path: bytes(v.path), attrs: { permissions: v.permissions } }),
      ),
    ),
  },
  {
    weight: 1,
    arbitrary: described(
      'copy-data',
      fc.record({ from: slot, to: slot, fromOffset: offset, toOffset: offset, length: size }),
      (actor, v) =>
        actor.client.askExtended((writer, id) =>
          extended.copyData.encode(writer, {
            id,
            readFromHandle: pick(actor, v.from),
            readFromOffset: v.fromOffset,
            readDataLength: v.length,
            writeToHandle: pick(actor, v.to),
            writeToOffset: v.toOffset,
          }),
        ),
    ),
  },
)

/** Every name below the root with what it is and holds. */
async function wholeTree(client: RawClient, path = '/'): Promise<unknown[]> {
  const entries = (await client.list(path)).map(({ filename, attrs }) => ({ name: text(filename), attrs }))
  const all: unknown[] = []
  for (const { name, attrs } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const at = `${path === '/' ? '' : path}/${name}`
    const type = fileType(attrs)
    all.push([at, attrs.permissions, type === 'directory' ? undefined : attrs.size])
    if (name === '.' || name === '..') continue
    if (type === 'directory') all.push(...(await wholeTree(client, at)))
    if (type === 'file') {
      const handle = await client.open(at, openFlag.read)
      const content = await client.read(handle, 0, 200_000)
      all.push(typeof content === 'number' ? content : Buffer.from(content).toString('latin1'))
      await client.code(requests.close, { handle })
    }
  }
  return all
}

async function actorOn(backend: SftpBackend): Promise<Actor> {
  const { client } = await served(backend)
  return { client, handles: [] }
}

async function sameHistory(steps: readonly Step[], backends: readonly SftpBackend[]): Promise<void> {
  const actors = await Promise.all(backends.map(actorOn))
  for (const step of steps) {
    const [first, ...others] = await Promise.all(actors.map(step))
    for (const other of others) expect(other, `answer to ${step}`).toEqual(first)
  }
  const [first, ...others] = await Promise.all(actors.map(({ client }) => wholeTree(client)))
  for (const other of others) expect(other, 'the tree at the end').toEqual(first)
  for (const { client } of actors) client.channel.close()
}

test('memory and disk answer any history of requests alike', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
      const disk = new NodeBackend({ root: tempDir('model', { mode: 0o755 }) })
      const checked = new NodeBackend({
        root: tempDir('model', { mode: 0o755 }),
        containment: 'checked',
        synchronousIo: true,
      })
      try {
        await sameHistory(steps, [new MemoryBackend(), disk, checked])
      } finally {
        disk.close()
        checked.close()
      }
    }),
    { numRuns: 60, endOnFailure: false },
  )
})
