/**
 * A Linux mount and PID namespace for one server: accounts, passwords and PAM rules are private files laid over the
 * system's, seen by this server alone, and killing its first process ends every process in it, also orphans.
 * Nothing of the machine itself is changed, so nothing has to be put back after a crash.
 * Needs root; without it servers run in plain sight as the user who runs the tests.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { Requirement } from './requirements.ts'

/** A line of the private /etc/passwd and /etc/shadow. An account of the same name is replaced. */
export interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
  /** As crypt(3) makes it; undefined: no password opens this account. */
  readonly passwordHash: string | undefined
}

export interface NamespaceOptions {
  /** Private folder in which the overlaid files are written. */
  readonly dir: string
  /** A folder with another operating system release, to which the server's root is changed. */
  readonly root: string | undefined
  readonly accounts: readonly Account[]
  /** Content by the absolute path of an existing file of the system (or of `root`). */
  readonly files: ReadonlyMap<string, string>
  /** Folders that appear, for this server alone, at the absolute path of another existing folder. */
  readonly folders?: ReadonlyMap<string, string>
}

export interface Command {
  readonly command: string
  readonly args: readonly string[]
}

let available: boolean | undefined

/** Whether this process may make namespaces; found out by trying once. */
export function hasNamespaces(): boolean {
  available ??=
    process.getuid?.() === 0 &&
    spawnSync('unshare', ['--mount', '--pid', '--fork', '--kill-child', 'true'], { timeout: 10_000 })
      .status === 0
  return available
}

/** Requirement of tests that need accounts of their own (passwords, a home folder) or another release. */
export function needsNamespaces(): Requirement {
  return {
    name: 'namespaces',
    missing: hasNamespaces()
      ? undefined
      : 'the right to make mount and PID namespaces (run as root, CAP_SYS_ADMIN)',
  }
}

function withAccounts(file: string, lines: readonly string[]): string {
  const names = new Set(lines.map((line) => line.slice(0, line.indexOf(':'))))
  const kept = file.split('\n').filter((line) => line !== '' && !names.has(line.slice(0, line.indexOf(':'))))
  return `${[...kept, ...lines].join('\n')}\n`
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** The command that runs `inner` in a new namespace; `inner` keeps the standard streams, and signals reach it by its pid. */
export function inNamespace(inner: Command, options: NamespaceOptions): Command {
  const root = options.root ?? ''
  const overlays = new Map(options.files)
  if (options.accounts.length > 0) {
    const passwd = options.accounts.map(
      ({ name, uid, gid, home }) => `${name}:x:${uid}:${gid}::${home}:/bin/sh`,
    )
    // "*" is no password and not locked: sshd refuses even keys to an account whose field starts with "!".
    const shadow = options.accounts.map(
      ({ name, passwordHash }) => `${name}:${passwordHash ?? '*'}:19000:0:99999:7:::`,
    )
    overlays.set('/etc/passwd', withAccounts(readFileSync(`${root}/etc/passwd`, 'utf8'), passwd))
    overlays.set('/etc/shadow', withAccounts(readFileSync(`${root}/etc/shadow`, 'utf8'), shadow))
  }
  const etc = join(options.dir, 'etc')
  mkdirSync(etc, { recursive: true, mode: 0o755 })
  const script: string[] = ['set -e']
  for (const [path, content] of overlays) {
    const source = join(etc, basename(path))
    writeFileSync(source, content, { mode: path === '/etc/shadow' ? 0o600 : 0o644 })
    script.push(`mount --bind ${quote(source)} ${quote(root + path)}`)
  }
  for (const [path, source] of options.folders ?? []) {
    script.push(`mount --bind ${quote(source)} ${quote(root + path)}`)
  }
  if (options.root !== undefined) {
    // The tests' folders keep their paths inside. The tmpfs on /run holds what Debian's service units would make.
    script.push(
      ...['/dev', '/proc'].map((path) => `mount --rbind ${path} ${quote(root + path)}`),
      `mkdir -p ${quote(root + tmpdir())}`,
      `mount --rbind ${quote(tmpdir())} ${quote(root + tmpdir())}`,
      `mount -t tmpfs -o mode=755 tmpfs ${quote(`${root}/run`)}`,
      `mkdir ${quote(`${root}/run/sshd`)}`,
    )
  }
  const words = [inner.command, ...inner.args].map(quote).join(' ')
  script.push(options.root === undefined ? `exec ${words}` : `exec chroot ${quote(root)} ${words}`)
  const unshare = [
    ...['--mount', '--propagation', 'slave', '--pid', '--fork', '--kill-child=KILL'],
    // Its processes see each other under the numbers that they have there.
    '--mount-proc',
  ]
  return { command: 'unshare', args: [...unshare, 'sh', '-c', script.join('\n')] }
}
