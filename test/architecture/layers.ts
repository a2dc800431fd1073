/**
 * The picture of the house as tables: which package may import which, and the order of the folders in each.
 * docs/architecture.md says why. A folder that is not in its table fails the test: put it where it belongs.
 */

/** What a package may import of the others; `platform` adds what its entry points and node*.ts files may import. */
export interface PackageRule {
  readonly imports: readonly string[]
  readonly platform: readonly string[]
  /** May use `node:` modules in any file. */
  readonly nodeOnly: boolean
}

const neutralTransport = [
  '@sshblock/transport/wire',
  '@sshblock/transport/errors',
  '@sshblock/transport/byte-channel',
]
const transport = ['@sshblock/transport', '@sshblock/transport/node', '@sshblock/transport/browser']
const sftp = ['@sshblock/sftp', '@sshblock/sftp/node', '@sshblock/sftp/browser']
const blockdev = [
  '@sshblock/blockdev',
  '@sshblock/blockdev/node',
  '@sshblock/blockdev/browser',
  '@sshblock/blockdev/adapters',
]
const everything = [
  ...neutralTransport,
  '@sshblock/transport/node-memory',
  '@sshblock/transport/conformance',
  ...transport,
  ...sftp,
  ...blockdev,
  '@sshblock/nbd',
  '@sshblock/bridge',
]

export const PACKAGES: ReadonlyMap<string, PackageRule> = new Map([
  ['transport', { imports: [], platform: [], nodeOnly: false }],
  // sftp knows a byte channel, not SSH.
  ['sftp', { imports: neutralTransport, platform: transport, nodeOnly: false }],
  // blockdev knows a random-access file, not SFTP: see DRIVER_FILES for who joins them.
  ['blockdev', { imports: neutralTransport, platform: [...transport, ...sftp], nodeOnly: false }],
  [
    'nbd',
    {
      imports: [...neutralTransport, '@sshblock/transport/node-memory', '@sshblock/blockdev'],
      platform: blockdev,
      nodeOnly: true,
    },
  ],
  ['bridge', { imports: neutralTransport, platform: [], nodeOnly: true }],
  ['cli', { imports: everything, platform: [], nodeOnly: true }],
  ['web', { imports: everything, platform: [], nodeOnly: false }],
])

/** Files that join packages: the driver joins SFTP, and SSH, to the block device; SFTP's checks run on the kit for SSH. */
export const DRIVER_FILES: readonly { readonly file: RegExp; readonly imports: readonly string[] }[] = [
  { file: /^packages\/blockdev\/src\/ssh-connector\.ts$/, imports: [...transport, ...sftp] },
  // The SFTP half of the driver: a device on one SFTP client, whoever connected it.
  { file: /^packages\/blockdev\/src\/sftp-[a-z-]+\.ts$/, imports: sftp },
  {
    file: /^packages\/sftp\/src\/conformance(\.ts$|\/)/,
    imports: ['@sshblock/transport/conformance', ...transport],
  },
]

/**
 * For each package its folders and root files from left to right; one row is one place, and its members may import each
 * other. A file imports from its own row or from the rows before. `*` stands for all root files that are not named.
 */
export const LAYERS: ReadonlyMap<string, readonly (readonly string[])[]> = new Map([
  [
    'transport',
    [
      ['wire/'],
      ['safe-text.ts', 'limits.ts'],
      ['errors.ts', 'trace.ts', 'byte-channel.ts', 'crypto/provider.ts'],
      ['crypto/'],
      ['messages/'],
      ['packet/'],
      ['keys/'],
      ['connection/'],
      ['agent/'],
      ['kex/'],
      ['auth/'],
      ['core/'],
      ['session/'],
      ['conformance/'],
      ['wire.ts', 'index.ts', 'node.ts', 'node-memory.ts', 'browser.ts', 'conformance.ts'],
    ],
  ],
  [
    'sftp',
    [
      ['messages/'],
      ['errors.ts', 'limits.ts'],
      ['core/'],
      ['*', 'backend/', 'server/', 'client/'],
      ['conformance/'],
      ['index.ts', 'node.ts', 'browser.ts', 'conformance.ts'],
    ],
  ],
  [
    'blockdev',
    [
      ['errors.ts', 'limits.ts', 'device.ts', 'random-access-file.ts'],
      ['layers/'],
      // Knows neither SSH nor SFTP: connections and lanes are handed in.
      ['image/'],
      ['adapters/', '*'],
      ['index.ts', 'node.ts', 'browser.ts'],
    ],
  ],
])

/** Implementations of the CryptoProvider: whoever builds a session is handed one, by an entry point. */
export const PROVIDER_FILES = /^packages\/transport\/src\/crypto\/(node|web|noble)[a-z0-9-]*\.ts$/

/** Files that run on Node alone. */
export const NODE_FILES = /(^|\/)(node[a-z0-9-]*|tcp)\.ts$/

/** Names that only Node provides. */
export const NODE_GLOBALS: readonly string[] = [
  'Buffer',
  'NodeJS',
  '__dirname',
  '__filename',
  'clearImmediate',
  'exports',
  'global',
  'module',
  'process',
  'require',
  'setImmediate',
]
