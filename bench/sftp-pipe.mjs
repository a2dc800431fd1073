// Throughput of the SFTP client over a pipe to OpenSSH's sftp-server, without SSH, beside a bare pipe through `cat`.
//   npm run build && node bench/sftp-pipe.mjs [MiB] [rounds]
// Interleaved rounds, medians in MB/s (10^6 bytes). Data in /dev/shm where it is there.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SftpClient, spawnSftpServer } from '@sshblock/sftp'

const mebibytes = Number(process.argv[2] ?? 256)
const rounds = Number(process.argv[3] ?? 5)
const server = [
  '/usr/lib/openssh/sftp-server',
  '/usr/libexec/sftp-server',
  '/usr/libexec/openssh/sftp-server',
].find(existsSync)
if (server === undefined) throw new Error('no sftp-server found: install openssh-sftp-server')

const bytes = mebibytes * 1024 * 1024
const directory = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'sftp-pipe-'))
const source = join(directory, 'source')
const data = new Uint8Array(bytes)
for (let at = 0; at < bytes; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536))
await writeFile(source, data)

/** Bytes of a file through `cat` into this process. */
function bareRead() {
  return new Promise((resolve, reject) => {
    const cat = spawn('cat', [source], { stdio: ['ignore', 'pipe', 'inherit'] })
    let count = 0
    cat.stdout.on('data', (chunk) => (count += chunk.length))
    cat.stdout.on('end', () => resolve(count))
    cat.on('error', reject)
  })
}

/** Bytes from this process through `cat` into a file. */
function bareWrite() {
  return new Promise((resolve, reject) => {
    const cat = spawn('sh', ['-c', 'cat > "$0"', join(directory, 'bare')], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    cat.on('exit', () => resolve(bytes))
    cat.on('error', reject)
    let at = 0
    const more = () => {
      while (at < bytes) {
        const chunk = data.subarray(at, (at += 128 * 1024))
        if (!cat.stdin.write(chunk)) return void cat.stdin.once('drain', more)
      }
      cat.stdin.end()
    }
    more()
  })
}

const into = new Uint8Array(bytes)
const work = {
  'bare pipe, in': bareRead,
  'get into memory': async (client) => (await client.get(source, into)).bytes,
  'read stream': async (client) => {
    let count = 0
    for await (const chunk of client.createReadStream(source)) count += chunk.length
    return count
  },
  'bare pipe, out': bareWrite,
  'put from memory': async (client) => (await client.put(data, join(directory, 'put'))).bytes,
  'write stream': async (client) => {
    const writer = client.createWriteStream(join(directory, 'stream')).getWriter()
    for (let at = 0; at < bytes; at += 256 * 1024) await writer.write(data.subarray(at, at + 256 * 1024))
    await writer.close()
    return bytes
  },
}

const results = new Map(Object.keys(work).map((name) => [name, []]))
try {
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(work)) {
      const { channel } = spawnSftpServer(server)
      const client = await SftpClient.open(channel)
      const start = performance.now()
      const count = await run(client)
      const seconds = (performance.now() - start) / 1000
      if (count !== bytes) throw new Error(`${name}: ${count} of ${bytes} bytes`)
      results.get(name).push(bytes / 1e6 / seconds)
      await client.close()
    }
  }
} finally {
  await rm(directory, { recursive: true })
}

for (const [name, rates] of results) {
  rates.sort((a, b) => a - b)
  const median = rates[rates.length >> 1]
  console.log(
    `${name.padEnd(16)} ${median.toFixed(0).padStart(6)} MB/s   (${rates.map((rate) => rate.toFixed(0)).join(' ')})`,
  )
}
