import { describe, expect, test } from 'vitest'
import { checkArchitecture, type Manifest, reachedFrom, type Violation } from './rules.ts'
import { factsOf } from './source-facts.ts'
import { manifests, sourceFiles } from './workspace.ts'

const tree = sourceFiles()

const show = ({ path, rule, detail }: Violation): string => `${path}: ${rule}: ${detail}`

describe('the packages', () => {
  test('hold every rule of the architecture', () => {
    expect(tree.length).toBeGreaterThan(20)
    expect(checkArchitecture(tree, manifests()).map(show)).toEqual([])
  })

  const neutral = tree.filter(({ path }) => /\/src\/(browser|wire|errors|byte-channel)\.ts$/.test(path))
  test.each(neutral.map(({ path }) => path))('reach nothing of Node from %s', (path) => {
    expect([...reachedFrom(path, tree)].filter((name) => name.startsWith('node:'))).toEqual([])
  })
})

const packages: Manifest[] = [
  { folder: 'transport', name: '@sshblock/transport', dependencies: ['@noble/ciphers'], commands: [] },
  {
    folder: 'sftp',
    name: '@sshblock/sftp',
    dependencies: ['@sshblock/transport', '@sshblock/blockdev'],
    commands: ['packages/sftp/src/command.ts'],
  },
  {
    folder: 'blockdev',
    name: '@sshblock/blockdev',
    dependencies: ['@sshblock/transport', '@sshblock/sftp'],
    commands: [],
  },
  {
    folder: 'nbd',
    name: '@sshblock/nbd',
    dependencies: ['@sshblock/blockdev', '@sshblock/transport'],
    commands: [],
  },
]

/** The rules that a file breaks. */
function broken(path: string, source: string): string[] {
  return checkArchitecture([{ path: `packages/${path}`, source }], packages).map(({ rule }) => rule)
}

