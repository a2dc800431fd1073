/** The packages in a page: no polyfill, and no more bytes than before without somebody noticing. */
import { describe, expect, test } from 'vitest'
import { bundle } from './bundle.ts'

/**
 * A page's script that uses these names. It exports nothing, as the script of a page does: an entry that exports keeps what
 * it shares with chunks in chunks of their own, and more bytes.
 */
function page(imports: Readonly<Record<string, readonly string[] | '*'>>): string {
  const lines = Object.entries(imports).map(([from, names], index) =>
    names === '*'
      ? `import * as all${index} from '${from}'\nglobalThis.all${index} = all${index}`
      : `import { ${names.join(', ')} } from '${from}'\nglobalThis.some${index} = { ${names.join(', ')} }`,
  )
  return lines.join('\n')
}

/** Whoever it lets in: by password or by a key file, at a host of known_hosts. */
const transport = [
  'connect',
  'knownHostsPolicy',
  'parsePrivateKey',
  'signerFromPrivateKey',
  'webSocketDuplex',
] as const
const connect = { '@sshblock/transport': transport }
const sftp = { ...connect, '@sshblock/sftp': ['SftpClient'] }

/**
 * What a session fetches that logs in with an ed25519 key file at a server of today, where WebCrypto has X25519, Ed25519 and
 * ML-KEM. With a password nothing is fetched.
 */
const login = ['pem', 'openssh-key-file']
/** What it fetches besides where WebCrypto has no ML-KEM. */
const mlkem = 'ml-kem'

interface Page {
  readonly source: string
  /** Most bytes that are loaded with the page, gzipped. */
  readonly ceilingBytes: number
  /** What a common session fetches, and the most bytes of that and the page together. */
  readonly session?: { readonly modules: readonly string[]; readonly ceilingBytes: number }
}

/** Raise a ceiling with a reason; lower it when something got smaller. */
const pages: readonly (readonly [name: string, page: Page])[] = [
  [
    'an SSH session',
    { source: page(connect), ceilingBytes: 48_200, session: { modules: login, ceilingBytes: 51_600 } },
  ],
  [
    'an SFTP client',
    {
      source: page(sftp),
      ceilingBytes: 61_900,
      // A transfer, a tree or a pattern.
      session: { modules: [...login, 'bulk'], ceilingBytes: 70_700 },
    },
  ],
  [
    'a block device',
    {
      source: page({ ...sftp, '@sshblock/blockdev': ['openBlockDevice', 'createBlockDevice'] }),
      ceilingBytes: 69_000,
      // Of this about 10 000 for what outlives a lost connection: journal, striping, fences.
      session: { modules: [...login, 'sftp-connector-device'], ceilingBytes: 98_200 },
    },
  ],
  [
    'all of blockdev',
    {
      source: page({ ...sftp, '@sshblock/blockdev': '*' }),
      ceilingBytes: 97_200,
      session: { modules: login, ceilingBytes: 100_700 },
    },
  ],
  [
    'everything, the servers too',
    {
      source: page({ '@sshblock/transport': '*', '@sshblock/sftp': '*', '@sshblock/blockdev': '*' }),
      ceilingBytes: 142_500,
    },
  ],
]

const kib = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`

describe('a page with', () => {
  test.each(pages)(
    '%s needs nothing of Node and stays below its ceiling',
    async (name, { source, ceilingBytes, session }) => {
      const { missing, gzipBytes, laterGzipBytes, bytes, parts, gzipBytesWith } = await bundle(source)
      const sessionBytes = session === undefined ? undefined : gzipBytesWith(session.modules)
      const common =
        session === undefined || sessionBytes === undefined
          ? ''
          : `${kib(sessionBytes)} with what a common session fetches, ${kib(gzipBytesWith([...session.modules, mlkem]))} with ML-KEM, `
      const largest = parts.slice(0, 6).map(([part, size]) => `${part} ${kib(size)}`)
      console.info(
        `${name}: ${kib(gzipBytes)} gzipped, ${common}${kib(gzipBytes + laterGzipBytes)} in all, ${kib(bytes)} minified; before that ${largest.join(', ')}`,
      )
      expect(missing).toEqual([])
      expect(gzipBytes).toBeGreaterThan(20_000)
      expect(gzipBytes).toBeLessThan(ceilingBytes)
      if (session !== undefined) expect(sessionBytes).toBeLessThan(session.ceilingBytes)
    },
  )

  test('a block device fetches it with its opening, and with nothing else', async () => {
    const [, { source }] = pages.find(([name]) => name === 'a block device')!
    const { gzipBytes, gzipBytesWith } = await bundle(source)
    expect(gzipBytesWith(['sftp-connector-device']) - gzipBytes).toBeGreaterThan(20_000)
  })

  test.each([
    ["import { readFile } from 'node:fs'; export { readFile }", ['node:fs']],
    ["export const later = () => import('node:net')", ['node:net']],
    ['export const a = Buffer.from([1])', ['Buffer']],
    ["export const a = () => process.env['HOME']", ['process']],
    ['export const a = (name) => require(name)', ['require']],
    ['export const a = () => setImmediate(() => {})', ['setImmediate']],
    ['class A { process(x) { return x } }\nexport const a = new A().process(1)', []],
  ])('%j is told to miss %j', async (source, missing) => {
    expect((await bundle(source)).missing).toEqual(missing)
  })
})
