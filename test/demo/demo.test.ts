import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { bundlesPackages } from '../support/bundles.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { writeNoise } from '../support/our-server.ts'
import { run } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { startAgent } from '../support/ssh-agent.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const main = join(root, 'demo/dist/main.js')
const demo = (args: string[], env: Record<string, string> = {}) =>
  run(process.execPath, [main, ...args], { env, timeoutMs: 60_000 })

describe('npm run demo', () => {
  bundlesPackages()
  beforeAll(async () => {
    const build = await run(
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-b', join(root, 'demo')],
      { timeoutMs: 60_000 },
    )
    expect(build.stdout + build.stderr).toBe('')
  })

  it('without a location works on a server of its own, and says what it did', async () => {
    const done = await demo(['--size', '4M'])
    expect(done.code, done.stderr).toBe(0)
    for (const what of [
      /^server +SSH-2\.0-sshblock/m,
      /^host key +ssh-ed25519 SHA256:/m,
      /^algorithms +\S+, \S+/m,
      /^image +.*4 MiB/m,
      /^write in order +4 MiB in/m,
      /^read at random/m,
      /^verdict +every byte is where it should be/m,
    ]) {
      expect(done.stdout).toMatch(what)
    }
  })

  it.each([
    [['--size', '12'], /--size: expected a number with K, M or G/],
    [['--seed', 'x'], /--seed: expected a number/],
    [['a', 'b'], /expected one location, got 2/],
    [['--nonsense'], /nonsense/],
  ])('answers %j with what was expected, and exit status 2', async (args, message) => {
    const done = await demo(args)
    expect(done.code).toBe(2)
    expect(done.stderr).toMatch(message)
  })

  it('names what is wrong with a location', async () => {
    const done = await demo(['ssh://127.0.0.1:1/x'])
    expect(done.code).toBe(1)
    expect(done.stderr).toMatch(/^demo: .*127\.0\.0\.1:1 refused the connection.*\[ECONNREFUSED\]/m)
  })

  describeWith([needsOpenssh()], "on the user's own server", () => {
    it('reads, and with --write leaves the image as it was', async () => {
      const peer = await startOpensshServer()
      const agent = await startAgent({ keys: [await clientKey('ed25519')] })
      const path = join(peer.paths.data, 'disk.img')
      const before = writeNoise(path, 3 * 1024 ** 2, 3)
      const location = `ssh://${peer.user}@${peer.host}:${peer.port}${path}?host_key_check=no`
      const env = { SSH_AUTH_SOCK: agent.socket }
      const read = await demo([location], env)
      expect(read.code, read.stderr).toBe(0)
      expect(read.stdout).toMatch(/read-only/)
      const write = await demo([location, '--write'], env)
      expect(write.code, write.stderr).toBe(0)
      expect(write.stdout).toMatch(/the image is as before/)
      expect(Buffer.compare(readFileSync(path), before)).toBe(0)
    })
  })
})
