/**
 * An image behind `sshblock serve` as a disk: a file system made on it and files put into it, which the server's file then
 * holds; and a machine that boots from it.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { needsLibnbd } from '../nbd/support/peers.ts'
import { bundlesPackages } from '../support/bundles.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { needsOpenssh } from '../support/openssh-server.ts'
import { run, runOrThrow } from '../support/program.ts'
import { describeWith, needsPrograms, needsRoot, type Requirement } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { type Emulator, startEmulator } from './emulator.ts'
import { startFuse } from './nbd-fuse.ts'
import { serveImage } from './served-image.ts'

bundlesPackages()

const mebibyte = 1024 ** 2
/** An emulated machine on a busy one. */
const patienceMs = 180_000
const needsExt4 = needsPrograms('ext4 tools', ['mke2fs', 'e2fsck', 'debugfs'], 'e2fsprogs')
const needsFuse: Requirement = existsSync('/dev/fuse')
  ? needsPrograms('nbdfuse', ['nbdfuse', 'fusermount3'], 'libnbd-bin fuse3')
  : { name: 'FUSE', missing: '/dev/fuse (a kernel with FUSE)' }
const needsLoop: Requirement = {
  name: 'loop devices',
  missing: existsSync('/dev/loop-control') ? undefined : '/dev/loop-control (a kernel with loop devices)',
}
const grubImage = '/usr/lib/grub-rescue/grub-rescue-cdrom.iso'
const needsGrub: Requirement = {
  name: 'a bootable image',
  missing: existsSync(grubImage) ? undefined : `${grubImage} (apt-get install grub-rescue-pc)`,
}
const needsEmulator = needsPrograms('QEMU', ['qemu-system-x86_64'], 'qemu-system-x86')

/** The server's own tools find nothing wrong. */
async function expectClean(file: string): Promise<void> {
  const checked = await run('e2fsck', ['-f', '-n', file])
  expect(checked).toMatchObject({ code: 0 })
}

describeWith(
  [needsOpenssh(), needsLibnbd, needsExt4, needsFuse, needsLoop, needsRoot],
  'a file system',
  () => {
    test('made and mounted through the export is clean on the server, and holds what was copied in', async () => {
      const served = await serveImage({ size: 64 * mebibyte, timeoutMs: patienceMs })
      const dir = tempDir()
      const disk = await startFuse(served.uri, join(dir, 'fuse'))
      await runOrThrow('mke2fs', ['-q', '-t', 'ext4', disk.file])
      const mounted = join(dir, 'mounted')
      mkdirSync(mounted)
      await runOrThrow('mount', ['-o', 'loop', disk.file, mounted])
      const unmount = () => runOrThrow('umount', [mounted])
      registerCleanup(async () => {
        await run('umount', ['-l', mounted])
      })
      const content = randomBytes(3 * mebibyte + 17)
      writeFileSync(join(mounted, 'big'), content)
      mkdirSync(join(mounted, 'folder'))
      for (let i = 0; i < 200; i++) writeFileSync(join(mounted, 'folder', `small-${i}`), `file ${i}\n`)
      await unmount()
      await disk.stop()
      expect(await served.stop()).toMatchObject({ code: 0, stderr: '' })

      await expectClean(served.file)
      const copy = join(dir, 'copy')
      await runOrThrow('debugfs', ['-R', `dump /big ${copy}`, served.file])
      expect(readFileSync(copy).equals(content)).toBe(true)
      const listed = await runOrThrow('debugfs', ['-R', 'cat /folder/small-199', served.file])
      expect(listed.stdout).toBe('file 199\n')
    })
  },
)

describeWith([needsOpenssh(), needsGrub, needsEmulator], 'a machine', () => {
  test(
    'boots from the export to its prompt, and reads its disk there',
    async () => {
      const content = readFileSync(grubImage)
      const served = await serveImage({
        content,
        size: Math.ceil(content.length / 512) * 512,
        timeoutMs: patienceMs,
      })
      const machine: Emulator = await startEmulator(served.uri)
      await machine.shows(/GNU GRUB +version/)
      // From its menu to its command line.
      await machine.type(['c'])
      await machine.shows(/grub> *$/m)
      await machine.type([...'ls'].concat('ret'))
      await machine.shows(/grub> ls\s+.*\(hd0\)/)
      await machine.stop()
      await served.stop()
      expect(readFileSync(served.file).subarray(0, content.length).equals(content)).toBe(true)
    },
    patienceMs,
  )
})
