// The npm package ssh2, as its users run it: fastGet and fastPut with their defaults, with or without Nagle's algorithm.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { Client } = createRequire(new URL('../package.json', import.meta.url))('ssh2')
const {
  host,
  port,
  user,
  identity,
  what,
  remote,
  local,
  noDelay = false,
} = JSON.parse(process.argv[2] ?? '{}')

const client = new Client()
const fail = (/** @type {unknown} */ error) => {
  console.error(error)
  process.exit(1)
}
client.on('error', fail)
client.on('ready', () => {
  if (noDelay) client.setNoDelay(true)
  client.sftp((/** @type {any} */ error, /** @type {any} */ sftp) => {
    if (error) fail(error)
    const done = (/** @type {unknown} */ failure) => {
      if (failure) fail(failure)
      client.end()
    }
    if (what === 'get') sftp.fastGet(remote, local, done)
    else sftp.fastPut(local, remote, done)
  })
})
client.connect({
  host,
  port,
  username: user,
  privateKey: readFileSync(identity),
  algorithms: { cipher: ['aes256-gcm@openssh.com'] },
})
