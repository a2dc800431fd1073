// The folder that the embedded server shows where the user names none: a few files, and a disk image with a FAT16 partition
// and a boot sector. In a fresh temporary folder, gone with the process.

import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { demoDiskBytes, makeDemoDisk } from './demo/demo-disk.ts'

export interface DemoFolder {
  readonly root: string
  /** Name of the image in it. */
  readonly image: string
  remove(): Promise<void>
}

const welcome = `Welcome.

This folder is on an SSH server that was started together with this page. The page speaks SSH and
SFTP itself: its WebSocket leads to a relay, which passes on what it cannot read.

- Drop files here to upload them. They are gone when the server is stopped.
- "demo-disk.img" is a disk image: open it as a disk to see its partition and the files in it.
`

export async function makeDemoFolder(): Promise<DemoFolder> {
  const root = await mkdtemp(join(tmpdir(), 'sshblock-web-'))
  const remove = (): Promise<void> => rm(root, { recursive: true, force: true })
  try {
    await writeFile(join(root, 'welcome.txt'), welcome)
    await mkdir(join(root, 'a folder'))
    await writeFile(join(root, 'a folder', 'notes.txt'), 'Rename me, delete me, download me.\n')
    const image = 'demo-disk.img'
    const file = await open(join(root, image), 'wx')
    try {
      await file.truncate(demoDiskBytes)
      for (const { offset, bytes } of makeDemoDisk(new Date()))
        await file.write(bytes, 0, bytes.length, offset)
    } finally {
      await file.close()
    }
    return { root, image, remove }
  } catch (error) {
    await remove()
    throw error
  }
}