describe('the checker', () => {
  test.each([
    ['transport/src/wire/reader.ts', "import { x } from '../errors.ts'", 'reversed arrow'],
    ['transport/src/wire/reader.ts', "import type { X } from '../messages/kex.ts'", 'reversed arrow'],
    ['transport/src/errors.ts', "export * from './messages/kex.ts'", 'reversed arrow'],
    ['transport/src/messages/kex.ts', "export { a } from '../packet/outbox.ts'", 'reversed arrow'],
    ['transport/src/packet/inbound.ts', "import '../keys/public-key.ts'", 'reversed arrow'],
    ['transport/src/keys/signer.ts', "const k = await import('../kex/method.ts')", 'reversed arrow'],
    ['transport/src/connection/mux.ts', "let k: import('../core/phase.ts').Phase", 'reversed arrow'],
    ['transport/src/kex/method.ts', "import { a } from '../auth/methods.ts'", 'reversed arrow'],
    ['transport/src/core/phase.ts', "import { a } from '../session/pump.ts'", 'reversed arrow'],
    ['transport/src/session/pump.ts', "import { a } from '../index.ts'", 'reversed arrow'],
    ['transport/src/crypto/provider.ts', "import { a } from './big-integer.ts'", 'reversed arrow'],
    ['sftp/src/messages/requests.ts', "import { a } from '../errors.ts'", 'reversed arrow'],
    ['sftp/src/core/pending.ts', "import { a } from '../client.ts'", 'reversed arrow'],
    ['blockdev/src/layers/range-lock.ts', "import { a } from '../memory-device.ts'", 'reversed arrow'],
    ['transport/src/novelty/a.ts', '', 'unknown folder'],
    ['transport/src/novelty.ts', '', 'unknown folder'],
    ['novelty/src/a.ts', '', 'unknown package'],
    ['sftp/src/client.ts', "import { a } from '../../transport/src/errors.ts'", 'leaves the package'],
    ['sftp/src/client.ts', "import { a } from '@sshblock/transport'", 'package arrow'],
    ['sftp/src/client.ts', "import { a } from '@sshblock/blockdev'", 'package arrow'],
    ['blockdev/src/file-device.ts', "import { a } from '@sshblock/sftp'", 'package arrow'],
    ['blockdev/src/file-device.ts', "import { a } from '@sshblock/transport'", 'package arrow'],
    ['blockdev/src/sftp-device.ts', "import { a } from '@sshblock/transport'", 'package arrow'],
    ['nbd/src/server.ts', "import { a } from '@sshblock/transport'", 'package arrow'],
    ['transport/src/packet/inbound.ts', "import { a } from 'left-pad'", 'undeclared dependency'],
    ['transport/src/packet/inbound.ts', "import { a } from '@noble/hashes/sha2.js'", 'undeclared dependency'],
    ['transport/src/packet/inbound.ts', "import { a } from 'node:crypto'", 'node import'],
    ['transport/src/session/websocket.ts', "import { a } from 'node:net'", 'node import'],
    ['transport/src/session/client.ts', "import { a } from './tcp.ts'", 'node file in neutral code'],
    ['transport/src/index.ts', "export * from './crypto/node.ts'", 'node file in neutral code'],
    ['transport/src/session/client.ts', "import { webCrypto } from '../crypto/web.ts'", 'provider'],
    ['transport/src/packet/inbound.ts', 'const a = Buffer.alloc(3)', 'node global'],
    ['transport/src/packet/inbound.ts', 'let a: Buffer', 'node global'],
    ['transport/src/packet/inbound.ts', 'let a: NodeJS.Timeout', 'node global'],
    ['transport/src/packet/inbound.ts', 'const a = globalThis.process', 'node global'],
    ['transport/src/packet/inbound.ts', 'const a = { process }', 'node global'],
    ['transport/src/packet/inbound.ts', 'setImmediate(() => {})', 'node global'],
    ['transport/src/packet/inbound.ts', "const a = require('fs')", 'node global'],
    ['transport/src/crypto/random.ts', 'crypto.subtle.digest()', 'subtle'],
    ['transport/src/crypto/random.ts', 'globalThis.crypto.subtle', 'subtle'],
    ['transport/src/crypto/random.ts', 'const { subtle } = crypto', 'subtle'],
    ['transport/src/packet/outbound.ts', 'const padding = Math.random()', 'random'],
    ['transport/src/packet/outbound.ts', "const padding = Math['random']()", 'random'],
    ['transport/src/messages/numbers.ts', 'enum Message { a }', 'erasable'],
    ['transport/src/messages/numbers.ts', 'namespace Message { export const a = 1 }', 'erasable'],
    ['transport/src/messages/numbers.ts', 'class A { constructor(private a: number) {} }', 'erasable'],
    ['transport/src/messages/numbers.ts', "eval('1')", 'eval'],
    ['transport/src/messages/numbers.ts', "new Function('1')", 'eval'],
  ])('reports in %s: %s', (path, source, rule) => {
    expect(broken(path, source)).toEqual([rule])
  })

  test.each([
    ['transport/src/wire/reader.ts', "import { a } from './bytes.ts'"],
    ['transport/src/errors.ts', "import { a } from './safe-text.ts'; import { b } from './wire/reader.ts'"],
    ['transport/src/connection/mux.ts', "import type { a } from '../packet/packet-sink.ts'"],
    [
      'transport/src/core/phase.ts',
      "import { a } from '../auth/methods.ts'; import { b } from '../wire/reader.ts'",
    ],
    [
      'transport/src/node.ts',
      "export * from './index.ts'; export * from './session/tcp.ts'; export * from './crypto/node.ts'",
    ],
    ['transport/src/browser.ts', "export * from './index.ts'; export { a } from './crypto/web.ts'"],
    [
      'transport/src/session/tcp.ts',
      "import { a } from 'node:net'; const b = Buffer.alloc(1); process.exit()",
    ],
    ['transport/src/crypto/node-ciphers.ts', "import { a } from 'node:crypto'"],
    ['transport/src/crypto/web.ts', 'crypto.subtle.digest()'],
    ['transport/src/crypto/noble-ciphers.ts', "import { a } from '@noble/ciphers/aes.js'"],
    [
      'sftp/src/client.ts',
      "import { a } from '@sshblock/transport/errors'; import { b } from '@sshblock/transport/wire'",
    ],
    [
      'sftp/src/node-pipe.ts',
      "import { a } from '@sshblock/transport'; import { b } from 'node:child_process'",
    ],
    ['sftp/src/browser.ts', "import { a } from '@sshblock/transport'"],
    [
      'sftp/src/command.ts',
      "import { a } from './node-stdio.ts'; import { b } from 'node:fs'; process.exit(1)",
    ],
    [
      'blockdev/src/ssh-connector.ts',
      "import { a } from '@sshblock/transport'; import { b } from '@sshblock/sftp'",
    ],
    ['blockdev/src/sftp-device.ts', "import { b } from '@sshblock/sftp'"],
    [
      'blockdev/src/node.ts',
      "import { a } from '@sshblock/transport/node'; import { b } from '@sshblock/sftp/node'",
    ],
    ['nbd/src/server.ts', "import { a } from 'node:net'; import { b } from '@sshblock/blockdev'"],
    // Names that are not what they look like.
    ['transport/src/packet/inbound.ts', 'function f(process: number) { return process }'],
    ['transport/src/packet/inbound.ts', 'const o = { process: 1, require() {} }; o.process; o?.require'],
    [
      'transport/src/packet/inbound.ts',
      'const s = \'Buffer Math.random() import x from "node:fs"\' // process, enum',
    ],
    ['transport/src/packet/inbound.ts', 'interface A { module: string; process(buffer: Uint8Array): void }'],
    ['transport/src/packet/inbound.ts', 'class A { process() { return this.global }\n global = 1 }'],
    ['transport/src/packet/inbound.ts', 'type F = (process: number) => void'],
    ['transport/src/packet/inbound.ts', 'const re = /import x from "node:fs"/; const t = `process`'],
    ['transport/src/crypto/package.d.ts', "declare module 'x' { export const a: number }"],
  ])('has nothing to say about %s: %s', (path, source) => {
    expect(broken(path, source)).toEqual([])
  })

  test('reads every form of import once', () => {
    const source = [
      "import a, { b } from './1.ts'",
      "import * as c from './2.ts'",
      "import './3.ts'",
      "export * from './4.ts'",
      "export * as d from './5.ts'",
      "export { e } from './6.ts'",
      "const f = await import('./7.ts')",
      "type G = typeof import('./8.ts')",
      "import type H from './9.ts'",
      "import { type I } from './1.ts'",
    ].join('\n')
    const expected = Array.from({ length: 9 }, (_, i) => `./${i + 1}.ts`)
    expect([...factsOf({ path: 'x.ts', source }).imports].sort()).toEqual(expected)
  })

  test('names the file whose syntax is wrong', () => {
    expect(() => broken('transport/src/wire/reader.ts', 'const = 1')).toThrow(
      'packages/transport/src/wire/reader.ts',
    )
  })

  test('follows imports of imports', () => {
    const files = [
      { path: 'packages/a/src/browser.ts', source: "import './b/c.ts'" },
      { path: 'packages/a/src/b/c.ts', source: "import '../d.ts'" },
      { path: 'packages/a/src/d.ts', source: "import 'node:fs'; import './browser.ts'" },
      { path: 'packages/a/src/e.ts', source: "import 'node:net'" },
    ]
    expect([...reachedFrom('packages/a/src/browser.ts', files)]).toEqual(['node:fs'])
  })
})
