/** SSH and SFTP in Chromium: keys, trust and cryptography in the page, the relay sees ciphertext. */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { type OurServer, startOurServer, writeNoise } from '../support/our-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { noiseDigest, PieceDigest } from './page/noise.ts'
import { needsChromium, type RunningChromium, startChromium } from './support/chromium.ts'
import { connectionTo } from './support/connections.ts'
import { type PageServer, startPageServer } from './support/page-server.ts'
import { outcome, run, runInWorker } from './support/run-scenario.ts'

const mebibyte = 1024 * 1024
/** SSHBLOCK_BROWSER_MIB=256 for the long run. */
const transferBytes = Number(process.env['SSHBLOCK_BROWSER_MIB'] ?? 16) * mebibyte + 12_345

const digest = async (bytes: Uint8Array): Promise<ArrayBuffer> =>
  new Uint8Array(createHash('sha256').update(bytes).digest()).buffer

async function fileDigest(path: string): Promise<string> {
  const all = new PieceDigest(digest)
  all.add(readFileSync(path))
  return all.hex()
}

let chromium: RunningChromium
let server: PageServer
let page: Page

describeWith([needsChromium()], 'a page in Chromium', () => {
  let our: OurServer
  beforeAll(async () => {
    ;[chromium, server, our] = await Promise.all([
      startChromium(),
      startPageServer({ scope: 'file' }),
      startOurServer({ scope: 'file' }),
    ])
    page = await chromium.visit(server.url)
  })

  describeWith([needsOpenssh()], 'with OpenSSH behind the bridge', () => {
    let openssh: OpensshPeer
    beforeAll(async () => {
      openssh = await startOpensshServer({ scope: 'file' })
    })

    it('logs in with the post-quantum key exchange and AES-GCM of WebCrypto', async () => {
      const report = await run(page, 'logIn', await connectionTo(openssh))
      expect(report).toMatchObject({ secureContext: true, inWorker: false, method: 'publickey' })
      expect(report.cipher).toBe('aes256-gcm@openssh.com')
      expect(report.hostKey).toBe(openssh.hostKeys[0]?.fingerprint)
    })

    it('fetches no curves and ciphers of noble for an ed25519 key, and the curves for an ECDSA key', async () => {
      const fresh = await chromium.visit(server.url)
      const fetchedScripts = async (): Promise<string> => {
        const urls: string[] = await fresh.evaluate(() =>
          performance.getEntriesByType('resource').map(({ name }) => name),
        )
        return urls.join(' ')
      }
      const report = await run(fresh, 'logIn', await connectionTo(openssh))
      expect(report.cipher).toBe('aes256-gcm@openssh.com')
      expect(await fetchedScripts()).not.toMatch(/noble-(keys|ciphers)|bcrypt|finite-field/)
      await run(fresh, 'logIn', await connectionTo(openssh, { keyType: 'ecdsa-256' }))
      expect(await fetchedScripts()).toMatch(/noble-keys/)
      expect(await fetchedScripts()).not.toMatch(/noble-ciphers/)
    })

    it.each(['ecdsa-256', 'rsa-2048'] as const)('logs in with a %s key', async (keyType) => {
      const report = await run(page, 'logIn', await connectionTo(openssh, { keyType }))
      expect(report.method).toBe('publickey')
    })

    it('logs in with a key file under a passphrase', async () => {
      const connection = await connectionTo(openssh, {
        keyOptions: { passphrase: 'correct horse' },
        passphrase: 'correct horse',
      })
      expect((await run(page, 'logIn', connection)).method).toBe('publickey')
    })

    it('logs in with a key of an agent that lives in the page', async () => {
      const report = await run(page, 'logInWithAgent', await connectionTo(openssh))
      expect(report.method).toBe('publickey')
      expect(report.source).toMatch(/agent/)
    })

    it('puts and gets a file, byte for byte', { timeout: 300_000 }, async () => {
      const path = join(openssh.paths.data, 'from-the-page')
      const work = { path, bytes: transferBytes, seed: 1 }
      const report = await run(page, 'putAndGet', await connectionTo(openssh), work)
      const expected = await noiseDigest(1, transferBytes, digest)
      expect(report).toMatchObject({ putBytes: transferBytes, getBytes: transferBytes, newKeys: 1 })
      expect(report.getDigest).toBe(expected)
      expect(await fileDigest(path)).toBe(expected)
    })

    it('does so over a WebSocketStream too, and rekeys meanwhile', async () => {
      const path = join(openssh.paths.data, 'stream')
      const bytes = 6 * mebibyte + 1
      const connection = await connectionTo(openssh, { stream: true, rekeyBytes: mebibyte })
      const report = await run(page, 'putAndGet', connection, { path, bytes, seed: 2 })
      expect(report.getDigest).toBe(await noiseDigest(2, bytes, digest))
      expect(await fileDigest(path)).toBe(report.getDigest)
      // The first keys, and new ones for each MiB of either direction, less what went on while they were exchanged.
      expect(report.newKeys).toBeGreaterThan(5)
    })

    it('does so in a worker', async () => {
      const path = join(openssh.paths.data, 'worker')
      const connection = await connectionTo(openssh)
      expect(await runInWorker(page, 'logIn', connection)).toMatchObject({ inWorker: true })
      const work = { path, bytes: 3 * mebibyte, seed: 3 }
      const report = await runInWorker(page, 'putAndGet', connection, work)
      expect(report.getDigest).toBe(await noiseDigest(3, 3 * mebibyte, digest))
    })

    it('refuses a wrong host key before it says who it is', async () => {
      const connection = await connectionTo(openssh, { fingerprint: our.hostKeys[1]!.fingerprint })
      const before = openssh.log().length
      expect(await outcome(page, 'logIn', connection)).toMatchObject({
        error: { name: 'HostKeyError', problem: 'mismatch' },
      })
      // What came before may end in this log, and this may take a moment: the lines of the new connection count.
      const ours = () => {
        const log = openssh.log().slice(before)
        return log.slice(log.lastIndexOf('Connection from'))
      }
      await vi.waitFor(() => expect(ours()).toContain('host key not trusted'), 10_000)
      expect(ours()).not.toMatch(/userauth|Accepted|Failed|user /)
    })
  })

  it("takes the browser's own ML-KEM, which answers as noble's does, and fetches none", async () => {
    const fresh = await chromium.visit(server.url)
    const report = await run(fresh, 'logIn', await connectionTo(our))
    expect(report.kex).toBe('mlkem768x25519-sha256')
    const fetchedMlkem = () =>
      fresh.evaluate(() => performance.getEntriesByType('resource').some(({ name }) => /\/ml-kem/.test(name)))
    expect(await fetchedMlkem()).toBe(false)
    expect(await run(fresh, 'compareMlkem')).toEqual({
      secretBytes: { browser: 64, noble: 2400 },
      samePublicKey: true,
      sameSecret: { browser: true, noble: true },
      sameRejection: true,
    })
    // Which also shows that the name is the one to look for.
    expect(await fetchedMlkem()).toBe(true)
  })

  it('speaks ChaCha20-Poly1305 where it comes over plain http, without WebCrypto', async () => {
    const insecure = await chromium.visit(server.insecureUrl)
    const connection = await connectionTo(our)
    const report = await run(insecure, 'logIn', connection)
    expect(report).toMatchObject({ secureContext: false, cipher: 'chacha20-poly1305@openssh.com' })
    const bytes = 2 * mebibyte + 7
    const { getDigest } = await run(insecure, 'putAndGet', connection, { path: '/plain', bytes, seed: 4 })
    expect(getDigest).toBe(await noiseDigest(4, bytes, digest))
    expect(await fileDigest(join(our.paths.data, 'plain'))).toBe(getDigest)
  })

  it('puts and gets a file on our own server', async () => {
    const bytes = 4 * mebibyte + 99
    const work = { path: '/ours', bytes, seed: 5 }
    const report = await run(page, 'putAndGet', await connectionTo(our), work)
    expect(report.getDigest).toBe(await noiseDigest(5, bytes, digest))
    expect(await fileDigest(join(our.paths.data, 'ours'))).toBe(report.getDigest)
  })

  it('cancels a download, and the connection goes on', async () => {
    writeNoise(join(our.paths.data, 'large'), 24 * mebibyte)
    writeFileSync(join(our.paths.data, 'small'), 'still here')
    const report = await run(page, 'cancelAndGoOn', await connectionTo(our), {
      path: '/large',
      small: '/small',
    })
    expect(report).toMatchObject({ name: 'AbortedError', code: 'ABORT_ERR', after: 'still here' })
    expect(report.before).toBeLessThan(report.total)
  })

  it('gives a relay up that has fallen silent', async () => {
    writeNoise(join(our.paths.data, 'endless'), 4 * mebibyte)
    const proxy = await startProxy({ target: our })
    const connection = await connectionTo(our, { port: proxy.port, keepaliveMs: 300 })
    await run(page, 'startEndlessGet', connection, { path: '/endless' })
    for (const each of proxy.connections) each.cut('silence')
    const report = await run(page, 'endOfEndlessGet')
    expect(report.failure).toBe('ERR_SSH_KEEPALIVE')
    expect(report.later).toBe(report.failure)
  })

  it.each([
    ['shuts down', (own: PageServer) => own.bridge.close()],
    ['is killed', (own: PageServer) => own.kill()],
  ] as const)('is told when the relay %s, and every call ends', async (_how, end) => {
    writeNoise(join(our.paths.data, 'endless2'), 4 * mebibyte)
    const own = await startPageServer()
    const visitor = await chromium.visit(own.url)
    await run(visitor, 'startEndlessGet', await connectionTo(our), { path: '/endless2' })
    await end(own)
    const report = await run(visitor, 'endOfEndlessGet')
    expect(report.failure).toBe('ERR_SSH_CONNECTION_LOST')
    expect(report).toMatchObject({ code: report.failure, later: report.failure })
  })

  describe('that asks about host keys', () => {
    it('remembers the answer in IndexedDB, and refuses another key afterwards', async () => {
      const visitor = await chromium.visit(server.url)
      const connection = await connectionTo(our)
      expect(await outcome(visitor, 'logInAsking', connection, { answer: 'no' })).toMatchObject({
        error: { name: 'HostKeyError', problem: 'unknown' },
      })
      const once = await run(visitor, 'logInAsking', connection, { answer: 'once' })
      expect(once.asked[0]).toContain(our.hostKeys[0]?.fingerprint)
      expect(once.knownHosts).toBe('')
      const first = await run(visitor, 'logInAsking', connection, { answer: 'remember' })
      expect(first.asked).toHaveLength(1)
      expect(first.knownHosts).toContain(`[127.0.0.1]:${our.port} ssh-ed25519 `)
      // A page that is loaded anew, as after a day.
      await visitor.reload()
      expect((await run(visitor, 'logInAsking', connection, { answer: 'no' })).asked).toEqual([])
      const changed = { ...connection, hostKeys: [our.hostKeys[1]!.algorithm] }
      expect(await outcome(visitor, 'logInAsking', changed, { answer: 'remember' })).toMatchObject({
        error: { name: 'HostKeyError', problem: 'changed' },
      })
    })

    it('loses nothing when two tabs remember a host at once', async () => {
      const visitor = await chromium.visit(server.url)
      const names = ['one.example', 'two.example', 'three.example', 'four.example']
      const text = await run(visitor, 'rememberAtOnce', names)
      for (const name of names) expect(text).toMatch(new RegExp(`^${name} ssh-ed25519 `, 'm'))
    })

    it('takes the text of a known_hosts file, and forgets a host', async () => {
      const visitor = await chromium.visit(server.url)
      const text = readFileSync(our.paths.knownHosts, 'utf8')
      const { removed, left } = await run(
        visitor,
        'importAndForget',
        `# mine\n${text}other ssh-rsa AAAA\n`,
        `[127.0.0.1]:${our.port}`,
      )
      expect(removed).toBe(text.trim().split('\n').length)
      expect(left).toBe('# mine\nother ssh-rsa AAAA\n')
    })
  })
})
