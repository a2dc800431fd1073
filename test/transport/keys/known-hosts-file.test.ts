import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { SshError } from '../../../packages/transport/src/errors.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import {
  addKnownHost,
  readKnownHostsFile,
  updateKnownHostsFile,
} from '../../../packages/transport/src/keys/node-known-hosts-file.ts'
import { formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { run, runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'

const key = generateKeyPair(nodeCrypto, 'ed25519', systemRandom).publicKey
const other = generateKeyPair(nodeCrypto, 'ed25519', systemRandom).publicKey
const K = formatPublicKey(key)
const host = { host: 'host.example.org', port: 22, key }

const text = (path: string) => readFileSync(path, 'latin1')
const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)

describe('adding a host', () => {
  test('creates folder and file for the user alone, whatever the umask', async () => {
    const path = join(tempDir('kh'), 'new', 'known_hosts')
    const before = process.umask(0)
    try {
      expect(await addKnownHost(nodeCrypto, path, host)).toBe(true)
    } finally {
      process.umask(before)
    }
    expect(text(path)).toBe(`host.example.org ${K}\n`)
    expect(mode(path)).toBe('600')
    expect(mode(join(path, '..'))).toBe('700')
    expect(existsSync(`${path}.lock`)).toBe(false)
  })

  test('supplies the newline that the last line lacks, and leaves everything else as it is', async () => {
    const path = join(tempDir('kh'), 'known_hosts')
    const before = `# odd\r\n\xff\xfe junk \0\n|1|bad|bad ${K}\nold ${K}`
    writeFileSync(path, before, { encoding: 'latin1', mode: 0o644 })
    await addKnownHost(nodeCrypto, path, host)
    await addKnownHost(nodeCrypto, path, { ...host, port: 2222 })
    expect(text(path)).toBe(`${before}\nhost.example.org ${K}\n[host.example.org]:2222 ${K}\n`)
    expect(mode(path)).toBe('644')
  })

  test('does nothing where the key is there for that host, and adds another key or marker', async () => {
    const path = join(tempDir('kh'), 'known_hosts')
    expect(await addKnownHost(nodeCrypto, path, { ...host, hash: true })).toBe(true)
    expect(await addKnownHost(nodeCrypto, path, host)).toBe(false)
    expect(await addKnownHost(nodeCrypto, path, { ...host, host: 'HOST.example.org' })).toBe(false)
    expect(await addKnownHost(nodeCrypto, path, { ...host, key: other })).toBe(true)
    expect(await addKnownHost(nodeCrypto, path, { ...host, marker: 'revoked' })).toBe(true)
    expect(text(path).trimEnd().split('\n')).toHaveLength(3)
    expect(text(path)).toMatch(/^\|1\|/)
  })

  test("fails with the system's code where the file cannot be", async () => {
    const dir = tempDir('kh')
    await expect(addKnownHost(nodeCrypto, dir, host)).rejects.toMatchObject({ code: 'EISDIR' })
    writeFileSync(join(dir, 'file'), '')
    await expect(addKnownHost(nodeCrypto, join(dir, 'file', 'known_hosts'), host)).rejects.toThrow(SshError)
    await expect(readKnownHostsFile(dir)).rejects.toMatchObject({
      code: 'EISDIR',
      message: expect.stringContaining(dir),
    })
    expect((await readKnownHostsFile(join(dir, 'absent'))).entries).toEqual([])
  })
})

describe('locking', () => {
  test('four processes add 25 hosts each and one that is the same for all: every line once, none torn', async () => {
    const dir = tempDir('kh')
    const program = join(dir, 'writer.mjs')
    const build = await rolldown({
      input: fileURLToPath(new URL('known-hosts-writer.ts', import.meta.url)),
      platform: 'node',
    })
    await build.write({ file: program, format: 'esm', codeSplitting: false })
    await build.close()
    const path = join(dir, 'known_hosts')
    writeFileSync(path, `old ${K}`)
    const counts = await Promise.all(
      [0, 25, 50, 75].map(async (first) => {
        const { stdout } = await runOrThrow(process.execPath, [program, path, K, `${first}`, '25'], {
          timeoutMs: 60_000,
        })
        return Number(stdout)
      }),
    )
    const lines = text(path).split('\n')
    expect(lines.pop()).toBe('')
    expect(lines.toSorted()).toEqual(
      ['old', 'shared', ...Array.from({ length: 100 }, (_, i) => `host-${i}`)]
        .map((name) => `${name} ${K}`)
        .toSorted(),
    )
    expect(counts.reduce((sum, count) => sum + count)).toBe(101)
    expect(readdirSync(dir).toSorted()).toEqual(['known_hosts', 'writer.mjs'])
  })

  test('a rewrite and many additions at once lose nothing', async () => {
    const path = join(tempDir('kh'), 'known_hosts')
    writeFileSync(path, `doomed ${K}\nkept ${K}\n`)
    const additions = Array.from({ length: 20 }, (_, i) =>
      addKnownHost(nodeCrypto, path, { ...host, host: `host-${i}` }),
    )
    const removal = updateKnownHostsFile(path, (knownHosts) => {
      knownHosts.remove(knownHosts.entriesFor(nodeCrypto, 'doomed').map(({ line }) => line))
    })
    await Promise.all([...additions, removal])
    const names = text(path)
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' ')[0])
    expect(names.toSorted()).toEqual(
      ['kept', ...Array.from({ length: 20 }, (_, i) => `host-${i}`)].toSorted(),
    )
  })

  test('a lock that is held ends in an error that names it, after the time asked for', async () => {
    const path = join(tempDir('kh'), 'known_hosts')
    writeFileSync(`${path}.lock`, '')
    await expect(addKnownHost(nodeCrypto, path, host, { lockTimeoutMs: 100 })).rejects.toMatchObject({
      code: 'ERR_SSH_KNOWN_HOSTS_LOCKED',
      message: expect.stringContaining(`${path}.lock`),
    })
    expect(existsSync(path)).toBe(false)
    expect(existsSync(`${path}.lock`)).toBe(true)
  })

  test('a lock that a dead process left behind is broken', async () => {
    const path = join(tempDir('kh'), 'known_hosts')
    writeFileSync(`${path}.lock`, '')
    const old = Date.now() / 1000 - 60
    utimesSync(`${path}.lock`, old, old)
    const additions = Array.from({ length: 5 }, (_, i) =>
      addKnownHost(nodeCrypto, path, { ...host, host: `host-${i}` }),
    )
    expect(await Promise.all(additions)).toEqual([true, true, true, true, true])
    expect(readdirSync(join(path, '..'))).toEqual(['known_hosts'])
  })
})

