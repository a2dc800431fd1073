import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import {
  access,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { registerCleanup } from '../../support/cleanup.ts'
import { run, runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms, type Requirement } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { stdioServerProgram } from '../support/stdio-server.ts'

const needsFuse: Requirement = {
  name: 'FUSE',
  missing: fs.existsSync('/dev/fuse') ? undefined : '/dev/fuse (modprobe fuse, or run the container with it)',
}

/**
 * Mounts `root` through our stdio server and sshfs; unmounted at the end of the test. The server is a process of its own: a
 * process that serves a mount and waits for it, in its one thread or its few workers, would wait for itself.
 */
async function mount(root: string): Promise<string> {
  const dir = tempDir('sshfs')
  const at = join(dir, 'mount')
  fs.mkdirSync(at)
  const command = join(dir, 'in-place-of-ssh')
  const program = await stdioServerProgram()
  fs.writeFileSync(command, `#!/bin/sh\nexec ${process.execPath} ${program} --root ${root}\n`, {
    mode: 0o755,
  })
  const unmount = ['-u', '-z', at]
  registerCleanup(() => run('fusermount3', unmount).then(() => {}), {
    onExit: () => void spawnSync('fusermount3', unmount),
  })
  await runOrThrow('sshfs', ['-o', `ssh_command=${command}`, '-o', 'dir_cache=no', 'host:/', at])
  return at
}

describeWith(
  [needsPrograms('sshfs', ['sshfs', 'fusermount3'], 'sshfs'), needsFuse],
  'a folder mounted by sshfs',
  () => {
    test('is a file system: files, directories, links, times, sizes, rename over, df', async () => {
      const root = tempDir('sshfs-root', { mode: 0o755 })
      const at = await mount(root)
      const content = randomBytes(5_000_000)
      await writeFile(join(at, 'big'), content)
      expect(
        createHash('sha256')
          .update(await readFile(join(at, 'big')))
          .digest('hex'),
      ).toBe(createHash('sha256').update(content).digest('hex'))
      expect(Buffer.compare(fs.readFileSync(join(root, 'big')), content)).toBe(0)
      await mkdir(join(at, 'd', 'e'), { recursive: true })
      await Promise.all(Array.from({ length: 120 }, (_, i) => writeFile(join(at, 'd', `f${i}`), `${i}`)))
      expect((await readdir(join(at, 'd'))).length).toBe(121)
      expect(await readFile(join(at, 'd', 'f119'), 'utf8')).toBe('119')
      await symlink('../big', join(at, 'd', 'link'))
      expect(fs.readlinkSync(join(root, 'd', 'link'))).toBe('../big')
      expect((await lstat(join(at, 'd', 'link'))).isSymbolicLink()).toBe(true)
      await truncate(join(at, 'big'), 1234)
      expect(fs.statSync(join(root, 'big')).size).toBe(1234)
      await utimes(join(at, 'big'), 1_000_000_000, 1_100_000_000)
      expect(fs.statSync(join(root, 'big')).mtimeMs).toBe(1_100_000_000_000)
      await rename(join(at, 'd', 'f1'), join(at, 'd', 'f2'))
      expect(await readFile(join(at, 'd', 'f2'), 'utf8')).toBe('1')
      fs.appendFileSync(join(at, 'd', 'f2'), ' and more')
      expect(fs.readFileSync(join(root, 'd', 'f2'), 'utf8')).toBe('1 and more')
      expect((await runOrThrow('df', ['-P', at])).stdout).toMatch(/\d+%/)
      await expect(access(join(at, 'missing'))).rejects.toMatchObject({ code: 'ENOENT' })
      await expect(mkdir(join(at, 'd'))).rejects.toThrow()
      await rm(join(at, 'd'), { recursive: true })
      expect(fs.readdirSync(root)).toEqual(['big'])
    })

    test('survives parallel random access', async () => {
      const root = tempDir('sshfs-root', { mode: 0o755 })
      const at = await mount(root)
      const size = 2_000_000
      const model = randomBytes(size)
      fs.writeFileSync(join(at, 'image'), model)
      const fd = fs.openSync(join(at, 'image'), 'r+')
      for (let i = 0; i < 200; i++) {
        const offset = Math.floor((i * 7919 * 131) % (size - 5000))
        const piece = randomBytes(1 + ((i * 37) % 5000))
        fs.writeSync(fd, piece, 0, piece.length, offset)
        piece.copy(model, offset)
        const back = Buffer.alloc(3000)
        const from = (i * 104_729) % (size - 3000)
        fs.readSync(fd, back, 0, 3000, from)
        if (Buffer.compare(back, model.subarray(from, from + 3000)) !== 0)
          throw new Error(`read ${i} differs`)
      }
      fs.fsyncSync(fd)
      fs.closeSync(fd)
      expect(Buffer.compare(fs.readFileSync(join(root, 'image')), model)).toBe(0)
    })
  },
)
