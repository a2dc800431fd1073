/**
 * SSHKEYLOGFILE: the line of a connection decrypts a recording of it, by the computation that Wireshark does (RFC 4253 s7.2
 * and s8, RFC 8731, RFC 5647), written here a second time on node:crypto.
 */
import { createDecipheriv, createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bundlesPackages } from '../support/bundles.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { homeFor, sshblock } from './command.ts'

bundlesPackages()

const message = { kexInit: 20, newKeys: 21, kexReply: 31 }

describeWith([needsOpenssh()], 'the key log', () => {
  test('decrypts what was recorded, and says aloud that it does', async () => {
    const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
    const recording = await recordedPath(peer)
    const options = [
      'KexAlgorithms curve25519-sha256',
      'Ciphers aes256-gcm@openssh.com',
      `HostKeyAlias [${peer.host}]:${peer.port}`,
    ]
    const home = await homeFor(peer, { port: recording.port, config: options })
    const file = join(tempDir(), 'keys.log')
    const { code, stderr } = await sshblock(['ls', `peer:${peer.paths.data}`], {
      home,
      env: { SSHKEYLOGFILE: file },
    })
    expect(code).toBe(0)
    expect(stderr).toBe(`sshblock: warning: who reads '${file}' can read this connection (SSHKEYLOGFILE)\n`)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const lines = readFileSync(file, 'latin1').trimEnd().split('\n')
    expect(lines).toHaveLength(1)
    const [cookie, type, key] = lines[0]?.split(' ') ?? []
    expect(type).toBe('SHARED_SECRET')

    const client = handshake(recording.said.client)
    const server = handshake(recording.said.server)
    expect(cookie).toBe(client.kexInit.subarray(1, 17).toString('hex'))
    const texts = decrypted(client, server, Buffer.from(key ?? '', 'hex'))
    expect(texts.some((text) => text.includes('ssh-userauth'))).toBe(true)
    expect(texts.some((text) => text.includes('subsystem') && text.includes('sftp'))).toBe(true)
    expect(texts.some((text) => text.includes(peer.paths.data))).toBe(true)
  })

  test('is not written where nobody asked for it', async () => {
    const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
    const dir = tempDir()
    const home = await homeFor(peer)
    const outcome = await sshblock(['ls', `peer:${peer.paths.data}`], { home, env: { SSHKEYLOGFILE: '' } })
    expect(outcome).toMatchObject({ code: 0, stderr: '' })
    const nowhere = join(dir, 'missing', 'keys.log')
    const failed = await sshblock(['ls', `peer:${peer.paths.data}`], {
      home,
      env: { SSHKEYLOGFILE: nowhere },
    })
    expect(failed).toMatchObject({
      code: 0,
      stderr: `sshblock: warning: no key log in '${nowhere}': no such file or folder\n`,
    })
    expect(existsSync(nowhere)).toBe(false)
  })
})

/** A way to the server on which both directions are kept. */
async function recordedPath({ host, port }: OpensshPeer) {
  const said = { client: [] as Buffer[], server: [] as Buffer[] }
  const relay = createServer((client) => {
    const server = connect({ host, port })
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('data', (chunk: Buffer) => said.client.push(chunk))
    server.on('data', (chunk: Buffer) => said.server.push(chunk))
    client.pipe(server).pipe(client)
  })
  registerCleanup(() => new Promise<void>((resolve) => relay.close(() => resolve())))
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
  const address = relay.address()
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  return { port: address.port, said }
}

interface Handshake {
  identification: Buffer
  kexInit: Buffer
  /** Strings of the message 30 or 31. */
  strings: Buffer[]
  /** Everything behind NEWKEYS. */
  sealed: Buffer
}

function handshake(chunks: readonly Buffer[]): Handshake {
  const bytes = Buffer.concat(chunks)
  let at = bytes.indexOf('\r\n')
  const found: Handshake = {
    identification: bytes.subarray(0, at),
    kexInit: Buffer.alloc(0),
    strings: [],
    sealed: Buffer.alloc(0),
  }
  at += 2
  for (;;) {
    const length = bytes.readUInt32BE(at)
    const payload = bytes.subarray(at + 5, at + 4 + length - bytes[at + 4]!)
    at += 4 + length
    if (payload[0] === message.kexInit) found.kexInit = payload
    else if (payload[0] === message.newKeys) return { ...found, sealed: bytes.subarray(at) }
    else
      for (let i = 1; i < payload.length; i += 4 + payload.readUInt32BE(i))
        found.strings.push(payload.subarray(i + 4, i + 4 + payload.readUInt32BE(i)))
  }
}

function string(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** What the client sent, packet by packet. */
function decrypted(client: Handshake, server: Handshake, key: Buffer): string[] {
  const secret = string((key[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.alloc(1), key]) : key)
  const sha256 = (...parts: Uint8Array[]): Buffer => {
    const hash = createHash('sha256')
    for (const part of parts) hash.update(part)
    return hash.digest()
  }
  const [clientValue = Buffer.alloc(0)] = client.strings
  const [hostKey = Buffer.alloc(0), serverValue = Buffer.alloc(0)] = server.strings
  const identifications = [client.identification, server.identification]
  const inits = [client.kexInit, server.kexInit]
  const values = [hostKey, clientValue, serverValue]
  const hash = sha256(...[...identifications, ...inits, ...values].map(string), secret)
  const derive = (letter: string): Buffer => sha256(secret, hash, Buffer.from(letter), hash)
  const nonce = derive('A').subarray(0, 12)
  const texts: string[] = []
  for (let at = 0; at < client.sealed.length; ) {
    const length = client.sealed.readUInt32BE(at)
    const decipher = createDecipheriv('aes-256-gcm', derive('C'), nonce)
    decipher.setAAD(client.sealed.subarray(at, at + 4))
    decipher.setAuthTag(client.sealed.subarray(at + 4 + length, at + 20 + length))
    texts.push(
      `${decipher.update(client.sealed.subarray(at + 4, at + 4 + length), undefined, 'latin1')}${decipher.final('latin1')}`,
    )
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) + 1n, 4)
    at += 20 + length
  }
  return texts
}
