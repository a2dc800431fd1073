// What all rows stand on: a private OpenSSH server that speaks AES-GCM only, so that every contestant has the same cipher,
// a key, an agent for those who take no key file, and images on a tmpfs. Everything lies in one folder and goes with it.

import { execFileSync, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer, connect as netConnect } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { startProxyProcess } from '../proxy-process.mjs'

const tmpfs = '/dev/shm'
const mebibyte = 1024 ** 2

/** @param {string} name @param {string[]} [places] */
export function findProgram(name, places = []) {
  for (const folder of [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/lib/openssh', ...places])
    if (existsSync(join(folder, name))) return join(folder, name)
  return undefined
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
      server.close(() => resolve(port))
    })
  })
}

/** @param {number} port */
async function listening(port) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const answered = await new Promise((resolve) => {
      const socket = netConnect(port, '127.0.0.1')
      socket.once('data', () => {
        // sshd would keep whoever only asks for two minutes, and the bench with him.
        socket.destroy()
        resolve(true)
      })
      socket.once('error', () => resolve(false))
      socket.once('close', () => resolve(false))
    }).catch(() => false)
    if (answered) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('sshd does not come up')
}

export class Ground {
  /** @type {(() => unknown)[]} */
  #cleanup = []
  /** @type {Map<string, string>} */
  #images = new Map()

  static async start() {
    const ground = new Ground()
    try {
      await ground.#start()
    } catch (error) {
      await ground.stop()
      throw error
    }
    return ground
  }

  async #start() {
    const sshd = findProgram('sshd')
    if (sshd === undefined)
      throw new Error('the benches need OpenSSH: apt-get install openssh-server openssh-client')
    this.user = userInfo().username
    this.folder = mkdtempSync(join(existsSync(tmpfs) ? tmpfs : tmpdir(), 'sshblock-bench-'))
    this.#cleanup.push(() => rmSync(this.folder, { recursive: true, force: true }))
    chmodSync(this.folder, 0o700)
    this.identity = join(this.folder, 'id')
    for (const key of ['id', 'host'])
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(this.folder, key)])
    this.port = await freePort()
    const config = join(this.folder, 'sshd_config')
    writeFileSync(
      config,
      [
        `Port ${this.port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${this.folder}/host`,
        `AuthorizedKeysFile ${this.folder}/id.pub`,
        `PidFile ${this.folder}/pid`,
        'StrictModes no',
        'UsePAM no',
        'MaxStartups 100',
        'Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com',
        'Subsystem sftp internal-sftp',
        '',
      ].join('\n'),
    )
    const server = spawn(sshd, ['-D', '-f', config], { stdio: 'ignore' })
    this.#cleanup.push(() => ended(server))
    await listening(this.port)
    const agent = spawn('ssh-agent', ['-D', '-a', join(this.folder, 'agent')], { stdio: 'ignore' })
    this.#cleanup.push(() => ended(agent))
    this.agentSocket = join(this.folder, 'agent')
    for (let attempt = 0; !existsSync(this.agentSocket) && attempt < 100; attempt++)
      await new Promise((resolve) => setTimeout(resolve, 20))
    execFileSync('ssh-add', ['-q', this.identity], {
      env: { ...process.env, SSH_AUTH_SOCK: this.agentSocket },
    })
  }

  /** A file of `size` bytes that do not compress, in the tmpfs; made once. @param {number} size */
  image(size) {
    const known = this.#images.get(`${size}`)
    if (known !== undefined) return known
    this.#checkRoom(size)
    const path = join(this.folder, `image-${size}`)
    const file = openSync(path, 'w')
    const block = Buffer.alloc(mebibyte)
    for (let at = 0; at < size; at += block.length)
      writeSync(file, randomFillSync(block), 0, Math.min(block.length, size - at))
    closeSync(file)
    this.#images.set(`${size}`, path)
    return path
  }

  /** A path for what a run writes; removed before each use. @param {string} name */
  scratch(name) {
    const path = join(this.folder, name)
    rmSync(path, { force: true })
    return path
  }

  /** @param {number} size */
  #checkRoom(size) {
    const { bavail, bsize } = statfsSync(this.folder)
    if (bavail * bsize < 2.5 * size)
      throw new Error(`${this.folder} has no room for ${size / mebibyte} MiB and a copy`)
  }

  /** A path to the server that costs time. @param {import('../proxy.mjs').PathOptions} options */
  async path(options) {
    const proxy = await startProxyProcess({ target: { host: '127.0.0.1', port: this.port }, ...options })
    this.#cleanup.push(() => proxy.stop())
    return proxy
  }

  async stop() {
    for (const step of this.#cleanup.splice(0).reverse()) await step()
  }
}

/** @param {import('node:child_process').ChildProcess} child */
async function ended(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await gone
}
