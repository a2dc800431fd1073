/**
 * The packages as users get them: built from a clean copy of the sources, packed by npm, and laid out in the
 * node_modules of a folder that knows nothing of this repository. No registry is asked: what the packages depend on is
 * linked from the repository's node_modules, for each package only what its manifest declares.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { runOrThrow } from '../support/program.ts'
import { tempDir } from '../support/temp-dir.ts'
import { type PackageJson, packageFolders, ROOT, readPackageJson } from './workspace.ts'

export interface PackedPackage {
  /** Below packages/. */
  readonly folder: string
  readonly manifest: PackageJson
  /** Every file of the tarball, sorted. */
  readonly files: readonly string[]
  /** What `exports` offers: '@sshblock/x', '@sshblock/x/node', ... */
  readonly specifiers: readonly string[]
}

export interface Packed {
  readonly packages: readonly PackedPackage[]
  /** A folder whose node_modules holds the packages. */
  readonly consumer: string
}

const BUILD_TIMEOUT_MS = 120_000

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path)
}

/** A package of this repository, which npm has linked into its node_modules as well. */
function isOurs(name: string): boolean {
  return (
    name.startsWith('@sshblock') ||
    packageFolders().some((folder) => readPackageJson(`packages/${folder}`).name === name)
  )
}

/** Links node_modules/NAME of the repository for all names, but its own packages. */
function linkTools(folder: string): void {
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    if (!name.startsWith('.') && !isOurs(name))
      link(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name))
  }
}

/** Copies what is under version control of each package, so that nothing of an earlier build gets in, and builds it. */
async function buildCopy(): Promise<string> {
  const copy = tempDir('build', { scope: 'file' })
  linkTools(copy)
  cpSync(join(ROOT, 'tsconfig.base.json'), join(copy, 'tsconfig.base.json'))
  const references = packageFolders().map((folder) => ({ path: `packages/${folder}` }))
  writeFileSync(join(copy, 'tsconfig.json'), JSON.stringify({ files: [], references }))
  for (const folder of packageFolders()) {
    const left = new Set(['dist', 'node_modules'])
    for (const entry of readdirSync(join(ROOT, 'packages', folder))) {
      if (left.has(entry)) continue
      cpSync(join(ROOT, 'packages', folder, entry), join(copy, 'packages', folder, entry), {
        recursive: true,
      })
    }
    link(
      join(copy, 'packages', folder),
      join(copy, 'node_modules', readPackageJson(`packages/${folder}`).name),
    )
  }
  await runOrThrow(join(ROOT, 'node_modules/.bin/tsc'), ['-b'], { cwd: copy, timeoutMs: BUILD_TIMEOUT_MS })
  await runOrThrow(process.execPath, [join(ROOT, 'scripts/bundle-for-node.mjs'), copy])
  return copy
}

function specifiersOf({ name, exports }: PackageJson): string[] {
  if (exports === undefined) return [] // A package of commands.
  const paths = typeof exports === 'object' && exports !== null ? Object.keys(exports) : ['.']
  return paths.filter((path) => path !== './package.json').map((path) => name + path.slice(1))
}

/** Packs one package of the copy and unpacks it in the consumer's node_modules. */
async function pack(
  folder: string,
  manifest: PackageJson,
  copy: string,
  consumer: string,
): Promise<PackedPackage> {
  const args = ['pack', '--json', '--silent', '--offline', '--pack-destination', copy]
  const packed = await runOrThrow('npm', args, { cwd: join(copy, 'packages', folder) })
  const [report] = JSON.parse(packed.stdout) as { filename: string; files: { path: string }[] }[]
  if (report === undefined) throw new Error(`npm pack said nothing about ${folder}`)
  const home = join(consumer, 'node_modules', manifest.name)
  mkdirSync(home, { recursive: true })
  const tarball = join(copy, report.filename.replace('@', '').replaceAll('/', '-'))
  await runOrThrow('tar', ['-xzf', tarball, '--strip-components=1', '-C', home])
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })) {
    // npm puts a second version of a package below the one that wants it.
    const places = [join(ROOT, 'packages', folder), ROOT].map((place) => join(place, 'node_modules', name))
    const place = places.find(existsSync)
    if (!isOurs(name) && place !== undefined) link(place, join(home, 'node_modules', name))
  }
  return {
    folder,
    manifest,
    files: report.files.map(({ path }) => path).sort(),
    specifiers: specifiersOf(manifest),
  }
}

export async function packAll(): Promise<Packed> {
  const copy = await buildCopy()
  const consumer = tempDir('consumer', { scope: 'file' })
  writeFileSync(
    join(consumer, 'package.json'),
    JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  )
  const published = packageFolders()
    .map((folder) => ({ folder, manifest: readPackageJson(`packages/${folder}`) }))
    .filter(({ manifest }) => manifest.private !== true)
  const packages = await Promise.all(
    published.map(({ folder, manifest }) => pack(folder, manifest, copy, consumer)),
  )
  return { packages, consumer }
}