describe('rewriting', () => {
  test('replaces the file in one step, and keeps its mode and the link to it', async () => {
    const dir = tempDir('kh')
    mkdirSync(join(dir, 'real'))
    const real = join(dir, 'real', 'known_hosts')
    const path = join(dir, 'known_hosts')
    writeFileSync(real, `a ${K}\r\n\xffodd\nb ${K}`, { encoding: 'latin1', mode: 0o640 })
    symlinkSync(real, path)
    const { ino } = statSync(real)
    expect(await updateKnownHostsFile(path, (knownHosts) => knownHosts.remove([1]))).toBe(true)
    expect(text(real)).toBe(`\xffodd\nb ${K}`)
    expect(mode(real)).toBe('640')
    expect(statSync(path).ino).toBe(statSync(real).ino)
    expect(statSync(real).ino).not.toBe(ino)
    await addKnownHost(nodeCrypto, path, host)
    expect(text(real)).toBe(`\xffodd\nb ${K}\nhost.example.org ${K}\n`)
    expect(readdirSync(dir).toSorted()).toEqual(['known_hosts', 'real'])
    expect(readdirSync(join(dir, 'real'))).toEqual(['known_hosts'])
  })

  test('does not touch the file where nothing changed, nor where the edit fails', async () => {
    const path = join(tempDir('kh'), 'known_hosts')
    writeFileSync(path, `a ${K}\n`)
    const { ino, mtimeMs } = statSync(path)
    expect(await updateKnownHostsFile(path, () => {})).toBe(false)
    await expect(
      updateKnownHostsFile(path, (knownHosts) => {
        knownHosts.remove([1])
        throw new RangeError('no')
      }),
    ).rejects.toThrow(RangeError)
    expect(statSync(path)).toMatchObject({ ino, mtimeMs })
    expect(readdirSync(join(path, '..'))).toEqual(['known_hosts'])
  })
})

describeWith(
  [needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'ssh-keygen and our files',
  () => {
    test('ssh-keygen -F finds what we added, plain and hashed, and -R removes it', async () => {
      const path = join(tempDir('kh'), 'known_hosts')
      await addKnownHost(nodeCrypto, path, host)
      await addKnownHost(nodeCrypto, path, { ...host, port: 2222, hash: true, comment: 'ours' })
      for (const [line, name] of ['host.example.org', '[host.example.org]:2222'].entries()) {
        const { stdout } = await runOrThrow('ssh-keygen', ['-l', '-F', name, '-f', path])
        expect(stdout).toContain(`# Host ${name} found: line ${line + 1}`)
      }
      await runOrThrow('ssh-keygen', ['-R', '[host.example.org]:2222', '-f', path])
      expect((await run('ssh-keygen', ['-F', '[host.example.org]:2222', '-f', path])).code).toBe(1)
      expect((await readKnownHostsFile(path)).entries).toHaveLength(1)
    })

    test('what ssh-keygen -H hashed is found by us', async () => {
      const path = join(tempDir('kh'), 'known_hosts')
      writeFileSync(path, `host.example.org,[host.example.org]:2222 ${K}\n`)
      await runOrThrow('ssh-keygen', ['-H', '-f', path])
      const knownHosts = await readKnownHostsFile(path)
      for (const port of [22, 2222]) {
        expect(knownHosts.lookup(nodeCrypto, { host: 'host.example.org', port }, key).status).toBe('trusted')
      }
      expect(text(path)).not.toContain('example')
    })
  },
)
