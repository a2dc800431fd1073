/** The subsystem, and what is said to it, in one go: round trips counted by the path, and what a refusal looks like. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openBlockDevice } from '../../packages/blockdev/src/node.ts'
import { SftpClient } from '../../packages/sftp/src/index.ts'
import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '../../packages/transport/src/node.ts'
import { needsAsyncssh, startAsyncssh } from '../support/asyncssh-server.ts'
import { needsDropbear, startDropbear } from '../support/dropbear-server.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshOptions, startOpensshServer } from '../support/openssh-server.ts'
import { needsOpenssh10, startOpenssh10 } from '../support/openssh10.ts'
import { startOurServer } from '../support/our-server.ts'
import { needsParamiko, startParamiko } from '../support/paramiko-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith, type Requirement } from '../support/requirements.ts'

const openssh = (options: OpensshOptions = {}) => startOpensshServer(options)

async function loggedIn(peer: { host: string; port: number; user: string }) {
  const proxy = await startProxy({ target: { host: peer.host, port: peer.port }, delayMs: 5 })
  const session = await connect({
    host: proxy.host,
    port: proxy.port,
    username: peer.user,
    hostKeyPolicy: insecureAcceptAnyHostKey(),
    auth: [keyFileAuth((await clientKey('ed25519')).privateFile)],
  })
  return { session, turns: () => proxy.counters().turns }
}

describeWith([needsOpenssh()], 'a subsystem that is asked for and used in one go', () => {
  test('takes a round trip less to SFTP, and works as any', async () => {
    const count = async (pipelined: boolean): Promise<number> => {
      // Ours: OpenSSH's gives the channel no window before it took the request.
      const { session, turns } = await loggedIn(await startOurServer())
      const before = turns()
      const client = await SftpClient.open(await session.openSubsystem('sftp', { pipelined }))
      const used = turns() - before
      await client.limitsKnown
      await expect(client.realpath('.')).resolves.toMatch(/^\//)
      await session.close()
      return used
    }
    expect(await count(false)).toBe(3)
    expect(await count(true)).toBe(2)
  })

  test('is refused with the same error, only later', async () => {
    const { session } = await loggedIn(await openssh({ sftp: null }))
    const refused = { code: 'ERR_SSH_REQUEST_REFUSED' }
    await expect(session.openSubsystem('sftp')).rejects.toMatchObject(refused)
    const channel = await session.openSubsystem('sftp', { pipelined: true })
    await expect(SftpClient.open(channel)).rejects.toMatchObject(refused)
    await session.close()
  })

  test('a login takes four round trips: one for TCP, identification and proposals, key exchange, authentication', async () => {
    const { session, turns } = await loggedIn(await openssh())
    expect(1 + turns()).toBe(4)
    await session.close()
  })

  test('the cipher agreed on is the fastest of the runtime, and the session says why', async () => {
    const { session } = await loggedIn(await openssh())
    const { algorithms, cipherOrder } = session.info
    expect(algorithms.cipherServerToClient).toBe(cipherOrder.names[0])
    expect(cipherOrder.names[0]).toBe('aes256-gcm@openssh.com')
    expect(cipherOrder.reason).toContain('OpenSSL')
    await session.close()
  })
})

interface Target {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly paths: { readonly data: string }
}

/** Opens `image` through a path, and counts how often the client spoke after it had heard the server; TCP's round trip is one more. */
async function openedAfar(
  peer: Target,
  image: string,
  options: { writable?: boolean; delayMs?: number } = {},
) {
  const { writable = false, delayMs = 20 } = options
  const proxy = await startProxy({ target: { host: peer.host, port: peer.port }, delayMs })
  const device = await openBlockDevice(
    `ssh://${peer.user}@${proxy.host}:${proxy.port}${image}?host_key_check=no`,
    { agent: false, keyFiles: [(await clientKey('ed25519')).privateFile], writable },
  )
  return { device, proxy, roundTrips: () => 1 + proxy.counters().turns }
}

