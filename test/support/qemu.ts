/**
 * QEMU's own tools as oracles: qemu-img and qemu-io on local files, and through QEMU's ssh driver (libssh) on a server.
 * libssh reads known_hosts from the home folder that /etc/passwd names, whatever HOME says, so without a namespace only
 * host key checks by hash or none work.
 */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { thisUser } from './accounts.ts'
import { hasNamespaces, inNamespace } from './namespace.ts'
import type { Peer } from './peer.ts'
import { type Finished, findProgram, type RunOptions, run } from './program.ts'
import { needsPrograms, type Requirement } from './requirements.ts'
import type { Agent } from './ssh-agent.ts'
import { tempDir } from './temp-dir.ts'

// Where QEMU's block drivers are, by the layouts of Debian and of Fedora and others.
const DRIVERS = [
  '/usr/lib/x86_64-linux-gnu/qemu',
  '/usr/lib/aarch64-linux-gnu/qemu',
  '/usr/lib64/qemu',
  '/usr/lib/qemu',
]

export function needsQemu(): Requirement {
  const tools = needsPrograms('QEMU tools', ['qemu-img', 'qemu-io'], 'qemu-utils')
  if (tools.missing !== undefined || DRIVERS.some((folder) => existsSync(join(folder, 'block-ssh.so'))))
    return tools
  return { name: 'QEMU tools', missing: "QEMU's ssh driver (apt-get install qemu-block-extra)" }
}

/** How QEMU reaches a server: it takes keys from an agent only. */
export interface QemuAccess {
  readonly peer: Pick<Peer, 'host' | 'port' | 'user'> & { readonly paths: Pick<Peer['paths'], 'knownHosts'> }
  readonly agent: Agent
}

/**
 * The options of QEMU's ssh driver for a file, as `--image-opts` and qemu-io's `--image-opts` want them.
 *
 * @param hostKeyCheck 'yes' (known_hosts), 'no', 'md5:HEX', 'sha1:HEX' or 'sha256:HEX'
 */
export function qemuImageOptions(peer: QemuAccess['peer'], path: string, hostKeyCheck = 'no'): string {
  const escaped = (text: string): string => text.replaceAll(',', ',,')
  const fields = {
    driver: 'ssh',
    host: peer.host,
    port: peer.port,
    user: peer.user,
    path,
    host_key_check: hostKeyCheck,
  }
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${escaped(String(value))}`)
    .join(',')
}

/** Runs one of QEMU's programs; with `access` it finds the agent and, in a namespace, the server's known_hosts. */
export async function qemu(
  program: 'qemu-img' | 'qemu-io',
  args: readonly string[],
  access?: QemuAccess,
  options: RunOptions = {},
): Promise<Finished> {
  const inner = { command: findProgram(program) ?? program, args }
  if (access === undefined) return run(inner.command, inner.args, options)
  const dir = tempDir('qemu')
  const home = join(dir, 'home')
  mkdirSync(join(home, '.ssh'), { recursive: true, mode: 0o700 })
  copyFileSync(access.peer.paths.knownHosts, join(home, '.ssh', 'known_hosts'))
  const env = { ...options.env, SSH_AUTH_SOCK: access.agent.socket, HOME: home }
  const accounts = [{ ...thisUser(), home, passwordHash: undefined }]
  const place = { dir, root: undefined, accounts, files: new Map<string, string>() }
  const { command, args: all } = hasNamespaces() ? inNamespace(inner, place) : inner
  return run(command, all, { ...options, env })
}

/** Runs commands of qemu-io ('read -P 0x5a 0 4096', 'write -P 1 0 512', 'flush') on an image, one after the other. */
export function qemuIo(
  imageOptions: string,
  commands: readonly string[],
  access?: QemuAccess,
): Promise<Finished> {
  const script = commands.flatMap((command) => ['-c', command])
  return qemu('qemu-io', ['--image-opts', ...script, imageOptions], access)
}
