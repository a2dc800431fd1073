/**
 * A private OpenSSH server on loopback: the machine's own release, or another one in a folder (openssh10.ts).
 *
 * What works with Debian's sshd (9.2 and 10.0, tried):
 * - public keys: always, for the user who runs the tests; as root in a namespace whose home folder is private.
 * - password: for `passwordUser`, with and without PAM (then sshd compares with crypt(3) itself). Needs a namespace.
 * - keyboard-interactive: only through PAM. The default stack asks one round of "Password: " without echo, followed by
 *   a round without prompts; `pam` lines of one's own ask more.
 * - AuthenticationMethods with any combination of these.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type PasswordUser, privateAccounts, thisUser } from './accounts.ts'
import type { KeyType } from './keys.ts'
import { type Command, hasNamespaces, inNamespace, needsNamespaces } from './namespace.ts'
import { LOOPBACK, onFreePort, type Peer, type PeerOptions, peerFolder, writeKnownHosts } from './peer.ts'
import { findProgram } from './program.ts'
import { needsPrograms, type Requirement, requirePeers } from './requirements.ts'
import { startServerProcess } from './server-process.ts'

/** Where the programs of one OpenSSH release are. */
export interface OpensshInstallation {
  /** Its root folder; undefined for the machine's own. */
  readonly root: string | undefined
  readonly sshd: string
  readonly sftpServer: string
}

/** Options left out keep sshd's own default. Lists are as sshd_config wants them, with +, - and ^. */
export interface OpensshOptions extends PeerOptions {
  readonly hostKeyAlgorithms?: string
  readonly kexAlgorithms?: string
  readonly ciphers?: string
  readonly macs?: string
  readonly pubkeyAcceptedAlgorithms?: string
  readonly rekeyLimit?: string
  readonly maxAuthTries?: number
  readonly maxSessions?: number
  readonly authenticationMethods?: string
  /**
   * The command of the sftp subsystem: 'internal-sftp' (default), 'sftp-server' and 'gesftpserver' with arguments (found
   * where the release has them), another command line, or null for none.
   */
  readonly sftp?: string | null
  /** An ordinary user made for this server, who has a password and the same authorized_keys. Needs root. */
  readonly passwordUser?: PasswordUser
  /** UsePAM: true for a stack that asks for the password, or the stack's lines. Needs root. */
  readonly pam?: boolean | readonly string[]
  /** More lines of sshd_config. They come first, so that they win over everything above. */
  readonly config?: readonly string[]
  /** Match blocks, which have to come last. */
  readonly match?: readonly string[]
}

export interface OpensshPeer extends Peer {
  readonly release: { readonly major: number; readonly minor: number }
  /** The private accounts by name; each home folder exists. Empty without a namespace. */
  readonly homes: ReadonlyMap<string, string>
}

export function needsOpenssh(): Requirement {
  return needsPrograms('OpenSSH server', ['sshd', 'ssh-keygen'], 'openssh-server')
}

/** For tests with passwords, PAM, or relative paths in a private home folder. */
export function needsOpensshAccounts(): Requirement {
  return needsNamespaces()
}

// The order of questions a login asks of PAM; nodelay: a wrong password is answered at once, not after two seconds.
const PAM_STACK = [
  'auth required pam_unix.so nodelay',
  'account required pam_unix.so',
  'session required pam_permit.so',
]

const HOST_KEYS: readonly KeyType[] = ['ed25519', 'ecdsa-256', 'rsa-2048']

const releases = new Map<string, { major: number; minor: number }>()

/** What `sshd -V` says (before 9.2: its complaint about -V, which names the release too). */
function releaseOf({ root, sshd }: OpensshInstallation): { major: number; minor: number } {
  const key = `${root}:${sshd}`
  let release = releases.get(key)
  if (release === undefined) {
    const [command, args] = root === undefined ? [sshd, ['-V']] : ['chroot', [root, sshd, '-V']]
    const said = spawnSync(command, args, { encoding: 'utf8' })
    const match = /OpenSSH_(\d+)\.(\d+)/.exec(said.stderr + said.stdout)
    if (match === null) throw new Error(`${sshd} does not tell its release: ${said.stderr}`)
    release = { major: Number(match[1]), minor: Number(match[2]) }
    releases.set(key, release)
  }
  return release
}

/** The OpenSSH that the machine has. */
export function hostInstallation(): OpensshInstallation {
  return {
    root: undefined,
    sshd: findProgram('sshd') ?? 'sshd',
    sftpServer: findProgram('sftp-server') ?? 'sftp-server',
  }
}