const content = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31) >>> 3)

const servers: [string, number, Requirement, () => Promise<Target>][] = [
  ['OpenSSH of this machine', 8, needsOpenssh(), () => startOpensshServer({ sftp: 'sftp-server' })],
  ['OpenSSH 10', 8, await needsOpenssh10(), () => startOpenssh10({ sftp: 'sftp-server' })],
  // It gives a channel its window at once, so that INIT may go with the request for the subsystem.
  ['dropbear', 8, needsDropbear(), () => startDropbear()],
  ['asyncssh', 8, needsAsyncssh(), () => startAsyncssh()],
  ['our server', 8, needsOpenssh(), () => startOurServer()],
  // Not known to take anything before it has answered.
  ['paramiko', 12, needsParamiko(), () => startParamiko()],
]

for (const [name, expected, requirement, start] of servers) {
  describeWith([requirement], `from the connection to the first byte, on ${name}`, () => {
    test(`a device takes ${expected} round trips`, async () => {
      const peer = await start()
      const file = join(peer.paths.data, 'image')
      writeFileSync(file, content)
      // A busy machine can cut an answer in two, which counts as one more; none is ever saved by chance.
      let least = Number.POSITIVE_INFINITY
      for (let attempt = 0; attempt < 4 && least > expected; attempt++) {
        const { device, roundTrips } = await openedAfar(peer, name === 'our server' ? '/image' : file)
        const into = new Uint8Array(512)
        await device.read(0, into)
        least = Math.min(least, roundTrips())
        expect(into).toEqual(content.subarray(0, 512))
        const whole = new Uint8Array(content.length)
        await device.read(0, whole)
        expect(Buffer.compare(whole, content)).toBe(0)
        await device.close()
      }
      expect(least).toBe(expected)
    })
  })
}

describeWith([needsOpenssh()], 'a device that is opened for writing over a long way', () => {
  test('has all its channels when the first write is answered, or soon', async () => {
    const peer = await openssh({ sftp: 'sftp-server' })
    const file = join(peer.paths.data, 'image')
    writeFileSync(file, content)
    const { device, roundTrips } = await openedAfar(peer, file, { writable: true, delayMs: 30 })
    const data = content.slice().reverse()
    await device.write(0, data)
    expect(roundTrips()).toBeLessThanOrEqual(13)
    await expect.poll(() => device.info.channels, { timeout: 1000 }).toBe(8)
    expect(device.info.connection).toMatchObject({ connections: 1, fence: 'processes' })
    await device.flush()
    await device.close()
    expect(Buffer.compare(readFileSync(file), data)).toBe(0)
  })

  test('goes on with what it gets where the server gives two channels', async () => {
    const peer = await openssh({ sftp: 'sftp-server', maxSessions: 2 })
    const file = join(peer.paths.data, 'image')
    writeFileSync(file, content)
    const { device } = await openedAfar(peer, file, { writable: true, delayMs: 30 })
    const data = content.slice().reverse()
    await device.write(0, data)
    // One of the two goes to the command that tells who serves us, and back.
    expect(device.info.connection).toMatchObject({ fence: 'processes' })
    await device.flush()
    await device.close()
    expect(Buffer.compare(readFileSync(file), data)).toBe(0)
  })

  test('leaves the time of the last change the present one', async () => {
    const peer = await openssh({ sftp: 'sftp-server' })
    const file = join(peer.paths.data, 'image')
    writeFileSync(file, content)
    const { device } = await openedAfar(peer, file, { writable: true, delayMs: 30 })
    await expect.poll(() => device.info.channels, { timeout: 5000 }).toBe(8)
    await device.flush()
    await device.close()
    expect(Math.abs(statSync(file).mtimeMs - Date.now())).toBeLessThan(60_000)
    expect(Math.abs(statSync(file).atimeMs - Date.now())).toBeLessThan(60_000)
  })
})
