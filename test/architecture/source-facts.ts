/** What one source file says about itself, read from its syntax tree: imports, global names, forbidden constructs. */
import { parseSync } from 'vite'

export interface SourceFile {
  /** From the root of the repository, with forward slashes. */
  readonly path: string
  readonly source: string
}

export interface SourceFacts {
  /** Specifiers of every import, export-from, import() and import type, type-only ones included. */
  readonly imports: readonly string[]
  /** Names used that no declaration of the file binds: what the platform has to provide. Types count. */
  readonly globals: ReadonlySet<string>
  /** Dotted accesses of two names, like Math.random; `globalThis.x.y` counts as `x.y` and `globalThis.x` as a global x. */
  readonly accesses: ReadonlySet<string>
  /** Kinds of syntax that TypeScript cannot erase, or that run text as code. */
  readonly constructs: ReadonlySet<'enum' | 'namespace' | 'parameter property' | 'eval'>
}

/** A node of the ESTree, as far as this file has to look into it. */
interface Node {
  readonly type: string
  readonly [key: string]: unknown
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string'
}

function nameOf(node: unknown): string | undefined {
  if (!isNode(node)) return undefined
  if (node.type === 'Identifier') return node['name'] as string
  if (node.type === 'Literal' && typeof node['value'] === 'string') return node['value']
  return undefined
}

/** The parts of a node that hold names without being uses of them: keys, labels, names of exports. */
function isMereName(parent: Node, key: string): boolean {
  switch (parent.type) {
    case 'MemberExpression':
      return key === 'property' && parent['computed'] !== true
    case 'Property':
    case 'MethodDefinition':
    case 'PropertyDefinition':
    case 'AccessorProperty':
    case 'TSPropertySignature':
    case 'TSMethodSignature':
    case 'TSAbstractMethodDefinition':
    case 'TSAbstractPropertyDefinition':
      return key === 'key' && parent['computed'] !== true
    case 'TSQualifiedName':
      return key === 'right'
    case 'TSImportType':
      return key === 'qualifier'
    case 'ImportSpecifier':
    case 'ImportDefaultSpecifier':
    case 'ImportNamespaceSpecifier':
      return true // Bound by collectBindings.
    case 'ExportSpecifier':
      return key === 'exported'
    case 'LabeledStatement':
    case 'BreakStatement':
    case 'ContinueStatement':
      return key === 'label'
    case 'MetaProperty':
      return true
    case 'TSNamedTupleMember':
      return key === 'label'
    case 'TSTypePredicate':
      return key === 'parameterName'
    default:
      return false
  }
}

/** The names that a pattern binds: `{ a, b: [c] = d, ...e }` binds a, c and e. */
function boundNames(pattern: unknown): string[] {
  if (!isNode(pattern)) return []
  switch (pattern.type) {
    case 'Identifier':
      return [pattern['name'] as string]
    case 'AssignmentPattern':
      return boundNames(pattern['left'])
    case 'RestElement':
      return boundNames(pattern['argument'])
    case 'ArrayPattern':
      return (pattern['elements'] as unknown[]).flatMap(boundNames)
    case 'ObjectPattern':
      return (pattern['properties'] as Node[]).flatMap((property) =>
        boundNames(property.type === 'Property' ? property['value'] : property),
      )
    case 'TSParameterProperty':
      return boundNames(pattern['parameter'])
    default:
      return []
  }
}

