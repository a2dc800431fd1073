import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { run } from '../support/program.ts'
import { type Packed, type PackedPackage, packAll } from './packed.ts'
import { type PackageJson, packageFolders, ROOT, readPackageJson } from './workspace.ts'

const published = packageFolders().filter((folder) => readPackageJson(`packages/${folder}`).private !== true)

let packed: Packed
beforeAll(async () => {
  packed = await packAll()
}, 180_000)

function find(folder: string): PackedPackage {
  const found = packed.packages.find((each) => each.folder === folder)
  if (found === undefined) throw new Error(`${folder} was not packed`)
  return found
}

/** Every file that `exports` and `bin` name. */
function targetsOf({ exports, bin }: PackageJson): string[] {
  const flat = (value: unknown): string[] =>
    typeof value === 'string' ? [value.replace(/^\.\//, '')] : Object.values(value ?? {}).flatMap(flat)
  return flat([exports, bin])
}

describe.each(published)('the tarball of packages/%s', (folder) => {
  test('holds sources, what was built of them, licence and README, and nothing else', () => {
    const { files } = find(folder)
    const sources = files.filter((file) => /^src\/.+\.ts$/.test(file))
    const built = sources
      .filter((file) => !file.endsWith('.d.ts'))
      .map((file) => file.replace(/^src\/(.+)\.ts$/, 'dist/$1'))
      .flatMap((stem) => ['.js', '.js.map', '.d.ts', '.d.ts.map'].map((ending) => stem + ending))
    expect(sources.length).toBeGreaterThan(0)
    const bundled = files.filter((file) => /^dist\/bundle\/[\w-]+\.js(\.map)?$/.test(file))
    expect(files).toEqual(['LICENSE', 'README.md', 'package.json', ...built, ...bundled, ...sources].sort())
    for (const target of targetsOf(find(folder).manifest)) expect(files).toContain(target)
  })

  test('has the licence of the project and a README of its own', () => {
    const home = join(ROOT, 'packages', folder)
    expect(readFileSync(join(home, 'LICENSE'), 'utf8')).toBe(readFileSync(join(ROOT, 'LICENSE'), 'utf8'))
    expect(readFileSync(join(home, 'README.md'), 'utf8')).toContain(`# ${find(folder).manifest.name}\n`)
  })

  test('is imported by Node, every entry of its exports', async () => {
    const { specifiers } = find(folder)
    const script = `const names = {}
for (const specifier of ${JSON.stringify(specifiers)}) names[specifier] = Object.keys(await import(specifier))
console.log(JSON.stringify(names))`
    const said = await run(process.execPath, ['--input-type=module', '-e', script], {
      cwd: packed.consumer,
      env: { NODE_OPTIONS: undefined },
    })
    expect(said.stderr).toBe('')
    const names: Record<string, string[]> = JSON.parse(said.stdout)
    expect(Object.keys(names)).toEqual(specifiers)
    // An entry of types alone, like byte-channel, has no names at run time; a whole package has.
    if (specifiers[0] !== undefined) expect(names[specifiers[0]]).not.toEqual([])
  })
})

// Without skipLibCheck: the declarations themselves have to hold in a project that is not this one.
const strictest = {
  lib: ['ES2023', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable', 'ESNext.Disposable'],
  target: 'ES2022',
  strict: true,
  exactOptionalPropertyTypes: true,
  noEmit: true,
  types: ['node'],
  typeRoots: [join(ROOT, 'node_modules/@types')],
}

/** The TypeScript of a package's README. */
function readmeExamples(folder: string): string[] {
  const text = readFileSync(join(ROOT, 'packages', folder, 'README.md'), 'utf8')
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1] ?? '')
}

function writeExample(consumer: string, index: number, source: string): string {
  const file = `example-${index}.ts`
  writeFileSync(join(consumer, file), source)
  return file
}

describe('the types of the packages', () => {
  test.each([
    ['nodenext', 'nodenext'],
    ['bundler', 'esnext'],
  ])(
    'are sound with moduleResolution %s, and the examples of the READMEs fit them',
    async (moduleResolution, module) => {
      const { consumer, packages } = packed
      const specifiers = packages.flatMap((each) => each.specifiers)
      const lines = specifiers.map((specifier, i) => `export * as m${i} from '${specifier}'`)
      writeFileSync(join(consumer, 'uses.ts'), `${lines.join('\n')}\n`)
      const examples = packages.flatMap(({ folder }) => readmeExamples(folder))
      expect(examples.length).toBeGreaterThanOrEqual(packages.length)
      const files = ['uses.ts', ...examples.map((example, i) => writeExample(consumer, i, example))]
      const config = `tsconfig.${moduleResolution}.json`
      const compilerOptions = { ...strictest, module, moduleResolution }
      writeFileSync(join(consumer, config), JSON.stringify({ compilerOptions, files }))
      const said = await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', config], {
        cwd: consumer,
        timeoutMs: 60_000,
      })
      expect(said.stdout + said.stderr).toBe('')
      expect(said.code).toBe(0)
    },
  )

  test('are missed where a package has none', async () => {
    // The proof that the test above can fail.
    const { consumer } = packed
    writeFileSync(join(consumer, 'misses.ts'), "export * from '@sshblock/transport/no-such-entry'\n")
    const args = ['--module', 'nodenext', '--noEmit', '--ignoreConfig', 'misses.ts']
    const said = await run(join(ROOT, 'node_modules/.bin/tsc'), args, { cwd: consumer, timeoutMs: 60_000 })
    expect(said.code).not.toBe(0)
    expect(said.stdout).toContain('no-such-entry')
  })
})
