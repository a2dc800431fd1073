/** The repository as the architecture tests see it: sources and manifests of all packages. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Manifest } from './rules.ts'
import type { SourceFile } from './source-facts.ts'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** A package.json as npm reads it, as far as the tests look at it. */
export interface PackageJson {
  readonly name: string
  readonly version?: string
  readonly private?: boolean
  readonly description?: string
  readonly license?: string
  readonly type?: string
  readonly engines?: Readonly<Record<string, string>>
  readonly files?: readonly string[]
  readonly bin?: string | Readonly<Record<string, string>>
  readonly exports?: unknown
  readonly scripts?: Readonly<Record<string, string>>
  readonly gypfile?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

export function readPackageJson(folder: string): PackageJson {
  return JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'))
}

/** The folders below packages/ that hold a package, sorted. */
export function packageFolders(): string[] {
  return readdirSync(join(ROOT, 'packages'))
    .filter((name) => existsSync(join(ROOT, 'packages', name, 'package.json')))
    .sort()
}

/** Every TypeScript file below packages/NAME/src. */
export function sourceFiles(): SourceFile[] {
  return packageFolders().flatMap((name) => {
    const folder = posix.join('packages', name, 'src')
    if (!existsSync(join(ROOT, folder))) return []
    return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => posix.join(folder, file.replaceAll('\\', '/')))
      .map((path) => ({ path, source: readFileSync(join(ROOT, path), 'utf8') }))
  })
}

/** What `bin` of a package.json names, as sources: ./dist/x.js and ./dist/bundle/x.js are made from src/x.ts. */
export function commandSources(folder: string, bin: PackageJson['bin']): string[] {
  const targets = bin === undefined ? [] : typeof bin === 'string' ? [bin] : Object.values(bin)
  return targets.map((target) =>
    posix.join(
      'packages',
      folder,
      posix
        .normalize(target)
        .replace(/^dist\/(bundle\/)?/, 'src/')
        .replace(/\.js$/, '.ts'),
    ),
  )
}

export function manifests(): Manifest[] {
  return packageFolders().map((folder) => {
    const {
      name,
      dependencies = {},
      optionalDependencies = {},
      peerDependencies = {},
      bin,
    } = readPackageJson(`packages/${folder}`)
    const known = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })
    return { folder, name, dependencies: known, commands: commandSources(folder, bin) }
  })
}
