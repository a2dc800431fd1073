/** OpenSSH's own clients, non-interactive, with nothing of the user's configuration: to prove servers, ours and others'. */
import type { KeyPair } from './keys.ts'
import type { Peer } from './peer.ts'
import { type Finished, type RunOptions, run } from './program.ts'
import { needsPrograms, type Requirement } from './requirements.ts'

export function needsOpensshClient(): Requirement {
  return needsPrograms('OpenSSH client', ['ssh', 'sftp', 'scp', 'ssh-keygen'], 'openssh-client')
}

/** Where to connect and as whom. Every started peer fits. */
export interface Destination extends Pick<Peer, 'host' | 'port' | 'user'> {
  readonly paths: Pick<Peer['paths'], 'knownHosts'>
}

export interface ClientOptions extends RunOptions {
  /** The private key to log in with; undefined: none, for tests of other methods. */
  readonly key: KeyPair | undefined
  /** As after -o: 'Ciphers=aes256-ctr'. They win over the defaults. */
  readonly o?: readonly string[]
  /** How often to say -v; 0 shows errors only. */
  readonly verbose?: 1 | 2 | 3
  /** Another user than the peer's. */
  readonly user?: string
}

function commonArguments(to: Destination, options: ClientOptions): string[] {
  const settings = [
    ...(options.o ?? []),
    'IdentitiesOnly=yes',
    'IdentityAgent=none',
    `IdentityFile=${options.key?.privateFile ?? 'none'}`,
    `UserKnownHostsFile=${to.paths.knownHosts}`,
    'GlobalKnownHostsFile=/dev/null',
    'StrictHostKeyChecking=yes',
    'BatchMode=yes',
    ...(options.verbose === undefined ? ['LogLevel=ERROR'] : []),
    'KexAlgorithms=-sntrup761*', // 0.2 s of computing
    `User=${options.user ?? to.user}`,
    `Port=${to.port}`,
  ]
  const verbosity = Array<string>(options.verbose ?? 0).fill('-v')
  return ['-F', 'none', ...verbosity, ...settings.flatMap((setting) => ['-o', setting])]
}

/** `ssh HOST COMMAND`: its exit status is the command's, 255 where the connection failed. */
export function ssh(to: Destination, command: string, options: ClientOptions): Promise<Finished> {
  return run('ssh', [...commonArguments(to, options), to.host, command], options)
}

/** `sftp -b`: runs a batch; exit status 1 at the first command that fails. */
export function sftp(to: Destination, batch: readonly string[], options: ClientOptions): Promise<Finished> {
  return run('sftp', ['-b', '-', ...commonArguments(to, options), to.host], {
    ...options,
    input: `${batch.join('\n')}\n`,
  })
}

/** `scp -s`: copies over SFTP. Remote paths start with the host and a colon, as `remote()` writes them. */
export function scp(to: Destination, from: string, into: string, options: ClientOptions): Promise<Finished> {
  return run('scp', ['-s', ...commonArguments(to, options), from, into], options)
}

/** A path on the server, as scp wants it. */
export function remote(to: Destination, path: string): string {
  return `${to.host}:${path}`
}
