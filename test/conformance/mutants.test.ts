import { runSftpTrials, sftpChecks } from '@sshblock/sftp/conformance'
import { clientChecks, runTrials, serverChecks } from '@sshblock/transport/conformance'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { channelPair } from '../../packages/sftp/src/channel-pair.ts'

// Each mutant is our own server or client with one rule taken out of it; the checks named with it have to notice. The checks
// themselves run on modules that are not mutated: what is imported above was evaluated before.

type Module = Record<string, unknown>

const source = {
  frame: '../../packages/transport/src/packet/frame.ts',
  identification: '../../packages/transport/src/packet/identification.ts',
  phase: '../../packages/transport/src/core/phase.ts',
  negotiate: '../../packages/transport/src/kex/negotiate.ts',
  hostKey: '../../packages/transport/src/kex/host-key.ts',
  signature: '../../packages/transport/src/keys/signature.ts',
  nodeCrypto: '../../packages/transport/src/crypto/node.ts',
  window: '../../packages/transport/src/connection/window.ts',
  channel: '../../packages/transport/src/connection/channel.ts',
  inbound: '../../packages/transport/src/packet/inbound.ts',
  limits: '../../packages/transport/src/limits.ts',
  extensions: '../../packages/transport/src/core/extension-info.ts',
  statusOf: '../../packages/sftp/src/server/status-of.ts',
  handleTable: '../../packages/sftp/src/core/handle-table.ts',
  memoryBackend: '../../packages/sftp/src/memory-backend.ts',
} as const

function mutate(name: keyof typeof source, change: (original: Module) => Module): void {
  vi.doMock(source[name], async (importOriginal) => {
    const original = await importOriginal<Module>()
    return { ...original, ...change(original) }
  })
}

/** A class with one of its methods replaced. */
function withMethod(original: unknown, method: string, replacement: (...args: never[]) => unknown): unknown {
  const changed = class extends (original as new (...args: never[]) => object) {}
  Object.defineProperty(changed.prototype, method, { value: replacement })
  return changed
}

afterEach(() => {
  for (const path of Object.values(source)) vi.doUnmock(path)
  vi.resetModules()
})

/** The outcomes of these checks against what is made of the mutated modules. */
async function outcomes(side: 'server' | 'client' | 'sftp', ids: readonly string[]): Promise<string[]> {
  vi.resetModules()
  const only = (id: string): boolean => ids.includes(id)
  const patienceMs = 500
  if (side === 'sftp') {
    const { MemoryBackend, serveSftp } = await import('@sshblock/sftp')
    const backend = new MemoryBackend()
    const open = async () => {
      const [ours, theirs] = channelPair()
      serveSftp(ours, backend)
      return theirs
    }
    return (await runSftpTrials({ open, patienceMs }, sftpChecks, { only })).map(
      ({ id, outcome }) => `${id} ${outcome}`,
    )
  }
  const { ourClientTarget, ourServerTarget } = await import('./our-peers.ts')
  if (side === 'client') {
    const results = await runTrials({ ...(await ourClientTarget()), patienceMs }, clientChecks, { only })
    return results.map(({ id, outcome }) => `${id} ${outcome}`)
  }
  const { target, close } = await ourServerTarget()
  const results = await runTrials({ ...target, patienceMs }, serverChecks, { only })
  await close()
  return results.map(({ id, outcome }) => `${id} ${outcome}`)
}

interface Mutant {
  readonly without: string
  readonly side: 'server' | 'client' | 'sftp'
  readonly change: () => void
  /** The checks that have to fail. */
  readonly noticed: readonly string[]
}

type Verdict = (phase: unknown, message: number) => string

