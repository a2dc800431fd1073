/** Rules for package.json and the lock file: nothing runs at install, nothing changes by itself, nothing is left unsaid. */
import type { PackageJson } from './workspace.ts'

// What npm runs while it installs a package from a registry, or from git.
const INSTALL_SCRIPTS = [
  'preinstall',
  'install',
  'postinstall',
  'prepare',
  'preprepare',
  'postprepare',
  'prepublish',
]

const EXACT = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/

/** What is wrong with a manifest; empty where all is well. */
export function checkManifest(manifest: PackageJson, published: boolean): string[] {
  const wrong: string[] = []
  for (const script of INSTALL_SCRIPTS) {
    if (manifest.scripts?.[script] !== undefined) wrong.push(`runs a script at install: ${script}`)
  }
  if (manifest.gypfile === true) wrong.push('builds an add-on at install')
  const { dependencies, devDependencies, optionalDependencies } = manifest
  for (const [name, range] of Object.entries({
    ...devDependencies,
    ...optionalDependencies,
    ...dependencies,
  })) {
    if (!EXACT.test(range)) wrong.push(`does not pin ${name}: ${range}`)
    if (name.startsWith('@sshblock/') && manifest.version !== undefined && range !== manifest.version) {
      wrong.push(`wants ${name} ${range} but is itself ${manifest.version}`)
    }
  }
  if (manifest.license !== 'MIT') wrong.push('has no MIT licence')
  if (manifest.type !== 'module') wrong.push('is no ES module package')
  if (manifest.engines?.['node'] === undefined) wrong.push('does not say which Node it needs')
  if (published) {
    if (manifest.private === true) wrong.push('is private')
    if (manifest.version === undefined || !EXACT.test(manifest.version)) wrong.push('has no version')
    if ((manifest.description ?? '') === '') wrong.push('has no description')
    if (manifest.files === undefined) wrong.push('does not list its files')
    if (manifest.exports === undefined && manifest.bin === undefined) wrong.push('exports nothing')
    if (Object.keys(devDependencies ?? {}).length > 0) wrong.push('has development dependencies of its own')
  }
  return wrong
}

export interface LockFile {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly integrity?: string
        readonly resolved?: string
        readonly link?: boolean
        readonly optional?: boolean
        readonly os?: readonly string[]
        readonly libc?: readonly string[]
        readonly hasInstallScript?: boolean
      }
    >
  >
}

/** What is wrong with package-lock.json. */
export function checkLock(lock: LockFile): string[] {
  const wrong: string[] = []
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (!path.includes('node_modules/') || entry.link === true) continue
    // A registry that lacks a tool's binary for another platform cannot tell its integrity; npm fills it in there.
    const foreign = entry.os?.includes('linux') === false || entry.libc?.includes('glibc') === false
    const elsewhere = entry.optional === true && foreign
    if (entry.integrity === undefined && !elsewhere) wrong.push(`${path} has no integrity`)
    if (entry.hasInstallScript === true) wrong.push(`${path} has an install script`)
    // Registries differ from machine to machine; the integrity says what the package is.
    if (entry.resolved !== undefined) wrong.push(`${path} names a host`)
  }
  return wrong
}