/** The names that a node declares. Scopes are not told apart: a name bound anywhere in the file is not a global. */
function declaredNames(node: Node): string[] {
  switch (node.type) {
    case 'VariableDeclarator':
      return boundNames(node['id'])
    case 'FunctionDeclaration':
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
    case 'TSDeclareFunction':
    case 'TSEmptyBodyFunctionExpression':
      return [...boundNames(node['id']), ...(node['params'] as unknown[]).flatMap(boundNames)]
    case 'TSFunctionType':
    case 'TSConstructorType':
    case 'TSMethodSignature':
    case 'TSCallSignatureDeclaration':
    case 'TSConstructSignatureDeclaration':
      return ((node['params'] ?? []) as unknown[]).flatMap(boundNames)
    case 'TSIndexSignature':
      return ((node['parameters'] ?? []) as unknown[]).flatMap(boundNames)
    case 'CatchClause':
      return boundNames(node['param'])
    case 'ClassDeclaration':
    case 'ClassExpression':
    case 'TSTypeAliasDeclaration':
    case 'TSInterfaceDeclaration':
    case 'TSEnumDeclaration':
    case 'TSModuleDeclaration':
      return boundNames(node['id'])
    case 'TSTypeParameter':
      return boundNames(node['name'])
    case 'TSMappedType':
      return boundNames(node['key'])
    case 'ImportSpecifier':
    case 'ImportDefaultSpecifier':
    case 'ImportNamespaceSpecifier':
      return boundNames(node['local'])
    default:
      return []
  }
}

/** Parses a file and gathers its facts. Throws an Error with the position where the syntax is wrong. */
export function factsOf(file: SourceFile): SourceFacts {
  const parsed = parseSync(file.path, file.source, { lang: 'ts', astType: 'ts' })
  const error = parsed.errors[0]
  if (error !== undefined) throw new Error(`${file.path}: ${error.message}`)

  const imports = new Set<string>()
  const used = new Set<string>()
  const bound = new Set<string>()
  const accesses = new Set<string>()
  const constructs = new Set<'enum' | 'namespace' | 'parameter property' | 'eval'>()

  const specifier = (node: Node): void => {
    const name = nameOf(node['source'])
    if (name !== undefined) imports.add(name)
  }

  const visit = (node: Node): void => {
    for (const name of declaredNames(node)) bound.add(name)
    switch (node.type) {
      case 'ImportDeclaration':
      case 'ExportAllDeclaration':
      case 'ExportNamedDeclaration':
      case 'ImportExpression':
      case 'TSImportType':
        specifier(node)
        break
      case 'TSEnumDeclaration':
        constructs.add('enum')
        break
      case 'TSModuleDeclaration':
        constructs.add('namespace')
        break
      case 'TSParameterProperty':
        constructs.add('parameter property')
        break
      case 'NewExpression':
      case 'CallExpression':
        if (['eval', 'Function'].includes(nameOf(node['callee']) ?? '')) constructs.add('eval')
        break
      case 'MemberExpression': {
        const property = nameOf(node['property'])
        const owner = node['object']
        if (property === undefined || !isNode(owner)) break
        if (nameOf(owner) === 'globalThis') used.add(property)
        const ownerName =
          owner.type === 'MemberExpression' && nameOf(owner['object']) === 'globalThis'
            ? nameOf(owner['property'])
            : owner.type === 'Identifier'
              ? nameOf(owner)
              : undefined
        if (ownerName !== undefined) accesses.add(`${ownerName}.${property}`)
        accesses.add(`.${property}`)
        break
      }
      case 'ObjectPattern':
        // `const { subtle } = crypto` reads a property as well.
        for (const property of node['properties'] as Node[]) {
          const key = property.type === 'Property' ? nameOf(property['key']) : undefined
          if (key !== undefined) accesses.add(`.${key}`)
        }
        break
    }
    for (const [key, value] of Object.entries(node)) {
      if (key === 'type') continue
      for (const child of Array.isArray(value) ? value : [value]) {
        if (!isNode(child)) continue
        if (child.type === 'Identifier') {
          if (!isMereName(node, key)) used.add(child['name'] as string)
          if (isNode(child['typeAnnotation'])) visit(child['typeAnnotation'])
        } else {
          visit(child)
        }
      }
    }
  }
  visit(parsed.program as unknown as Node)

  return {
    imports: [...imports],
    globals: new Set([...used].filter((name) => !bound.has(name))),
    accesses,
    constructs,
  }
}
