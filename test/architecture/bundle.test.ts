/** The packages in a page: no polyfill, and no more bytes than before without somebody noticing. */
import { describe, expect, test } from 'vitest'
import { bundle } from './bundle.ts'

/** Whoever it lets in: by password or by a key file, at a host of known_hosts. */
const connect =
  "export { connect, knownHostsPolicy, parsePrivateKey, signerFromPrivateKey, webSocketDuplex } from '@sshblock/transport'\n"

/**
 * What a session fetches that logs in with an ed25519 key file at a server of today, where the browser has WebCrypto with
 * X25519 and Ed25519. With a password nothing is fetched but ML-KEM, at an older server nothing at all.
 */
const commonSession = ['ml-kem', 'pem', 'openssh-key-file']

/**
 * What a page imports, and the ceilings in bytes, gzipped: of what is loaded with the page, and of that together with what a
 * common session fetches. Raise one with a reason; lower it when something got smaller.
 */
const pages: [name: string, source: string, ceilingBytes: number, sessionCeilingBytes: number | undefined][] =
  [
    ['an SSH session', connect, 53_000, 64_500],
    ['an SFTP client', `${connect}export { SftpClient } from '@sshblock/sftp'`, 70_500, 81_500],
    [
      'a block device',
      `${connect}export { SftpClient } from '@sshblock/sftp'\nexport * from '@sshblock/blockdev'`,
      // Of this about 10 000 for what outlives a lost connection: journal, striping, fences.
      102_500,
      113_500,
    ],
    [
      'everything, the servers too',
      "export * as a from '@sshblock/transport'\nexport * as b from '@sshblock/sftp'\nexport * as c from '@sshblock/blockdev'",
      149_000,
      undefined,
    ],
  ]

const kib = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`

describe('a page with', () => {
  test.each(pages)(
    '%s needs nothing of Node and stays below its ceiling',
    async (name, source, ceilingBytes, sessionCeilingBytes) => {
      const { missing, gzipBytes, laterGzipBytes, bytes, parts, gzipBytesWith } = await bundle(source)
      // A page with everything has the parts of a session in other chunks.
      const sessionBytes = sessionCeilingBytes === undefined ? gzipBytes : gzipBytesWith(commonSession)
      const largest = parts.slice(0, 6).map(([part, size]) => `${part} ${kib(size)}`)
      console.info(
        `${name}: ${kib(gzipBytes)} gzipped, ${kib(sessionBytes)} with what a common session fetches, ${kib(gzipBytes + laterGzipBytes)} in all, ${kib(bytes)} minified; before that ${largest.join(', ')}`,
      )
      expect(missing).toEqual([])
      expect(gzipBytes).toBeGreaterThan(20_000)
      expect(gzipBytes).toBeLessThan(ceilingBytes)
      if (sessionCeilingBytes !== undefined) expect(sessionBytes).toBeLessThan(sessionCeilingBytes)
    },
  )

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
