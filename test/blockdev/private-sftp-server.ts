// OpenSSH's sftp-server on a pipe, also under strace, which injects faults into its system calls.

import { type ChildProcess, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SftpClient } from '@sshblock/sftp'
import { spawnSftpServer } from '@sshblock/sftp/node'
import { test } from 'vitest'
import { registerCleanup } from '../support/cleanup.ts'
import { findProgram } from '../support/program.ts'
import { needsPrograms, type Requirement, requirePeers } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'

export function needsSftpServer(): Requirement {
  return needsPrograms('OpenSSH sftp-server', ['sftp-server'], 'openssh-sftp-server')
}

let straceProblem: string | undefined

export function needsStrace(): Requirement {
  const found = needsPrograms('strace', ['strace'], 'strace')
  if (found.missing !== undefined) return found
  straceProblem ??=
    spawnSync('strace', ['-f', '-o', '/dev/null', '-e', 'inject=fsync:error=EIO', 'true']).status === 0
      ? ''
      : 'the right to trace processes and inject faults (run the tests with CAP_SYS_PTRACE)'
  return { name: 'strace', missing: straceProblem === '' ? undefined : straceProblem }
}

/** `test` for tests that need these; where one is missing it is skipped loudly, or fails where CI=true. */
export function testWith(
  ...requirements: (() => Requirement)[]
): (name: string, body: () => Promise<void>) => void {
  return (name, body) =>
    test(name, async () => {
      requirePeers(requirements.map((requirement) => requirement()))
      await body()
    })
}

export interface RunningServer {
  readonly sftp: SftpClient
  readonly process: ChildProcess
  /** Requests that were sent, by name; READ and WRITE are not among them. */
  readonly requests: string[]
}

export interface ServerOptions {
  /** Arguments for sftp-server. */
  args?: readonly string[]
  /** Expressions for `strace -e`, such as 'inject=fsync:error=EIO:when=1'. */
  inject?: readonly string[]
  /** Only system calls on this file are tampered with. */
  onFile?: string
  requestTimeoutMs?: number
}

/** Starts a server and opens SFTP on it; both end with the test. */
export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  const { inject = [], onFile, requestTimeoutMs } = options
  const strace = [
    'strace',
    '-f',
    '-o',
    '/dev/null',
    ...(onFile === undefined ? [] : ['-P', onFile]),
    ...inject.flatMap((expression) => ['-e', expression]),
  ]
  const server = [findProgram('sftp-server') ?? 'sftp-server', ...(options.args ?? [])]
  const [command = '', ...args] = inject.length === 0 ? server : [...strace, ...server]
  const { channel, process } = spawnSftpServer(command, args, { stderr: 'ignore' })
  const exited = new Promise((resolve) => process.once('exit', resolve))
  const requests: string[] = []
  const sftp = await SftpClient.open(channel, {
    trace: ({ event, detail }) => {
      if (event === 'request') requests.push(String(detail?.['operation']))
    },
    ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
  })
  registerCleanup(async () => {
    process.kill('SIGCONT')
    await sftp.close()
    process.kill('SIGKILL')
    await exited
  })
  return { sftp, process, requests }
}

/** A file with this content in a folder of its own; its path. */
export function imageFile(content: Uint8Array, folder = tempDir('image')): string {
  const path = join(folder, 'disk.img')
  writeFileSync(path, content)
  return path
}
