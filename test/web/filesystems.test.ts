/** The page's own readers of partition tables and file systems, on images that others made. */
import { openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { demoDiskBytes, makeDemoDisk } from '../../packages/web/src/demo/demo-disk.ts'
import { openVolume, partOf } from '../../packages/web/src/filesystems/open-volume.ts'
import { readPartitionTable } from '../../packages/web/src/filesystems/partition-table.ts'
import { run, runOrThrow } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import {
  addLinksAndHoles,
  contentOf,
  everything,
  makeExt,
  makeFat,
  mtoolsEnvironment,
  needsE2fsprogs,
  needsMtools,
  needsSfdisk,
  sampleTree,
  smallTree,
  volumeOf,
} from './image-files.ts'

const mebibyte = 1024 * 1024

function demoImage(): Buffer {
  const image = Buffer.alloc(demoDiskBytes)
  for (const { offset, bytes } of makeDemoDisk(new Date('2026-03-04T05:06:08Z'))) image.set(bytes, offset)
  return image
}

describeWith([needsE2fsprogs], 'ext', () => {
  it.each([
    ['ext2', ['-t', 'ext2', '-b', '1024']],
    ['ext2', ['-t', 'ext2', '-b', '4096', '-I', '128', '-r', '1']],
    ['ext3', ['-t', 'ext3', '-b', '2048']],
    ['ext4', ['-t', 'ext4', '-b', '1024']],
    ['ext4', ['-t', 'ext4', '-b', '4096', '-O', '64bit,metadata_csum']],
    ['ext4', ['-t', 'ext4', '-O', '^64bit,^extent,^metadata_csum']],
  ])('%s made with %j gives every file, byte for byte', async (kind, options) => {
    const { root, files } = sampleTree()
    const sparse = addLinksAndHoles(root)
    const opened = await openVolume(volumeOf(await makeExt(root, options)))
    expect(opened.fileSystem).toMatchObject({ kind, label: 'sample', notes: [] })
    const found = await everything(opened.fileSystem!.root)
    for (const [path, bytes] of files) expect(Buffer.compare(found.get(path)!, bytes), path).toBe(0)
    expect(Buffer.compare(found.get('sparse')!, sparse)).toBe(0)
    expect(Buffer.from(found.get('link')!).toString()).toBe('short.txt')
    expect(Buffer.from(found.get('long-link')!).toString()).toBe(`/${'x'.repeat(80)}`)
    expect([...found.keys()].filter((path) => !files.has(path)).sort()).toEqual([
      'link',
      'long-link',
      'sparse',
    ])
  })

  it('that was not unmounted says so', async () => {
    const { root } = sampleTree()
    const image = await makeExt(root, ['-t', 'ext4'])
    await runOrThrow('debugfs', ['-w', '-R', 'feature needs_recovery', image])
    const { fileSystem } = await openVolume(volumeOf(image))
    expect(fileSystem?.notes.join()).toMatch(/journal/)
  })

  it('with any byte of its metadata changed ends in an answer or an error, and soon', async () => {
    const root = smallTree()
    addLinksAndHoles(root)
    const good = readFileSync(await makeExt(root, ['-t', 'ext4', '-b', '1024', '-O', '^has_journal'], '1M'))
    const outcomes = new Set<string>()
    for (let at = 1024; at < 60 * 1024; at += at < 1300 ? 19 : 997) {
      const image = Buffer.from(good)
      image[at]! ^= 0xff
      const outcome = await openVolume(volumeOf(image))
        .then(async ({ fileSystem }) => (fileSystem === undefined ? 'unknown' : everything(fileSystem.root)))
        .then(
          () => 'read',
          (error: Error) => error.name,
        )
      outcomes.add(outcome)
    }
    for (const outcome of outcomes) expect(['read', 'unknown', 'FileSystemError']).toContain(outcome)
    expect(outcomes).toContain('FileSystemError')
  })
})

describeWith([needsMtools], 'FAT', () => {
  it.each([12, 16, 32] as const)('%d of mtools gives every file, byte for byte', async (bits) => {
    const { root, files } = sampleTree()
    const { fileSystem } = await openVolume(volumeOf(await makeFat(root, bits)))
    expect(fileSystem).toMatchObject({ kind: `FAT${bits}`, label: 'SAMPLE' })
    const found = await everything(fileSystem!.root)
    expect([...found.keys()].sort()).toEqual([...files.keys()].sort())
    for (const [path, bytes] of files) expect(Buffer.compare(found.get(path)!, bytes), path).toBe(0)
  })

  it('with a chain of clusters that bites its tail is an error', async () => {
    const { root } = sampleTree()
    const image = readFileSync(await makeFat(root, 16))
    const fatAt = image.readUInt16LE(14) * 512
    // Every cluster is its own successor.
    for (let cluster = 2; cluster < 10_000; cluster++) image.writeUInt16LE(cluster, fatAt + 2 * cluster)
    const { fileSystem } = await openVolume(volumeOf(image))
    const entries = await fileSystem!.root.entries()
    const folder = entries.find(({ name }) => name === 'many')
    await expect(folder!.entries()).rejects.toThrow(/longer than FAT allows/)
    // A file ends with its size, whatever its chain says.
    const file = entries.find(({ name }) => name === 'short.txt')
    expect(Buffer.from(await contentOf(file!)).toString()).toBe('a few words\n')
  })

  it('of the demo disk is what mtools reads, and what we read', async () => {
    const image = demoImage()
    const path = join(tempDir('demo'), 'disk')
    writeFileSync(path, image)
    const table = await readPartitionTable(volumeOf(image))
    expect(table).toMatchObject({
      scheme: 'MBR',
      partitions: [{ number: 1, bootable: true, type: 'FAT16 (LBA)' }],
    })
    const [partition] = table.partitions
    const { fileSystem } = await openVolume(partOf(volumeOf(image), partition!.start, partition!.length))
    const found = await everything(fileSystem!.root)
    const drive = `${path}@@${partition!.start}`
    const listing = await runOrThrow('mdir', ['-i', drive, '-/', '-b', '::'], { env: mtoolsEnvironment })
    const theirs = listing.stdout
      .trim()
      .split('\n')
      .map((line) => line.replace('::/', ''))
      .filter((line) => !line.endsWith('/'))
    expect([...found.keys()].sort()).toEqual(theirs.sort())
    for (const [name, bytes] of found) {
      const { stdout } = await runOrThrow('mtype', ['-i', drive, `::/${name}`], { env: mtoolsEnvironment })
      expect(stdout, name).toBe(Buffer.from(bytes).toString())
    }
    const readme = (await fileSystem!.root.entries()).find(({ name }) => name === 'Read me first.txt')
    expect(readme?.modified?.toISOString()).toBe('2026-03-04T05:06:08.000Z')
    expect((await contentOf(readme!)).length).toBe(readme?.size)
  })
})

describeWith([needsSfdisk], 'a partition table', () => {
  const script = {
    dos: 'label: dos\nstart=2048,size=4096,type=83,bootable\nstart=8192,size=20480,type=5\nstart=8400,size=1000,type=82\nstart=12000,size=2000,type=b\n',
    gpt: 'label: gpt\nstart=2048,size=4096,type=U,name="EFI part"\nstart=8192,size=8192,type=L,name="Ünïcode"\n',
  }

  async function disk(kind: keyof typeof script): Promise<string> {
    const path = join(tempDir('disk'), kind)
    writeFileSync(path, '')
    truncateSync(path, 20 * mebibyte)
    await runOrThrow('sfdisk', ['-q', path], { input: script[kind] })
    return path
  }

  it.each(['dos', 'gpt'] as const)('of the kind %s is what sfdisk says', async (kind) => {
    const path = await disk(kind)
    const { stdout } = await runOrThrow('sfdisk', ['-J', path])
    const theirs = (
      JSON.parse(stdout) as {
        partitiontable: {
          partitions: { start: number; size: number; name?: string; bootable?: boolean; node: string }[]
        }
      }
    ).partitiontable.partitions
    const table = await readPartitionTable(volumeOf(path))
    expect(table.scheme).toBe(kind === 'dos' ? 'MBR' : 'GPT')
    expect(
      table.partitions.map(({ number, start, length, name, bootable }) => [
        number,
        start / 512,
        length / 512,
        name,
        bootable,
      ]),
    ).toEqual(
      theirs.map(({ node, start, size, name = '', bootable = false }) => [
        Number(/\d+$/.exec(node)![0]),
        start,
        size,
        name,
        bootable,
      ]),
    )
  })

  it('whose first copy is damaged is read from the end of the disk', async () => {
    const path = await disk('gpt')
    const file = openSync(path, 'r+')
    writeSync(file, new Uint8Array(16), 0, 16, 520)
    const table = await readPartitionTable(volumeOf(path))
    expect(table.notes.join()).toMatch(/damaged/)
    expect(table.partitions.map(({ name }) => name)).toEqual(['EFI part', 'Ünïcode'])
    expect((await run('sfdisk', ['-J', path])).code).toBe(0)
  })
})

describe('a disk without a partition table', () => {
  it('is one partition, also where its volume has a boot sector', async () => {
    const { start, length } = (await readPartitionTable(volumeOf(demoImage()))).partitions[0]!
    const volume = demoImage().subarray(start, start + length)
    expect(await readPartitionTable(volumeOf(volume))).toMatchObject({
      scheme: 'none',
      partitions: [{ number: 0, start: 0, length: volume.length }],
    })
    expect(await readPartitionTable(volumeOf(new Uint8Array(100)))).toMatchObject({ scheme: 'none' })
  })

  it('of another kind is called by its name', async () => {
    const ntfs = Buffer.alloc(4096)
    ntfs.write('NTFS    ', 3, 'latin1')
    expect(await openVolume(volumeOf(ntfs))).toEqual({ fileSystem: undefined, recognised: 'NTFS' })
    expect(await openVolume(volumeOf(new Uint8Array(4096)))).toEqual({
      fileSystem: undefined,
      recognised: undefined,
    })
  })
})
