// Starts an NBD server for an image on the SSH server (`sshblock serve`, or nbdkit's ssh plugin), runs a program on its export
// and ends it: one sample, whose `seconds` are the program's alone. "$uri" in the program's arguments is the export.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * @typedef {object} Job
 * @property {'sshblock' | 'nbdkit'} server
 * @property {string} host
 * @property {number} port
 * @property {string} user
 * @property {string} identity private key file
 * @property {string} path of the image on the server
 * @property {string[]} program
 */

/** @type {Job} */
const job = JSON.parse(process.argv[2] ?? '{}')
const command = fileURLToPath(new URL('../../packages/cli/dist/bundle/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'sshblock-served-'))
const socket = join(folder, 'socket')

function serverCommand() {
  const { host, port, user, identity, path } = job
  if (job.server === 'nbdkit') {
    const options = [`host=${host}`, `port=${port}`, `user=${user}`, `identity=${identity}`, `path=${path}`]
    return ['nbdkit', '-f', '-U', socket, 'ssh', 'verify-remote-host=false', ...options]
  }
  const flags = ['-F', 'none', '-i', identity, '-o', 'IdentitiesOnly=yes', '--socket', socket]
  const location = `ssh://${encodeURIComponent(user)}@${host}:${port}${path}?host_key_check=no`
  return [process.execPath, command, 'serve', ...flags, location]
}

/** @param {import('node:child_process').ChildProcess} child @returns {Promise<number | null>} */
function ended(child) {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
}

const [program = '', ...args] = serverCommand()
const server = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
const serverEnded = ended(server)
process.once('SIGTERM', () => server.kill())
try {
  while (!existsSync(socket)) {
    if (server.exitCode !== null) throw new Error(`${job.server} ended with ${server.exitCode}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const [client = '', ...rest] = job.program
  const startedAt = performance.now()
  const child = spawn(
    client,
    rest.map((arg) => arg.replace('$uri', `nbd+unix:///?socket=${socket}`)),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text
  })
  const code = await ended(child)
  if (code !== 0) throw new Error(`${client} ended with ${code}`)
  const seconds = (performance.now() - startedAt) / 1000
  console.log(JSON.stringify({ seconds, ...fioOperations(out) }))
} finally {
  server.kill('SIGINT')
  await serverEnded
  rmSync(folder, { recursive: true, force: true })
}

/** What fio's report has, where it is one. @param {string} out */
function fioOperations(out) {
  const begin = out.indexOf('{')
  if (begin < 0) return {}
  const { read, write } = JSON.parse(out.slice(begin)).jobs[0]
  return {
    operations: read.total_ios + write.total_ios,
    insideSeconds: (read.runtime + write.runtime) / 1000,
  }
}