function subsystemLine(sftp: string | null, installation: OpensshInstallation): string[] {
  if (sftp === null) return []
  const [program = '', ...args] = sftp.split(' ')
  const known = new Map([
    ['sftp-server', installation.sftpServer],
    ['gesftpserver', findProgram('gesftpserver') ?? program],
  ])
  return [`Subsystem sftp ${[known.get(program) ?? program, ...args].join(' ')}`]
}

function optionLines(options: OpensshOptions): string[] {
  const values: [keyword: string, value: string | number | undefined][] = [
    ['HostKeyAlgorithms', options.hostKeyAlgorithms],
    ['KexAlgorithms', options.kexAlgorithms],
    ['Ciphers', options.ciphers],
    ['MACs', options.macs],
    ['PubkeyAcceptedAlgorithms', options.pubkeyAcceptedAlgorithms],
    ['RekeyLimit', options.rekeyLimit],
    ['MaxAuthTries', options.maxAuthTries],
    ['MaxSessions', options.maxSessions],
    ['AuthenticationMethods', options.authenticationMethods],
  ]
  return values.flatMap(([keyword, value]) => (value === undefined ? [] : [`${keyword} ${value}`]))
}

/** Starts a server of the machine's own release. */
export async function startOpensshServer(options: OpensshOptions = {}): Promise<OpensshPeer> {
  requirePeers([needsOpenssh()])
  return startOpensshInstallation(hostInstallation(), options)
}

/** Starts a server of the given release. */
export async function startOpensshInstallation(
  installation: OpensshInstallation,
  options: OpensshOptions,
): Promise<OpensshPeer> {
  const isolated = hasNamespaces()
  const pam = options.pam !== undefined && options.pam !== false
  if (pam) requirePeers([needsNamespaces()])

  const folder = await peerFolder('openssh', HOST_KEYS, options)
  const me = thisUser()
  const release = releaseOf(installation)
  const accounts = await privateAccounts(folder, options.passwordUser)
  // Debian's service unit makes the privilege separation folder; only root's sshd asks for it.
  if (me.uid === 0 && installation.root === undefined)
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })

  const files = new Map<string, string>()
  if (pam)
    files.set('/etc/pam.d/sshd', `${(Array.isArray(options.pam) ? options.pam : PAM_STACK).join('\n')}\n`)

  const configFile = join(folder.dir, 'sshd_config')
  const server = await onFreePort(async (port) => {
    const lines = [
      ...(options.config ?? []),
      ...optionLines(options),
      ...subsystemLine(options.sftp === undefined ? 'internal-sftp' : options.sftp, installation),
      `Port ${port}`,
      `ListenAddress ${LOOPBACK}`,
      'PidFile none',
      ...folder.hostKeys.map((key) => `HostKey ${key.privateFile}`),
      `AuthorizedKeysFile ${folder.authorizedKeys}`,
      'StrictModes no',
      // A login shell that reads its start-up files here would make each command depend on this machine; bash leaves them
      // alone where it is not the first shell.
      'SetEnv SHLVL=1',
      'PermitRootLogin yes',
      `UsePAM ${pam ? 'yes' : 'no'}`,
      `PasswordAuthentication ${options.passwordUser === undefined ? 'no' : 'yes'}`,
      `KbdInteractiveAuthentication ${pam ? 'yes' : 'no'}`,
      'UseDNS no',
      'PrintMotd no',
      'PrintLastLog no',
      'MaxStartups 100',
      'LogLevel VERBOSE',
      // From 9.8 on a few failed logins would lock 127.0.0.1 out for all tests that follow.
      ...(release.major > 9 || (release.major === 9 && release.minor >= 8) ? ['PerSourcePenalties no'] : []),
      ...(options.match ?? []),
    ]
    writeFileSync(configFile, `${lines.join('\n')}\n`)
    const sshd: Command = { command: installation.sshd, args: ['-D', '-e', '-f', configFile] }
    const command = isolated
      ? inNamespace(sshd, { dir: folder.dir, root: installation.root, accounts, files })
      : sshd
    const ready = /Server listening on .* port \d+/
    return { port, process: await startServerProcess({ name: 'sshd', command, ready, scope: options.scope }) }
  })

  return {
    ...server.process,
    host: LOOPBACK,
    port: server.port,
    user: me.name,
    hostKeys: folder.hostKeys,
    release,
    homes: new Map(accounts.map(({ name, home }) => [name, home])),
    paths: {
      dir: folder.dir,
      data: folder.data,
      home: isolated ? folder.home : me.home,
      knownHosts: writeKnownHosts(folder.dir, LOOPBACK, server.port, folder.hostKeys),
      authorizedKeys: folder.authorizedKeys,
    },
  }
}