const mutants: readonly Mutant[] = [
  {
    without: 'the checks of packet_length',
    side: 'server',
    change: () => mutate('frame', () => ({ checkPacketLength: () => {} })),
    noticed: ['packets.length-huge', 'packets.length-negative'],
  },
  {
    without: 'the least padding',
    side: 'server',
    change: () =>
      mutate('frame', () => ({ payloadOf: (body: Uint8Array) => body.subarray(1, body.length - body[0]!) })),
    noticed: ['packets.padding-short'],
  },
  {
    without: 'the comparison of MACs',
    side: 'server',
    change: () =>
      mutate('nodeCrypto', ({ nodeCrypto }) => ({
        nodeCrypto: { ...(nodeCrypto as object), timingSafeEqual: () => true },
      })),
    noticed: ['integrity.tag-start', 'integrity.tag-end'],
  },
  {
    without: 'the refusal of points of low order',
    side: 'server',
    change: () =>
      mutate('nodeCrypto', (original) => {
        const nodeCrypto = original['nodeCrypto'] as {
          x25519(a: Uint8Array, b: Uint8Array): Uint8Array | undefined
        }
        const x25519 = (a: Uint8Array, b: Uint8Array) => nodeCrypto.x25519(a, b) ?? new Uint8Array(32)
        return { nodeCrypto: { ...nodeCrypto, x25519 } }
      }),
    noticed: ['kex.values-curve25519'],
  },
  {
    without: 'violations of the phase',
    side: 'server',
    change: () =>
      mutate('phase', (original) => ({
        verdict: (phase: unknown, message: number) => {
          const verdict = (original['verdict'] as Verdict)(phase, message)
          return verdict === 'violation' ? 'ignore' : verdict
        },
      })),
    noticed: ['strict.before-newkeys', 'gate.service', 'gate.auth', 'gate.connection-early'],
  },
  {
    without: 'violations of the phase',
    side: 'client',
    change: () =>
      mutate('phase', (original) => ({
        verdict: (phase: unknown, message: number) => {
          const verdict = (original['verdict'] as Verdict)(phase, message)
          return verdict === 'violation' ? 'ignore' : verdict
        },
      })),
    noticed: ['strict.before-method', 'gate.connection'],
  },
  {
    without: 'answers to unknown messages',
    side: 'server',
    change: () =>
      mutate('phase', (original) => ({
        verdict: (phase: unknown, message: number) => {
          const verdict = (original['verdict'] as Verdict)(phase, message)
          return verdict === 'unimplemented' ? 'ignore' : verdict
        },
      })),
    noticed: ['gate.service-unknown', 'gate.auth-unknown', 'gate.connection-unknown'],
  },
  {
    without: 'the dropping of wrong guesses',
    side: 'server',
    change: () =>
      mutate('negotiate', (original) => ({
        negotiate: (...args: unknown[]) => ({
          ...(original['negotiate'] as (...args: unknown[]) => object)(...args),
          dropGuess: false,
        }),
      })),
    noticed: ['guess.wrong-kex', 'guess.wrong-host-key', 'rekey.guess'],
  },
  {
    without: 'the verification of the host key',
    side: 'client',
    change: () => mutate('hostKey', () => ({ verifyHostKeySignature: () => true })),
    noticed: ['kex.signature', 'kex.signature-other-data'],
  },
  {
    without: "the verification of users' signatures",
    side: 'server',
    change: () => mutate('signature', () => ({ verifySignature: () => true })),
    noticed: ['auth.signature', 'auth.signature-session'],
  },
  {
    without: 'the count of received data against the window',
    side: 'server',
    change: () =>
      mutate('window', ({ ReceiveWindow }) => ({
        ReceiveWindow: withMethod(
          ReceiveWindow,
          'receive',
          function (this: { unconsumed: number }, count: number) {
            this.unconsumed += count
          },
        ),
      })),
    noticed: ['window.exceeded'],
  },
  {
    without: 'the count of adjusts',
    side: 'server',
    change: () =>
      mutate('window', ({ SendWindow }) => ({
        SendWindow: withMethod(SendWindow, 'adjust', function (this: { available: number }, count: number) {
          this.available = (this.available + count) % 2 ** 32
        }),
      })),
    noticed: ['window.overflow'],
  },
  {
    without: 'the limit of data in a packet',
    side: 'server',
    change: () =>
      mutate('channel', ({ Channel }) => ({
        Channel: withMethod(
          Channel,
          'accept',
          function (this: { receiveWindow: { receive(n: number): void } }, n: number) {
            this.receiveWindow.receive(n)
          },
        ),
      })),
    noticed: ['window.packet-exceeded'],
  },
  ...(['server', 'client'] as const).map((side) => ({
    without: 'a window for what it sends',
    side,
    change: () =>
      mutate('channel', ({ Channel }) => ({
        Channel: class extends (Channel as new (...args: never[]) => { opened(...args: number[]): void }) {
          override opened(remoteId: number, _window: number, _maxPacket: number): void {
            super.opened(remoteId, 1_000_000, 32_768)
          }
        },
      })),
    noticed: ['window.zero', 'window.respected', 'window.max-packet'],
  })),
  {
    without: 'new counts behind NEWKEYS',
    side: 'server',
    change: () =>
      mutate('inbound', ({ Inbound }) => ({
        Inbound: class extends (Inbound as new (
          ...args: never[]
        ) => { activate(opener: unknown, reset: boolean): void }) {
          override activate(opener: unknown, _reset: boolean): void {
            super.activate(opener, false)
          }
        },
      })),
    noticed: ['strict.sequence'],
  },
  {
    without: 'rules about the identification line',
    side: 'server',
    change: () =>
      mutate('identification', () => ({
        IdentificationReader: class {
          read(buffer: {
            bytes: Uint8Array
            start: number
            end: number
            take(n: number): Uint8Array
          }): string | undefined {
            for (;;) {
              const at = buffer.bytes.subarray(buffer.start, buffer.end).indexOf(10)
              if (at < 0) return undefined
              const line = new TextDecoder().decode(buffer.take(at + 1)).trimEnd()
              if (line.startsWith('SSH-')) return line
            }
          }
        },
      })),
    noticed: [
      'identification.too-long',
      'identification.version-1',
      'identification.nul',
      'identification.endless',
      'identification.not-ssh',
      'identification.line-before',
    ],
  },
  {
    without: 'bounds before authentication',
    side: 'server',
    change: () => mutate('limits', () => ({ preAuthPackets: 10 ** 9, preAuthBytes: 10 ** 12 })),
    noticed: ['limits.pre-auth-packets', 'limits.pre-auth-bytes'],
  },
  {
    without: 'a bound on the count in EXT_INFO',
    side: 'server',
    change: () => mutate('extensions', () => ({ readExtensions: () => new Map() })),
    noticed: ['ext-info.count'],
  },
  {
    without: 'statuses of their own for missing files',
    side: 'sftp',
    change: () => mutate('statusOf', () => ({ statusOf: () => ({ code: 4, message: '' }) })),
    noticed: ['sftp.missing'],
  },
  {
    without: 'the difference between RENAME and posix-rename',
    side: 'sftp',
    change: () =>
      mutate('memoryBackend', ({ MemoryBackend }) => ({
        MemoryBackend: withMethod(
          MemoryBackend,
          'rename',
          function (this: { posixRename(a: string, b: string): unknown }, from: string, to: string) {
            return this.posixRename(from, to)
          },
        ),
      })),
    noticed: ['sftp.rename-onto'],
  },
]

describe('the checks notice', () => {
  const named = mutants.map((mutant) => [`a ${mutant.side} without ${mutant.without}`, mutant] as const)
  test.each(named)('%s', async (_name, { side, change, noticed }) => {
    change()
    expect((await outcomes(side, noticed)).sort()).toEqual(noticed.map((id) => `${id} fail`).sort())
  })
})
