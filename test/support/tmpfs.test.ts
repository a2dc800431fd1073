import { existsSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runCleanups } from './cleanup.ts'
import { clientKey } from './keys.ts'
import { needsOpensshClient, sftp } from './openssh-client.ts'
import { needsOpenssh, startOpensshServer } from './openssh-server.ts'
import { describeWith } from './requirements.ts'
import { tempDir } from './temp-dir.ts'
import { mountTmpfs, needsTmpfs } from './tmpfs.ts'

describeWith([needsTmpfs], 'a tmpfs', () => {
  test('holds as many bytes as it was given and no more', async () => {
    const dir = await mountTmpfs(65_536)
    expect(statfsSync(dir).blocks * statfsSync(dir).bsize).toBe(65_536)
    writeFileSync(join(dir, 'a'), new Uint8Array(65_536))
    expect(() => writeFileSync(join(dir, 'b'), new Uint8Array(1))).toThrow('ENOSPC')
  })

  test('is gone after the clean-up', async () => {
    const dir = await mountTmpfs(65_536, { scope: 'file' })
    const device = statSync(dir).dev
    expect(device).not.toBe(statSync(join(dir, '..')).dev)
    await runCleanups()
    expect(existsSync(dir)).toBe(false)
  })
})

describeWith([needsTmpfs, needsOpenssh(), needsOpensshClient()], 'a tmpfs behind a server', () => {
  test('fills up', async () => {
    const dir = await mountTmpfs(65_536)
    const peer = await startOpensshServer()
    const source = join(tempDir(), 'big')
    writeFileSync(source, new Uint8Array(100_000))
    const said = await sftp(peer, [`put ${source} ${dir}/big`], { key: await clientKey('ed25519') })
    expect(said).toMatchObject({ code: 1 })
    expect(statSync(join(dir, 'big')).size).toBeLessThanOrEqual(65_536)
  })
})
