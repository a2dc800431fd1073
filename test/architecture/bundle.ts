/** What a bundler makes of the packages for a page: one file, without anything that only Node has. */
import { gzipSync } from 'node:zlib'
import { type OutputChunk, rolldown } from 'rolldown'
import { NODE_GLOBALS } from './layers.ts'
import { factsOf } from './source-facts.ts'
import { ROOT } from './workspace.ts'

export interface Bundle {
  /** Bytes of what is loaded with the page, each chunk compressed by itself as a server would send it. */
  readonly gzipBytes: number
  /** The same of what is fetched when it is first needed. */
  readonly laterGzipBytes: number
  readonly bytes: number
  /**
   * Bytes, compressed, of what is loaded with the page and of what these modules bring when they are fetched.
   * @param modules names of chunks, which are those of the modules that `import()` names, without `.ts` or `.js`
   * @throws Error for a name that no chunk has
   */
  gzipBytesWith(modules: readonly string[]): number
  /** What is left to be found at run time: modules that a page does not have, and names of Node. Empty where all is well. */
  readonly missing: readonly string[]
  /** Bytes by package and folder before minification, the largest first. */
  readonly parts: readonly (readonly [name: string, bytes: number])[]
}

/** Look whether a name of Node is there (`typeof require`) before they use it, and do without. */
const asksFirst: ReadonlyMap<string, string> = new Map([
  // The bundler's own code for CommonJS modules.
  ['rolldown/runtime.js', 'require'],
  // A dependency of bcrypt-pbkdf. Takes the page's own crypto.getRandomValues first.
  ['tweetnacl', 'require'],
])

/** Bundles a module that is given as text, as a page's build would: platform browser, minified, unused code left out. */
export async function bundle(source: string): Promise<Bundle> {
  const build = await rolldown({
    input: 'page',
    cwd: ROOT,
    platform: 'browser',
    logLevel: 'silent',
    // 'module' and 'default' as every bundler has them; the sources, so that no build is needed.
    resolve: { conditionNames: ['@sshblock/source', 'browser', 'import', 'module', 'default'] },
    plugins: [
      {
        name: 'page',
        resolveId: (id) => (id === 'page' ? '\0page' : undefined),
        load: (id) => (id === '\0page' ? source : undefined),
      },
    ],
  })
  const { output } = await build.generate({ format: 'esm', minify: true })
  await build.close()
  const chunks = output.filter((each): each is OutputChunk => each.type === 'chunk')
  const names = new Set(chunks.map(({ fileName }) => fileName))
  const missing = new Set<string>()
  const parts = new Map<string, number>()
  for (const chunk of chunks) {
    const { imports, globals } = factsOf({ path: `${chunk.fileName}.ts`, source: chunk.code })
    for (const specifier of [...chunk.imports, ...chunk.dynamicImports, ...imports]) {
      if (!names.has(specifier.replace(/^\.\//, ''))) missing.add(specifier)
    }
    const wanted = NODE_GLOBALS.filter((name) => globals.has(name))
    for (const [id, { renderedLength, code }] of Object.entries(chunk.modules)) {
      const part = partOf(id)
      parts.set(part, (parts.get(part) ?? 0) + renderedLength)
      if (wanted.length === 0 || code === null) continue
      const used = factsOf({ path: `${part}.ts`, source: code }).globals
      for (const name of wanted) {
        // The bundler puts a function of its own, __require, in the place of `require`.
        const isUsed = used.has(name) || used.has(`__${name}`)
        if (isUsed && asksFirst.get(part) !== name) missing.add(name)
      }
    }
  }
  const atOnce = loadedAtOnce(chunks)
  const gzipped = (some: readonly OutputChunk[]): number =>
    some.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0)
  return {
    gzipBytes: gzipped(chunks.filter(({ fileName }) => atOnce.has(fileName))),
    laterGzipBytes: gzipped(chunks.filter(({ fileName }) => !atOnce.has(fileName))),
    gzipBytesWith: (modules) => {
      const fetched = modules.map((name) => {
        const chunk = chunks.find((each) => each.name === name)
        if (chunk === undefined)
          throw new Error(`no chunk is named ${name}: ${chunks.map((each) => each.name).join(', ')}`)
        return chunk.fileName
      })
      const loaded = closure(chunks, [...atOnce, ...fetched])
      return gzipped(chunks.filter(({ fileName }) => loaded.has(fileName)))
    },
    bytes: chunks.reduce((sum, { code }) => sum + Buffer.byteLength(code), 0),
    missing: [...missing].sort(),
    parts: [...parts].sort(([, a], [, b]) => b - a),
  }
}

/** The entry and what it imports, and so on; not what `import()` names. */
function loadedAtOnce(chunks: readonly OutputChunk[]): ReadonlySet<string> {
  return closure(
    chunks,
    chunks.filter(({ isEntry }) => isEntry).map(({ fileName }) => fileName),
  )
}

/** These files and what they import, and so on. */
function closure(chunks: readonly OutputChunk[], from: readonly string[]): ReadonlySet<string> {
  const byName = new Map(chunks.map((chunk) => [chunk.fileName, chunk]))
  const reached = new Set<string>()
  const visit = (name: string): void => {
    const chunk = byName.get(name)
    if (chunk === undefined || reached.has(name)) return
    reached.add(name)
    for (const imported of chunk.imports) visit(imported)
  }
  for (const fileName of from) visit(fileName)
  return reached
}

function partOf(id: string): string {
  const dependency = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(id)?.[1]
  if (id.includes('rolldown/runtime.js')) return 'rolldown/runtime.js'
  return dependency ?? /packages\/([a-z0-9-]+\/src\/[^/]+)/.exec(id)?.[1] ?? id
}
