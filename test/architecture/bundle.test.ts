/** The packages in a page: no polyfill, and no more bytes than before without somebody noticing. */
import { describe, expect, test } from 'vitest'
import { bundle } from './bundle.ts'

const connect =
  "export { connect, knownHostsPolicy, MemoryAgent, webSocketDuplex } from '@sshblock/transport'\n"

/** What a page imports, and the ceiling in bytes, gzipped. Raise it with a reason; lower it when something got smaller. */
const pages: [name: string, source: string, ceilingBytes: number][] = [
  ['an SSH session', connect, 83_000],
  ['an SFTP client', `${connect}export { SftpClient } from '@sshblock/sftp'`, 102_000],
  [
    'a block device',
    `${connect}export { SftpClient } from '@sshblock/sftp'\nexport * from '@sshblock/blockdev'`,
    // Of this about 10 000 for what outlives a lost connection: journal, striping, fences.
    148_000,
  ],
  [
    'everything, the servers too',
    "export * as a from '@sshblock/transport'\nexport * as b from '@sshblock/sftp'\nexport * as c from '@sshblock/blockdev'",
    182_000,
  ],
]

const kib = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`

describe('a page with', () => {
  test.each(pages)(
    '%s needs nothing of Node and stays below its ceiling',
    async (name, source, ceilingBytes) => {
      const { missing, gzipBytes, laterGzipBytes, bytes, parts } = await bundle(source)
      const largest = parts.slice(0, 6).map(([part, size]) => `${part} ${kib(size)}`)
      console.info(
        `${name}: ${kib(gzipBytes)} gzipped and ${kib(laterGzipBytes)} when needed, ${kib(bytes)} minified; before that ${largest.join(', ')}`,
      )
      expect(missing).toEqual([])
      expect(gzipBytes).toBeGreaterThan(20_000)
      expect(gzipBytes).toBeLessThan(ceilingBytes)
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
