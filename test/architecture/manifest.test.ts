import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkLock, checkManifest } from './manifest-rules.ts'
import { type PackageJson, packageFolders, ROOT, readPackageJson } from './workspace.ts'

describe('the manifests', () => {
  test.each(packageFolders())('packages/%s installs without scripts and pins what it needs', (folder) => {
    const manifest = readPackageJson(`packages/${folder}`)
    expect(checkManifest(manifest, manifest.private !== true)).toEqual([])
  })

  test('the root pins its tools', () => {
    expect(checkManifest(readPackageJson('.'), false)).toEqual([])
  })

  test('all packages have one version', () => {
    expect(
      new Set(packageFolders().map((folder) => readPackageJson(`packages/${folder}`).version)).size,
    ).toBe(1)
  })

  test('the lock file has an integrity for each package, no install script and no host', () => {
    expect(checkLock(JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')))).toEqual([])
  })

  test('npm runs no install script', () => {
    expect(readFileSync(join(ROOT, '.npmrc'), 'utf8')).toMatch(/^ignore-scripts=true$/m)
  })
})

describe('the check', () => {
  const good: PackageJson = {
    name: '@sshblock/x',
    version: '1.2.3',
    description: 'x',
    license: 'MIT',
    type: 'module',
    engines: { node: '>=20.19' },
    files: ['dist'],
    exports: './dist/index.js',
    scripts: { test: 'true' },
    dependencies: { '@noble/hashes': '2.4.0', '@sshblock/y': '1.2.3' },
  }

  test('has nothing to say about a good manifest', () => {
    expect(checkManifest(good, true)).toEqual([])
  })

  test.each<[string, Partial<PackageJson>]>([
    ['runs a script at install: postinstall', { scripts: { postinstall: 'true' } }],
    ['runs a script at install: prepare', { scripts: { prepare: 'true' } }],
    ['builds an add-on at install', { gypfile: true }],
    ['does not pin @noble/hashes: ^2.4.0', { dependencies: { '@noble/hashes': '^2.4.0' } }],
    ['does not pin a: *', { dependencies: { a: '*' } }],
    ['does not pin a: github:b/c', { optionalDependencies: { a: 'github:b/c' } }],
    ['wants @sshblock/y 1.2.2 but is itself 1.2.3', { dependencies: { '@sshblock/y': '1.2.2' } }],
    ['has no MIT licence', { license: 'ISC' }],
    ['is no ES module package', { type: 'commonjs' }],
    ['does not say which Node it needs', { engines: {} }],
    ['is private', { private: true }],
    ['has no version', { version: '1.2', dependencies: {} }],
    ['has no description', { description: '' }],
    ['has development dependencies of its own', { devDependencies: { vitest: '4.1.12' } }],
  ])('says: %s', (complaint, change) => {
    expect(checkManifest({ ...good, ...change }, true)).toContain(complaint)
  })

  test.each([
    ['node_modules/a has no integrity', {}],
    ['node_modules/a has no integrity', { optional: true }],
    ['node_modules/a has no integrity', { optional: true, os: ['linux'] }],
    ['node_modules/a has no integrity', { os: ['darwin'] }],
    ['node_modules/a has an install script', { integrity: 'sha512-x', hasInstallScript: true }],
    ['node_modules/a names a host', { integrity: 'sha512-x', resolved: 'https://registry.example/a.tgz' }],
  ])('says of a lock file: %s', (complaint, entry) => {
    expect(checkLock({ packages: { '': {}, 'packages/x': {}, 'node_modules/a': entry } })).toEqual([
      complaint,
    ])
  })
})
