/** A private ssh-agent of OpenSSH on its own socket, with keys in it. */
import { join } from 'node:path'
import { askpass } from './askpass.ts'
import type { Scope } from './cleanup.ts'
import type { KeyPair } from './keys.ts'
import { findProgram, runOrThrow } from './program.ts'
import { needsPrograms, type Requirement, requirePeers } from './requirements.ts'
import { startServerProcess } from './server-process.ts'
import { tempDir } from './temp-dir.ts'

export interface AgentOptions {
  /** Added in this order, which is the order in which the agent lists them. */
  readonly keys?: readonly KeyPair[]
  readonly scope?: Scope | undefined
}

export interface Agent {
  readonly pid: number
  /** The path for SSH_AUTH_SOCK. */
  readonly socket: string
  /** @param args more options of ssh-add: -c (ask for confirmation), -t seconds, -h destination constraint */
  add(
    key: KeyPair,
    options?: { readonly passphrase?: string; readonly args?: readonly string[] },
  ): Promise<void>
  /** Forgets a key. */
  remove(key: KeyPair): Promise<void>
  /** Locks (ssh-add -x) with a password: the agent then lists nothing and refuses to sign. */
  lock(password: string): Promise<void>
  /** The keys as `ssh-add -L` prints them. */
  list(): Promise<string[]>
  stop(): Promise<void>
}

export function needsAgent(): Requirement {
  return needsPrograms('ssh-agent', ['ssh-agent', 'ssh-add'], 'openssh-client')
}

export async function startAgent(options: AgentOptions = {}): Promise<Agent> {
  requirePeers([needsAgent()])
  const socket = join(tempDir('agent', { scope: options.scope }), 'agent.sock')
  const server = await startServerProcess({
    name: 'ssh-agent',
    command: { command: findProgram('ssh-agent') ?? 'ssh-agent', args: ['-D', '-a', socket] },
    ready: /SSH_AUTH_SOCK=/,
    scope: options.scope,
  })
  const sshAdd = (args: readonly string[], answers: readonly string[] = []) =>
    runOrThrow('ssh-add', args, { env: { SSH_AUTH_SOCK: socket, ...askpass(answers) } })
  const agent: Agent = {
    pid: server.pid,
    socket,
    async add(key, { passphrase = '', args = [] } = {}) {
      await sshAdd(['-q', ...args, key.privateFile], [passphrase])
    },
    async remove(key) {
      await sshAdd(['-q', '-d', key.publicFile])
    },
    async lock(password) {
      await sshAdd(['-x'], [password, password])
    },
    async list() {
      const { stdout } = await sshAdd(['-L'])
      return stdout
        .split('\n')
        .filter((line) => line.startsWith('ssh-') || line.startsWith('ecdsa-') || line.startsWith('sk-'))
    },
    stop: () => server.stop(),
  }
  for (const key of options.keys ?? []) await agent.add(key)
  return agent
}
