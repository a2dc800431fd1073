/** A machine in a page whose hard disk is a file on an SSH server. */
import { createHash } from 'node:crypto'
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, it } from 'vitest'
import { demoDiskBytes, makeDemoDisk } from '../../packages/web/src/demo/demo-disk.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { startOurServer } from '../support/our-server.ts'
import { runOrThrow } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { needsChromium, type RunningChromium, startChromium } from './support/chromium.ts'
import { connectionTo } from './support/connections.ts'
import { grubImage, machineFiles, needsBios, needsFiles, typeLine, waitForScreen } from './support/machine.ts'
import { type PageServer, startPageServer } from './support/page-server.ts'
import { run } from './support/run-scenario.ts'

describeWith([needsChromium(), needsBios()], 'a machine in a page', () => {
  let chromium: RunningChromium
  let server: PageServer
  beforeAll(async () => {
    ;[chromium, server] = await Promise.all([
      startChromium(),
      startPageServer({ scope: 'file', files: machineFiles() }),
    ])
  })

  const needsGrub = needsFiles('GRUB rescue image', [grubImage], 'grub-rescue-pc')
  describeWith([needsOpenssh(), needsGrub], 'with its disk on OpenSSH', () => {
    let openssh: OpensshPeer
    beforeAll(async () => {
      openssh = await startOpensshServer({ scope: 'file' })
    })

    it('boots GRUB and reads the disk by its command line', { timeout: 180_000 }, async () => {
      const path = join(openssh.paths.data, 'grub.img')
      copyFileSync(grubImage, path)
      const page = await chromium.visit(server.url)
      const { size } = await run(page, 'boot', await connectionTo(openssh), { path, memoryMiB: 32 })
      expect(size).toBe(statSync(grubImage).size)
      const screen = await waitForScreen(page, /command-line/, 120_000)
      expect(screen).toMatch(/GNU GRUB +version 2\.\d+/)
      await run(page, 'typeKeys', 'c')
      await waitForScreen(page, /^ *grub>$/m)
      // GRUB's own reading of the image's file system, which it fetches now.
      await typeLine(page, 'grub> ', 'ls (hd0)/boot/grub')
      expect(await waitForScreen(page, /i386-pc\//)).toMatch(/roms\/|locale\/|fonts\/|i386-pc\//)
      const report = await run(page, 'diskReport')
      expect(report.readErrors).toEqual([])
      expect(report.fetchedBytes).toBeLessThanOrEqual(size)
      expect(report.fetches).toBeGreaterThan(3)
      await run(page, 'powerOff')
    })
  })

  it('writes to an overlay, which reaches the server when it is committed', {
    timeout: 120_000,
  }, async () => {
    const our = await startOurServer()
    const path = join(our.paths.data, 'demo.img')
    const image = Buffer.alloc(demoDiskBytes)
    for (const { offset, bytes } of makeDemoDisk(new Date('2026-01-01'))) image.set(bytes, offset)
    writeFileSync(path, image)
    const connection = await connectionTo(our)
    const page = await chromium.visit(server.url)
    const options = { path: '/demo.img', memoryMiB: 16 }

    await run(page, 'boot', connection, options)
    expect(await waitForScreen(page, /Boots so far: \d{5}/)).toContain('Boots so far: 00001')
    const before = await run(page, 'diskReport')
    expect(before).toMatchObject({ uncommittedBytes: 512, readErrors: [] })
    expect(readFileSync(path).equals(image)).toBe(true)

    const commit = await run(page, 'commit')
    expect(commit).toEqual({ written: 512, progress: [1], left: 0 })
    await run(page, 'powerOff')
    const after = readFileSync(path)
    expect(after.toString('latin1', 512, 517)).toBe('00001')
    image.write('00001', 512, 'latin1')
    expect(after.equals(image)).toBe(true)

    await run(page, 'boot', connection, options)
    await waitForScreen(page, /Boots so far: 00002/)
    // Power off without a commit: as if nothing had happened.
    await run(page, 'powerOff')
    expect(readFileSync(path).equals(image)).toBe(true)
  })

  // A minute and more, and packages from Debian's mirror: for `npm run test:browser:long`.
  if (process.env['SSHBLOCK_BOOT_LINUX'] === '1') {
    it('boots a Linux made of Debian packages, which hashes a file inside, and commits what it wrote', {
      timeout: 600_000,
    }, async () => {
      const script = fileURLToPath(new URL('./support/linux-image.sh', import.meta.url))
      const made = await runOrThrow('bash', [script], { timeoutMs: 300_000 })
      const openssh = await startOpensshServer()
      const path = join(openssh.paths.data, 'linux.img')
      copyFileSync(made.stdout.trim(), path)
      const drive = `${path}@@1048576`
      const mtools = async (...args: string[]): Promise<string> => {
        const [command = '', ...rest] = args
        return (await runOrThrow(command, ['-i', drive, ...rest], { env: { MTOOLS_SKIP_CHECK: '1' } })).stdout
      }
      const payload = join(openssh.paths.dir, 'payload')
      await mtools('mcopy', '::/payload.bin', payload)
      const digest = createHash('sha256').update(readFileSync(payload)).digest('hex')

      const page = await chromium.visit(server.url)
      await run(page, 'boot', await connectionTo(openssh), { path, memoryMiB: 128 })
      const screen = await waitForScreen(page, /all done/, 400_000)
      expect(screen).toMatch(/^linux 6\.\d+\.\d+-\d+-686 i686$/m)
      expect(screen).toContain(`sha256 ${digest}`)
      const report = await run(page, 'diskReport')
      expect(report.readErrors).toEqual([])
      expect(report.uncommittedBytes).toBeGreaterThan(0)
      await expect(mtools('mtype', '::/written.txt')).rejects.toThrow()
      await run(page, 'commit')
      expect(await mtools('mtype', '::/written.txt')).toBe('written by the machine\n')
      console.info(`Linux booted with ${report.fetches} reads, ${report.fetchedBytes} bytes`)
      await run(page, 'powerOff')
    })
  }
})
