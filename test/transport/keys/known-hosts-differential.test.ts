// Our reading of known_hosts against that of ssh-keygen -F (which lines are about a name) and ssh-keygen -l -F (which of them
// hold a key that ssh can use), on generated files. Every line is a case of its own, so files are long and programs few.
// SSHBLOCK_KNOWN_HOSTS_FILES sets the number of files; the default keeps the test short.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { KnownHosts } from '../../../packages/transport/src/keys/known-hosts.ts'
import {
  byteString,
  byteStringBytes,
  hashHostName,
} from '../../../packages/transport/src/keys/known-hosts-line.ts'
import { formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { run, runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { seeded } from '../crypto/providers.ts'
import { softwareToken } from './sk-key.ts'

const files = Number(process.env['SSHBLOCK_KNOWN_HOSTS_FILES'] ?? 12)
const linesPerFile = 150
const seed = process.env['SSHBLOCK_SEED'] ?? 'known_hosts'

const names = [
  'host.example.org',
  'other.example.org',
  'example.org',
  'h',
  '[host.example.org]:2222',
  '[::1]:2222',
  '::1',
  '10.0.0.1',
  'HOST.Example.Org',
  'hüst',
]

describeWith(
  [needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'known_hosts against ssh-keygen -F',
  () => {
    test(
      `${files} files of ${linesPerFile} lines: no line is read differently`,
      async () => {
        const keys = await keyTexts()
        const random = generator(seed)
        const dir = tempDir('known-hosts')
        let matched = 0
        let usable = 0
        for (let i = 0; i < files; i++) {
          const content =
            Array.from({ length: linesPerFile }, () => randomLine(random, keys)).join('') +
            `last ${keys[0]}${random.pick(['', '\n'])}`
          const path = join(dir, `${i}`)
          writeFileSync(path, byteStringBytes(content))
          const knownHosts = KnownHosts.parse(byteStringBytes(content))
          expect(Buffer.from(knownHosts.bytes()).toString('latin1')).toBe(content)
          const asked = [...new Set([random.pick(names), random.pick(names), random.pick(names)])]
          const theirs = await ask(path, asked)
          for (const [at, name] of asked.entries()) {
            const ours = knownHosts
              .entriesFor(nodeCrypto, name)
              .map((entry) => `${entry.line} ${entry.marker ?? ''}`)
            const { usable: expected } = theirs[at]!
            const odd = [
              ...ours.filter((line) => !expected.includes(line)),
              ...expected.filter((line) => !ours.includes(line)),
            ]
            const shown = odd.map((line) =>
              JSON.stringify(content.split('\n')[Number.parseInt(line, 10) - 1]),
            )
            expect(odd, `lines about ${name} in file ${i} of seed ${seed}:\n${shown.join('\n')}`).toEqual([])
            matched += theirs[at]!.matched
            usable += theirs[at]!.usable.length
          }
        }
        // The generator is worth something only while it makes lines of both kinds.
        expect(usable).toBeGreaterThan(files * 5)
        expect(matched).toBeGreaterThan(usable)
      },
      20_000 + 2000 * files,
    )
  },
)

/** What ssh-keygen finds for each name: one shell for all, because starting programs is what costs. */
async function ask(path: string, asked: string[]): Promise<{ matched: number; usable: string[] }[]> {
  const script =
    'f=$1; shift; for n; do ssh-keygen -F "$n" -f "$f"; echo; echo %%; ssh-keygen -l -F "$n" -f "$f"; echo; echo %%; done'
  const { stdoutBytes } = await run('sh', ['-c', script, 'sh', path, ...asked], { env: { LC_ALL: 'C' } })
  const parts = Buffer.from(stdoutBytes).toString('latin1').split('\n%%\n')
  const found = (text: string) =>
    [...text.matchAll(/^# Host .* found: line (\d+) (CA|REVOKED)?/gm)].map(([, line, marker]) => {
      const ours = marker === undefined ? '' : marker === 'CA' ? 'cert-authority' : 'revoked'
      return `${line} ${ours}`
    })
  return asked.map((_, i) => ({ matched: found(parts[2 * i]!).length, usable: found(parts[2 * i + 1]!) }))
}

interface Generator {
  below(limit: number): number
  pick<T>(from: readonly T[]): T
  chance(percent: number): boolean
  bytes(length: number): Uint8Array
}

function generator(seed: string): Generator {
  const source = seeded(seed)
  const bytes = (length: number) => {
    const out = new Uint8Array(length)
    source(out)
    return out
  }
  const below = (limit: number) => new DataView(bytes(4).buffer).getUint32(0) % limit
  return {
    below,
    bytes,
    pick: (from) => from[below(from.length)]!,
    chance: (percent) => below(100) < percent,
  }
}

/** 'type base64' of every kind of key that ssh-keygen can make here, and of certificates. */
async function keyTexts(): Promise<string[]> {
  const dir = tempDir('keys')
  const texts: string[] = []
  for (const [type, bits] of [
    ['ed25519'],
    ['ecdsa', 256],
    ['ecdsa', 384],
    ['ecdsa', 521],
    ['rsa', 2048],
    ['rsa', 1024],
    ['dsa'],
  ] as const) {
    const file = join(dir, `${type}${bits ?? ''}`)
    await runOrThrow('ssh-keygen', [
      '-q',
      '-t',
      type,
      ...(bits === undefined ? [] : ['-b', `${bits}`]),
      '-N',
      '',
      '-C',
      '',
      '-f',
      file,
    ])
    texts.push(await line(`${file}.pub`))
  }
  for (const type of ['ed25519', 'rsa2048', 'ecdsa256']) {
    await runOrThrow('ssh-keygen', [
      '-q',
      '-s',
      join(dir, 'ed25519'),
      '-I',
      'id',
      '-h',
      '-n',
      'host.example.org',
      join(dir, `${type}.pub`),
    ])
    texts.push(await line(join(dir, `${type}-cert.pub`)))
  }
  for (const type of ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'] as const) {
    texts.push(formatPublicKey(softwareToken(type).publicKey))
  }
  texts.push(formatPublicKey(generateKeyPair(nodeCrypto, 'ed25519', systemRandom).publicKey))
  return texts
}

async function line(path: string): Promise<string> {
  return (await runOrThrow('cat', [path])).stdout.trim().split(' ').slice(0, 2).join(' ')
}

function randomLine(random: Generator, keys: string[]): string {
  const blank = () => (random.chance(90) ? ' ' : random.pick(['\t', '  ', ' \t ', '\t\t']))
  const end = random.chance(90) ? '\n' : random.pick(['\r\n', ' \n', '\t\n', '\r\r\n'])
  if (random.chance(3))
    return (
      random.pick([
        '',
        ' ',
        '\t',
        '#',
        ' # comment',
        '#host ssh-ed25519 AAAA',
        '\r',
        '\0',
        '@',
        '|',
        '|1|',
        '\x0b',
      ]) + end
    )
  const lead = random.chance(95) ? '' : random.pick([' ', '\t', '  \t'])
  const marker = random.chance(80)
    ? ''
    : random.pick([
        '@cert-authority ',
        '@revoked ',
        '@revoked  ',
        '@revoked\t',
        '@cert-authority\t ',
        '@revoked @revoked ',
        '@cert-authority @revoked ',
        '@bogus ',
        '@ ',
        '@',
        '@Revoked ',
        '@revoked',
        ' @revoked ',
        `@${'x'.repeat(31)} `,
        `@${'x'.repeat(32)} `,
      ])
  const parts = [lead + marker + randomHosts(random), randomKey(random, keys)]
  if (random.chance(30))
    parts.push(random.pick(['comment', 'two words', '#', '# x', '@revoked', '\xff', 'a\0b']))
  let text = parts[0]!
  for (const part of parts.slice(1)) text += blank() + part
  if (random.chance(3)) text = text.slice(0, random.below(text.length))
  if (random.chance(2)) text = text.replace(' ', random.pick(['\r', '\x0b', '\xa0', '  ']))
  return text.replaceAll('\n', '') + end
}

function randomHosts(random: Generator): string {
  if (random.chance(30)) return randomHash(random)
  const count = random.chance(60) ? 1 : 1 + random.below(4)
  const list = Array.from({ length: count }, () => {
    const name = byteString(random.pick(names))
    const pattern = random.chance(50)
      ? name
      : random.pick([
          '*',
          '*.example.org',
          '*.org',
          'h*',
          '?',
          '*.EXAMPLE.org',
          '[*]:2222',
          '[*',
          '*:*',
          'host.example.or?',
          '',
          'x'.repeat(1022),
          'x'.repeat(1023),
          'x'.repeat(2000),
          '\xff*',
          'h?st',
          'h??st',
          '**',
          '*?*',
        ])
    return (random.chance(15) ? '!' : '') + pattern
  })
  return list.join(random.chance(95) ? ',' : random.pick([',,', ', ', ';']))
}

function randomHash(random: Generator): string {
  const hashed = hashHostName(nodeCrypto, byteString(random.pick(names)), random.bytes(20))
  if (random.chance(75)) return hashed
  const [, , salt, hash] = hashed.split('|')
  return random.pick([
    `|1|${salt}|${hash}|`,
    `|1|${salt}|${hash!.slice(0, -1)}`,
    `|1|${salt}|${hash!.replace(/=+$/, '')}`,
    `|1|${salt!.replace(/=+$/, '')}|${hash}`,
    `|2|${salt}|${hash}`,
    `|1|${hash}|${salt}`,
    `|1||${hash}`,
    `|1|${salt}`,
    `|1|${salt}\r|${hash}`,
    `|1|${salt!.slice(4)}|${hash}`,
    `|1|AAAA${salt}|${hash}`,
    `|1|${'A'.repeat(1400)}|${hash}`,
    `${hashed},host.example.org`,
    `host.example.org,${hashed}`,
    `!${hashed}`,
    hashed.toLowerCase(),
  ])
}

function randomKey(random: Generator, keys: string[]): string {
  const text = random.pick(keys)
  if (random.chance(65)) return text
  const [type, base64] = text.split(' ') as [string, string]
  return random.pick([
    type,
    `${type} `,
    '',
    '#',
    `# ${text}`,
    base64,
    `${type}\t${base64}`,
    `${type} \t ${base64}`,
    `${random.pick(keys).split(' ')[0]} ${base64}`,
    `${type.toUpperCase()} ${base64}`,
    `${type} ${base64.slice(0, -1)}`,
    `${type} ${base64.slice(0, -4)}`,
    `${type} ${base64}=`,
    `${type} ${base64}AAAA`,
    `${type} ${base64.replace(/=+$/, '')}`,
    `${type} ${base64.slice(0, 8)}\r${base64.slice(8)}`,
    `${type} ${base64.slice(0, 8)}\x0b${base64.slice(8)}`,
    `${type} ${base64.slice(0, 8)}-${base64.slice(8)}`,
    `${type} AAAA`,
    `${type} =`,
    `rsa-sha2-512 ${base64}`,
    `rsa-sha2-256 ${base64}`,
    `rsa-sha2-512-cert-v01@openssh.com ${base64}`,
    `webauthn-sk-ecdsa-sha2-nistp256@openssh.com ${base64}`,
    `ED25519 ${base64}`,
    `ssh-unknown ${base64}`,
    '1024 35 123456789012345678901234567890',
    `"${type}" ${base64}`,
  ])
}
