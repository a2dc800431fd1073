// The command lines of everybody who takes part, ours included: how each reads or writes a whole image as one process.
// A contestant is { name, ours, run } or { name, missing } where the machine lacks the program.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { findProgram } from './ground.mjs'
import { measure } from './measure.mjs'

const bench = fileURLToPath(new URL('..', import.meta.url))
const client = (/** @type {string} */ name) => fileURLToPath(new URL(`../clients/${name}`, import.meta.url))

/** @typedef {{ name: string, ours?: boolean, missing?: string, run?: () => Promise<any> }} Contestant */
/** @typedef {import('./ground.mjs').Ground} Ground */

/** ssh2 is no dependency of the project: installed beside the benches, without its build scripts. */
export function installSsh2() {
  if (existsSync(`${bench}node_modules/ssh2/package.json`)) return undefined
  try {
    execFileSync(
      'npm',
      [
        'install',
        '--ignore-scripts',
        '--no-audit',
        '--no-fund',
        '--no-save',
        '--omit=optional',
        '--prefix',
        bench,
      ],
      {
        stdio: 'ignore',
      },
    )
  } catch {
    return 'npm install ssh2 failed: no network?'
  }
  return undefined
}

/** One of our client programs, with what it needs as JSON. @param {string} program @param {object} job @param {object} [options] */
export const runClient = (program, job, options) =>
  measure([process.execPath, client(program), JSON.stringify(job)], options)

/** @param {Ground} ground @param {number} port */
export function access(ground, port) {
  return { host: '127.0.0.1', port, user: ground.user, identity: ground.identity }
}

/** @param {string} name @param {string} program @param {string} hint @param {() => Promise<any>} run @returns {Contestant} */
function withProgram(name, program, hint, run) {
  return findProgram(program) === undefined
    ? { name, missing: `${program} is not installed (${hint})` }
    : { name, run }
}

/** @param {Ground} ground @param {number} port */
function sftpCommand(ground, port) {
  const options = [
    ...['-q', '-b', '-', '-P', `${port}`, '-i', ground.identity],
    ...['-c', 'aes256-gcm@openssh.com'],
    ...[
      'StrictHostKeyChecking=no',
      'UserKnownHostsFile=/dev/null',
      'IdentitiesOnly=yes',
      'LogLevel=ERROR',
    ].flatMap((o) => ['-o', o]),
  ]
  return ['sftp', ...options, `${ground.user}@127.0.0.1`]
}

/** @param {Ground} ground @param {number} port @param {string} remote @param {string} local */
export const sftpGet = (ground, port, remote, local) =>
  withProgram('OpenSSH sftp', 'sftp', 'openssh-client', () =>
    measure(sftpCommand(ground, port), { input: `get ${remote} ${local}\n` }),
  )

/** @param {Ground} ground @param {number} port @param {string} local @param {string} remote */
export const sftpPut = (ground, port, local, remote) =>
  withProgram('OpenSSH sftp', 'sftp', 'openssh-client', () =>
    measure(sftpCommand(ground, port), { input: `put ${local} ${remote}\n` }),
  )

/** @param {Ground} ground @param {number} port @param {string} path */
function nbdkitSsh(ground, port, path) {
  const plugin = [
    'ssh',
    'host=127.0.0.1',
    `port=${port}`,
    `user=${ground.user}`,
    `identity=${ground.identity}`,
  ]
  return ['nbdkit', '-U', '-', ...plugin, 'verify-remote-host=false', path]
}

/** @param {Ground} ground @param {number} port @param {string} remote @param {string} local */
export const nbdcopyFrom = (ground, port, remote, local) =>
  withProgram('nbdkit ssh + nbdcopy', 'nbdcopy', 'nbdkit nbdkit-plugin-ssh libnbd-bin', () =>
    measure([...nbdkitSsh(ground, port, remote), '--run', `nbdcopy "$uri" ${local}`], {
      env: { SSH_AUTH_SOCK: ground.agentSocket },
    }),
  )

/** @param {Ground} ground @param {number} port @param {string} local @param {string} remote an existing file of that size */
export const nbdcopyTo = (ground, port, local, remote) =>
  withProgram('nbdkit ssh + nbdcopy', 'nbdcopy', 'nbdkit nbdkit-plugin-ssh libnbd-bin', () =>
    measure([...nbdkitSsh(ground, port, remote), '--run', `nbdcopy --flush ${local} "$uri"`], {
      env: { SSH_AUTH_SOCK: ground.agentSocket },
    }),
  )

/** @param {Ground} ground @param {number} port @param {string} path */
export const qemuImage = (ground, port, path) =>
  `driver=raw,file.driver=ssh,file.server.host=127.0.0.1,file.server.port=${port},file.user=${ground.user},file.path=${path},file.host-key-check.mode=none`

/** @param {Ground} ground */
const withAgent = (ground) => ({ env: { SSH_AUTH_SOCK: ground.agentSocket } })

/** @param {Ground} ground @param {number} port @param {string} remote @param {string} local */
export const qemuRead = (ground, port, remote, local) =>
  withProgram('qemu-img (ssh)', 'qemu-img', 'qemu-utils qemu-block-extra', () =>
    measure(
      ['qemu-img', 'convert', '-O', 'raw', '--image-opts', qemuImage(ground, port, remote), local],
      withAgent(ground),
    ),
  )

/** @param {Ground} ground @param {number} port @param {string} local @param {string} remote an existing file of that size */
export const qemuWrite = (ground, port, local, remote) =>
  withProgram('qemu-img (ssh)', 'qemu-img', 'qemu-utils qemu-block-extra', () =>
    measure(
      [
        'qemu-img',
        'convert',
        '-n',
        '-f',
        'raw',
        '--target-image-opts',
        local,
        qemuImage(ground, port, remote),
      ],
      withAgent(ground),
    ),
  )

/**
 * `count` reads of 4 KiB, `depth` at once, in steps over the image. The value is operations a second by qemu-img's own clock.
 * @param {Ground} ground @param {number} port @param {string} remote @param {{ count: number, depth: number, step: number }} job
 */
export const qemuSmallReads = (ground, port, remote, { count, depth, step }) =>
  withProgram('qemu-img bench (ssh)', 'qemu-img', 'qemu-utils qemu-block-extra', async () => {
    const command = ['qemu-img', 'bench', '-c', `${count}`, '-d', `${depth}`, '-s', '4096', '-S', `${step}`]
    const sample = await measure(
      [...command, '-U', '--image-opts', qemuImage(ground, port, remote)],
      withAgent(ground),
    )
    const seconds = Number(/completed in ([\d.]+) seconds/.exec(sample.output)?.[1])
    return { ...sample, operations: count, insideSeconds: seconds }
  })

/** @param {string} name @param {Ground} ground @param {number} port @param {object} job */
export const ssh2Client = (name, ground, port, job) => ({
  name,
  ...(installSsh2() === undefined ? {} : { missing: installSsh2() }),
  run: () => runClient('ssh2.mjs', { ...access(ground, port), ...job }),
})
