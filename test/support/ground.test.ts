/** The ground under the starters: what is missing skips or fails, and what was started ends. Shown on small test files of their own. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { registerCleanup } from './cleanup.ts'
import { freePort } from './free-port.ts'
import { ALL_KEY_TYPES, clientKey, hexFingerprint, hostKey, strangerHostKey } from './keys.ts'
import { hasNamespaces } from './namespace.ts'
import { descendantsOf, isAlive } from './process-tree.ts'
import { type Finished, findProgram, run, runOrThrow } from './program.ts'
import { describeWith, needsPrograms } from './requirements.ts'
import { sessionsOf } from './server-process.ts'
import { tempDir } from './temp-dir.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url))

/** Runs one test file in a Vitest of its own. */
async function runTestFile(source: string, env: Record<string, string | undefined>): Promise<Finished> {
  const dir = tempDir('inner')
  writeFileSync(join(dir, 'inner.test.ts'), source.replaceAll("'./", `'${here}`))
  const config = `export default { test: { globalSetup: ['${here}global-setup.ts'], setupFiles: ['${here}setup.ts'] } }`
  writeFileSync(join(dir, 'vitest.config.mjs'), config)
  const outer = Object.keys(process.env).filter(
    (name) => name.startsWith('VITEST') || name === 'SSHBLOCK_TEST_RUN_DIR',
  )
  const cleared = Object.fromEntries(outer.map((name) => [name, undefined]))
  return run(process.execPath, [vitest, 'run', '--root', dir], { env: { ...cleared, NO_COLOR: '1', ...env } })
}

const missingPeer = `
import { expect, test } from '../../node_modules/vitest/dist/index.js'
import { describeWith, needsPrograms, requirePeers } from './requirements.ts'
const absent = needsPrograms('Unobtainium', ['unobtainium-server'], 'unobtainium')
describeWith([absent], 'a peer', () => test('never runs', () => expect(1).toBe(2)))
test('starts it', () => {
  requirePeers([absent])
  expect(1).toBe(2)
})
`.replaceAll('../../node_modules/', fileURLToPath(new URL('../../node_modules/', import.meta.url)))

describe('a missing peer', () => {
  test('skips its tests loudly and says how to install it', async () => {
    const said = await runTestFile(missingPeer, { CI: undefined })
    expect(said.stdout).toMatch(/Tests +2 skipped/)
    expect(said.stderr).toContain(
      'SKIPPED a peer: missing Unobtainium: unobtainium-server (apt-get install unobtainium)',
    )
    expect(said.stderr).toContain('SKIPPED starts it: missing Unobtainium')
    expect(said.code).toBe(0)
  })

  test('fails its tests where CI=true', async () => {
    const said = await runTestFile(missingPeer, { CI: 'true' })
    expect(said.stdout).toMatch(/Tests +2 failed/)
    expect(said.stderr).toContain(
      'MissingPeerError: Unobtainium: unobtainium-server (apt-get install unobtainium)',
    )
    expect(said.code).toBe(1)
  })
})

const openssh = needsPrograms('OpenSSH server', ['sshd', 'ssh-keygen'], 'openssh-server')

/** A test file that starts a server, leaves a session open, writes down what there is and ends as `ending` says. */
const leaving = (report: string, ending: string): string => `
import { test } from '${fileURLToPath(new URL('../../node_modules/vitest/dist/index.js', import.meta.url))}'
import { writeFileSync } from 'node:fs'
import { clientKey } from './keys.ts'
import { ssh } from './openssh-client.ts'
import { startOpensshServer } from './openssh-server.ts'
import { sessionsOf } from './server-process.ts'
test('starts', async () => {
  const key = await clientKey('ed25519')
  const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'], authorizedKeys: [key.publicLine] })
  const session = ssh(peer, 'sleep 100', { key })
  await peer.waitForLog(/Starting session/)
  const pids = [peer.pid, ...sessionsOf(peer).map(({ pid }) => pid)]
  writeFileSync('${report}', JSON.stringify({ dir: peer.paths.dir, run: process.env.SSHBLOCK_TEST_RUN_DIR, pids }))
  ${ending}
  await peer.stop()
  await session
})
`

