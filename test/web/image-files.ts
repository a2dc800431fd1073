/** Disk images with known files, made by the tools of e2fsprogs, mtools and util-linux. */
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FileSystemEntry, Volume } from '../../packages/web/src/filesystems/file-system.ts'
import { writeNoise } from '../support/our-server.ts'
import { runOrThrow } from '../support/program.ts'
import { needsPrograms } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'

export const needsE2fsprogs = needsPrograms('e2fsprogs', ['mke2fs', 'debugfs'], 'e2fsprogs')
export const needsMtools = needsPrograms('mtools', ['mformat', 'mcopy', 'mdir'], 'mtools')
export const needsSfdisk = needsPrograms('sfdisk', ['sfdisk'], 'fdisk')

/** A folder with small, large, empty and sparse files, links and many names. */
export function sampleTree(): { root: string; files: ReadonlyMap<string, Uint8Array> } {
  const root = join(tempDir('tree'), 'root')
  const deep = join(root, 'deep', 'deeper')
  mkdirSync(deep, { recursive: true })
  mkdirSync(join(root, 'many'))
  const files = new Map<string, Uint8Array>()
  const put = (path: string, bytes: Uint8Array): void => {
    writeFileSync(join(root, path), bytes)
    files.set(path, bytes)
  }
  put('empty', new Uint8Array(0))
  put('short.txt', new TextEncoder().encode('a few words\n'))
  put('A name with blanks, and Ümläuts.text', new TextEncoder().encode('grüße\n'))
  // Beyond twelve direct blocks and one table of 256.
  put('deep/large.bin', writeNoise(join(deep, 'large'), 700_001, 5))
  put('deep/deeper/exact.bin', new Uint8Array(4096).fill(7))
  for (let i = 0; i < 150; i++) put(`many/file-${i}`, new TextEncoder().encode(`${i}`))
  files.set('deep/deeper/large', files.get('deep/large.bin')!)
  return { root, files }
}

/** A folder with three files, for images that are opened a few hundred times. */
export function smallTree(): string {
  const root = join(tempDir('tree'), 'root')
  mkdirSync(join(root, 'folder'), { recursive: true })
  writeFileSync(join(root, 'folder', 'file'), new Uint8Array(20_000).fill(1))
  writeFileSync(join(root, 'short.txt'), 'short')
  return root
}

/** Adds what only ext knows: a link, a long link, and a file with holes. */
export function addLinksAndHoles(root: string): Uint8Array {
  symlinkSync('short.txt', join(root, 'link'))
  symlinkSync(`/${'x'.repeat(80)}`, join(root, 'long-link'))
  const sparse = join(root, 'sparse')
  writeFileSync(sparse, 'begin')
  truncateSync(sparse, 3_000_000)
  const bytes = new Uint8Array(3_000_000)
  bytes.set(new TextEncoder().encode('begin'))
  return bytes
}

export async function makeExt(root: string, options: readonly string[], size = '12M'): Promise<string> {
  const image = join(tempDir('ext'), 'image')
  const args = ['-q', '-F', '-d', root, '-L', 'sample', '-U', '11111111-2222-4333-8444-555555555555']
  await runOrThrow('mke2fs', [...args, ...options, image, size])
  return image
}

export async function makeFat(root: string, bits: 12 | 16 | 32): Promise<string> {
  const image = join(tempDir('fat'), 'image')
  const megabytes = { 12: 4, 16: 20, 32: 40 }[bits]
  writeFileSync(image, '')
  truncateSync(image, megabytes * 1024 * 1024)
  const clusterSectors = bits === 12 ? '8' : '1'
  const sectors = String(megabytes * 2048)
  const args = ['-i', image, '-T', sectors, '-h', '16', '-s', '63', '-c', clusterSectors, '-v', 'SAMPLE']
  await runOrThrow('mformat', [...args, ...(bits === 32 ? ['-F'] : []), '::'], { env: mtoolsEnvironment })
  const copy = [
    '-i',
    image,
    '-s',
    '-Q',
    '-m',
    ...['empty', 'short.txt', 'A name with blanks, and Ümläuts.text', 'deep', 'many'].map((name) =>
      join(root, name),
    ),
    '::',
  ]
  await runOrThrow('mcopy', copy, { env: mtoolsEnvironment })
  return image
}

/** UTF-8 names, and images of any geometry. */
export const mtoolsEnvironment = { MTOOLS_SKIP_CHECK: '1', LC_ALL: 'C.UTF-8' }

/** A file as a volume; counts what is read. */
export function volumeOf(image: string | Uint8Array): Volume {
  const bytes = typeof image === 'string' ? readFileSync(image) : image
  return {
    size: bytes.length,
    async read(offset, into) {
      if (offset + into.length > bytes.length) throw new Error(`read at ${offset} of ${bytes.length}`)
      into.set(bytes.subarray(offset, offset + into.length))
    },
  }
}

/** Every file below a directory by path, with its content; directories have none. */
export async function everything(
  directory: FileSystemEntry,
  prefix = '',
  depth = 0,
): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>()
  // A damaged image may have a directory inside itself.
  if (depth > 6) return found
  for (const entry of await directory.entries()) {
    const path = prefix + entry.name
    if (entry.type === 'directory') {
      for (const [name, bytes] of await everything(entry, `${path}/`, depth + 1)) found.set(name, bytes)
    } else found.set(path, await contentOf(entry))
  }
  return found
}

export async function contentOf(entry: FileSystemEntry): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const piece of entry.content()) parts.push(piece)
  return new Uint8Array(Buffer.concat(parts))
}
