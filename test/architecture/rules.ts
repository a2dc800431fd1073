/** The rules of docs/architecture.md as functions over source files, so that the test can show that each one bites. */
import { posix } from 'node:path'
import { DRIVER_FILES, LAYERS, NODE_FILES, NODE_GLOBALS, PACKAGES, PROVIDER_FILES } from './layers.ts'
import { factsOf, type SourceFacts, type SourceFile } from './source-facts.ts'

export interface Violation {
  readonly path: string
  readonly rule:
    | 'unknown package'
    | 'unknown folder'
    | 'reversed arrow'
    | 'leaves the package'
    | 'package arrow'
    | 'undeclared dependency'
    | 'node import'
    | 'node global'
    | 'node file in neutral code'
    | 'provider'
    | 'subtle'
    | 'random'
    | 'erasable'
    | 'eval'
  readonly detail: string
}

/** A package.json, for what a package may import by name. */
export interface Manifest {
  /** The folder's name below packages/. */
  readonly folder: string
  readonly name: string
  readonly dependencies: readonly string[]
  /** Sources of its commands: they run on Node whatever their name. */
  readonly commands: readonly string[]
}

const ENTRY_POINT = /^packages\/[a-z]+\/src\/(index|node|browser)\.ts$/

interface Place {
  readonly packageFolder: string
  /** Below src/. */
  readonly inside: string
}

function placeOf(path: string): Place | undefined {
  const match = /^packages\/([a-z0-9-]+)\/src\/(.+)$/.exec(path)
  return match?.[1] === undefined || match[2] === undefined
    ? undefined
    : { packageFolder: match[1], inside: match[2] }
}

/** The row of LAYERS that a file is in. Named files come before their folder, and `*` last. */
function rowOf({ packageFolder, inside }: Place): number | undefined {
  const rows = LAYERS.get(packageFolder)
  if (rows === undefined) return undefined
  const slash = inside.indexOf('/')
  const folder = slash < 0 ? '*' : inside.slice(0, slash + 1)
  for (const wanted of [inside, folder]) {
    const row = rows.findIndex((names) => names.includes(wanted))
    if (row >= 0) return row
  }
  return -1
}

/** The package that a specifier names: '@scope/name/sub' is of '@scope/name'. */
function packageOf(specifier: string): string {
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? specifier)
}

class Check {
  readonly violations: Violation[] = []
  readonly #manifests: ReadonlyMap<string, Manifest>

  constructor(manifests: readonly Manifest[]) {
    this.#manifests = new Map(manifests.map((manifest) => [manifest.folder, manifest]))
  }

  file(path: string, facts: SourceFacts): void {
    const place = placeOf(path)
    const rule = place === undefined ? undefined : PACKAGES.get(place.packageFolder)
    if (place === undefined || rule === undefined) {
      this.#report(path, 'unknown package', 'no rule says what it may import: see layers.ts')
      return
    }
    const manifest = this.#manifests.get(place.packageFolder)
    const onNode = rule.nodeOnly || NODE_FILES.test(path) || manifest?.commands.includes(path) === true
    const row = rowOf(place)
    if (row === -1) this.#report(path, 'unknown folder', 'it is in no layer: see layers.ts')
    for (const specifier of facts.imports) {
      if (specifier.startsWith('.')) this.#relative(path, place, row, onNode, specifier)
      else if (specifier.startsWith('node:')) {
        if (!onNode) this.#report(path, 'node import', `${specifier}, and its name is not node*.ts or tcp.ts`)
      } else this.#bare(path, place, onNode, specifier, manifest)
    }
    this.#names(path, facts, onNode)
  }

  #relative(path: string, place: Place, row: number | undefined, onNode: boolean, specifier: string): void {
    const target = posix.normalize(posix.join(posix.dirname(path), specifier))
    const there = placeOf(target)
    if (there === undefined || there.packageFolder !== place.packageFolder) {
      this.#report(path, 'leaves the package', specifier)
      return
    }
    const targetRow = rowOf(there)
    if (row !== undefined && targetRow !== undefined && targetRow > row)
      this.#report(path, 'reversed arrow', specifier)
    // An entry point for Node may be the default one of a package, and browser code must not reach it.
    if (!onNode && NODE_FILES.test(target)) this.#report(path, 'node file in neutral code', specifier)
    const sameFolder = posix.dirname(path) === posix.dirname(target)
    if (PROVIDER_FILES.test(target) && !sameFolder && !ENTRY_POINT.test(path) && !NODE_FILES.test(path)) {
      this.#report(path, 'provider', `${specifier} is for entry points to hand out`)
    }
  }

  #bare(
    path: string,
    place: Place,
    onNode: boolean,
    specifier: string,
    manifest: Manifest | undefined,
  ): void {
    const name = packageOf(specifier)
    if (manifest !== undefined && name !== manifest.name && !manifest.dependencies.includes(name)) {
      this.#report(path, 'undeclared dependency', specifier)
    }
    if (!name.startsWith('@sshblock/')) return
    const imports: readonly string[] = PACKAGES.get(place.packageFolder)?.imports ?? []
    const platform: readonly string[] = PACKAGES.get(place.packageFolder)?.platform ?? []
    const entry = onNode || ENTRY_POINT.test(path)
    const driver = DRIVER_FILES.some(
      ({ file, imports: joined }) => file.test(path) && joined.includes(specifier),
    )
    if (!imports.includes(specifier) && !(entry && platform.includes(specifier)) && !driver) {
      this.#report(path, 'package arrow', specifier)
    }
  }

  #names(path: string, facts: SourceFacts, onNode: boolean): void {
    if (!onNode) {
      for (const name of NODE_GLOBALS) if (facts.globals.has(name)) this.#report(path, 'node global', name)
    }
    if (
      facts.accesses.has('.subtle') &&
      !/^packages\/transport\/src\/crypto\/web[a-z0-9-]*\.ts$/.test(path)
    ) {
      this.#report(path, 'subtle', 'crypto.subtle belongs into crypto/web*.ts')
    }
    if (facts.accesses.has('Math.random')) this.#report(path, 'random', 'Math.random is predictable')
    for (const construct of facts.constructs) {
      if (construct === 'eval') this.#report(path, 'eval', 'text becomes code')
      // A declaration file declares modules, which leaves no trace at run time.
      else if (!path.endsWith('.d.ts')) this.#report(path, 'erasable', construct)
    }
  }

  #report(path: string, rule: Violation['rule'], detail: string): void {
    this.violations.push({ path, rule, detail })
  }
}

/** All violations in a tree of source files. Tests and files outside packages/NAME/src are none of its business. */
export function checkArchitecture(files: readonly SourceFile[], manifests: readonly Manifest[]): Violation[] {
  const check = new Check(manifests)
  for (const file of files) check.file(file.path, factsOf(file))
  return check.violations
}

/**
 * The bare specifiers that a file reaches, itself and through relative imports, among `files`: what a bundler would pull
 * in from an entry point.
 */
export function reachedFrom(entry: string, files: readonly SourceFile[]): Set<string> {
  const sources = new Map(files.map((file) => [file.path, file]))
  const seen = new Set<string>()
  const bare = new Set<string>()
  const queue = [entry]
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    const file = sources.get(path)
    if (file === undefined || seen.has(path)) continue
    seen.add(path)
    for (const specifier of factsOf(file).imports) {
      if (specifier.startsWith('.')) queue.push(posix.normalize(posix.join(posix.dirname(path), specifier)))
      else bare.add(specifier)
    }
  }
  return bare
}
