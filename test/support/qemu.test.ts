import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { clientKey, hexFingerprint } from './keys.ts'
import { needsOpenssh, needsOpensshAccounts, startOpensshServer } from './openssh-server.ts'
import { needsQemu, type QemuAccess, qemu, qemuImageOptions, qemuIo } from './qemu.ts'
import { describeWith } from './requirements.ts'
import { needsAgent, startAgent } from './ssh-agent.ts'
import { tempDir } from './temp-dir.ts'

async function startAccess(): Promise<QemuAccess & { data: string; blob: Uint8Array }> {
  const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'], sftp: 'sftp-server' })
  const agent = await startAgent({ keys: [await clientKey('ed25519')] })
  return { peer, agent, data: peer.paths.data, blob: peer.hostKeys[0]?.blob ?? new Uint8Array() }
}

describeWith([needsQemu()], "QEMU's tools on a local file", () => {
  test('compare images and report a difference', async () => {
    const dir = tempDir()
    writeFileSync(join(dir, 'a'), new Uint8Array(1024).fill(1))
    writeFileSync(join(dir, 'b'), new Uint8Array(1024).fill(2))
    const compare = (a: string, b: string) =>
      qemu('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', join(dir, a), join(dir, b)])
    expect(await compare('a', 'a')).toMatchObject({ code: 0 })
    expect(await compare('a', 'b')).toMatchObject({ code: 1 })
  })
})

describeWith([needsQemu(), needsOpenssh(), needsAgent()], "QEMU's ssh driver", () => {
  test('writes and reads back a pattern on a server', async () => {
    const { data, ...access } = await startAccess()
    const image = join(data, 'disk,one.img')
    writeFileSync(image, new Uint8Array(1 << 20))
    const options = qemuImageOptions(access.peer, image)
    const said = await qemuIo(options, ['write -P 0x5a 4096 8192', 'flush', 'read -P 0x5a 4096 8192'], access)
    expect(said).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('read 8192/8192 bytes at offset 4096'),
    })
    expect(new Set(readFileSync(image).subarray(4096, 12_288))).toEqual(new Set([0x5a]))
    const wrong = await qemuIo(options, ['read -P 0x5b 4096 512'], access)
    expect(wrong.stdout).toContain('Pattern verification failed')
  })

  test.each(['md5', 'sha1', 'sha256'] as const)('checks the host key by %s', async (hash) => {
    const { data, blob, ...access } = await startAccess()
    const image = join(data, 'disk.img')
    writeFileSync(image, new Uint8Array(4096))
    const check = (hex: string) =>
      qemuIo(qemuImageOptions(access.peer, image, `${hash}:${hex}`), ['read 0 512'], access)
    expect(await check(hexFingerprint(blob, hash))).toMatchObject({ code: 0 })
    const wrong = await check(hexFingerprint(blob.with(0, 1), hash))
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('does not match host_key_check') })
  })
})

describeWith(
  [needsQemu(), needsOpenssh(), needsAgent(), needsOpensshAccounts()],
  "QEMU's ssh driver with known_hosts",
  () => {
    test('opens a disk of a host that is known, and of no other', async () => {
      const { data, ...access } = await startAccess()
      const image = join(data, 'disk.img')
      writeFileSync(image, new Uint8Array(4096))
      const info = (knownHosts: string) => {
        const peer = { ...access.peer, paths: { knownHosts } }
        const options = qemuImageOptions(access.peer, image, 'yes')
        return qemu('qemu-img', ['info', '--image-opts', options], { ...access, peer })
      }
      expect(await info(access.peer.paths.knownHosts)).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('4 KiB'),
      })
      const empty = join(tempDir(), 'known_hosts')
      writeFileSync(empty, '')
      expect(await info(empty)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('no host key was found in known_hosts'),
      })
    })
  },
)