describeWith([openssh], 'a started server', () => {
  const endings: [how: string, ending: string, code: number][] = [
    ['passes', '', 0],
    ['fails', "throw new Error('on purpose')", 1],
  ]
  // Without a namespace only the listener goes with a test process that is killed: sessions go with their clients.
  if (hasNamespaces()) endings.push(['is killed', "process.kill(process.pid, 'SIGKILL')", 1])
  test.each(endings)('ends with all its processes when its test %s', async (_how, ending, code) => {
    const report = join(tempDir(), 'report.json')
    const said = await runTestFile(leaving(report, ending), {})
    expect(said.code).toBe(code)
    const { dir, run: runFolder, pids } = JSON.parse(readFileSync(report, 'utf8'))
    expect(pids.length).toBeGreaterThan(1)
    const alive = () => pids.filter(isAlive)
    await expect.poll(alive, { timeout: 5000 }).toEqual([])
    expect(existsSync(dir)).toBe(false)
    expect(existsSync(runFolder)).toBe(false)
  })
})

describe('temporary folders', () => {
  test('are private unless asked otherwise', () => {
    expect(statSync(tempDir()).mode & 0o777).toBe(0o700)
    expect(statSync(tempDir('x', { mode: 0o711 })).mode & 0o777).toBe(0o711)
  })

  test('are removed once, with what is in them', async () => {
    let undone = 0
    const cleanup = registerCleanup(() => {
      undone++
    })
    await cleanup.run()
    await cleanup.run()
    expect(undone).toBe(1)
  })
})

describe('free ports', () => {
  test('can be listened on and lie below the ephemeral range', async () => {
    const port = await freePort()
    expect(port).toBeLessThan(32_768)
    const server = createServer((socket) => socket.end())
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    await new Promise((resolve) => connect(port, '127.0.0.1').resume().once('close', resolve))
    await new Promise((resolve) => server.close(resolve))
  })
})

describe('programs', () => {
  test('outside PATH are found', () => {
    expect(findProgram('no-such-program-anywhere')).toBeUndefined()
    expect(findProgram('sh')).toMatch(/^\//)
  })

  test('are run to their end with input, environment and status', async () => {
    const said = await run('sh', ['-c', 'cat; echo "$WORD" >&2; exit 3'], {
      input: 'in',
      env: { WORD: 'out' },
    })
    expect(said).toMatchObject({ code: 3, signal: null, stdout: 'in', stderr: 'out\n' })
    await expect(runOrThrow('sh', ['-c', 'echo why >&2; exit 3'])).rejects.toThrow(/exit status 3\nwhy/)
    await expect(run('no-such-program-anywhere', [])).rejects.toThrow(/ENOENT|EACCES/)
  })

  test('are killed when they take too long', async () => {
    expect(await run('sleep', ['100'], { timeoutMs: 50 })).toMatchObject({ code: null, signal: 'SIGKILL' })
  })

  test('below a process are listed with their command lines', async () => {
    const sleeping = run('sh', ['-c', 'sleep 0.4; true'])
    const found = () => sessionsOf(process).some(({ command }) => command === 'sleep 0.4')
    await expect.poll(found).toBe(true)
    expect(descendantsOf(process.pid).length).toBeGreaterThanOrEqual(2)
    await sleeping
  })
})

describeWith([openssh], 'key pairs', () => {
  test.each(ALL_KEY_TYPES)('of type %s are made once and differ by purpose', async (type) => {
    const [host, again, client, stranger] = await Promise.all([
      hostKey(type),
      hostKey(type),
      clientKey(type),
      strangerHostKey(type),
    ])
    expect(again).toEqual(host)
    expect(new Set([host, client, stranger].map((key) => key.fingerprint)).size).toBe(3)
    const said = await runOrThrow('ssh-keygen', ['-l', '-f', host.publicFile])
    expect(said.stdout).toContain(` ${host.fingerprint} `)
    const md5 = await runOrThrow('ssh-keygen', ['-l', '-E', 'md5', '-f', host.publicFile])
    expect(md5.stdout.replaceAll(':', '')).toContain(hexFingerprint(host.blob, 'md5'))
  })

  test.each([
    ['aes256-ctr', undefined],
    ['aes256-gcm@openssh.com', undefined],
    ['chacha20-poly1305@openssh.com', undefined],
    [undefined, 'PEM'],
    [undefined, 'PKCS8'],
  ] as const)('are encrypted with %s in format %s, and are still the same key', async (cipher, format) => {
    const options = { passphrase: 'pass phrase', ...(cipher && { cipher }), ...(format && { format }) }
    const [plain, encrypted] = [await clientKey('rsa-2048'), await clientKey('rsa-2048', options)]
    const publicOf = (phrase: string) => run('ssh-keygen', ['-y', '-P', phrase, '-f', encrypted.privateFile])
    expect((await publicOf('pass phrase')).stdout.split(/\s/).slice(0, 2)).toEqual(
      plain.publicLine.split(/\s/).slice(0, 2),
    )
    expect(await publicOf('wrong')).toMatchObject({ code: 255 })
    expect(statSync(encrypted.privateFile).mode & 0o777).toBe(0o600)
  })
})
