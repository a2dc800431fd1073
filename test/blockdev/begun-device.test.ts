// How a page opens a disk: it connects while the device's code is being fetched, and gives up one where the other fails.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { fetchAndCreate, fetchAndOpen } from '../../packages/blockdev/src/begun-device.ts'
import type { ConnectTarget, DriverHost, DriverSession } from '../../packages/blockdev/src/ssh-driver.ts'
import { insecureAcceptAnyHostKey, nodeCrypto } from '../../packages/transport/src/node.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { describeWith } from '../support/requirements.ts'
import { connectNearby } from './near-session.ts'
import { pattern, rejection } from './scripted-file.ts'

const deviceCode = '../../packages/blockdev/src/sftp-connector-device.ts'
const trust = { hostKeyPolicy: insecureAcceptAnyHostKey(), auth: [] }

/** A host that connects as it is told; nothing else of it is asked for. */
function hostThat(connect: (target: ConnectTarget) => Promise<DriverSession>): DriverHost {
  const notAsked = (): never => {
    throw new Error('was asked for what the options give')
  }
  return {
    crypto: nodeCrypto,
    connect,
    loginName: notAsked,
    knownHosts: notAsked,
    authentication: notAsked,
  }
}

/** A session that nothing is opened on. */
function idleSession(close: () => Promise<void>): DriverSession {
  const hostKey = { type: 'ssh-ed25519', blob: new Uint8Array(1), fingerprint: 'SHA256:' }
  const info = { hostKey, user: 'u', peerIdentification: 'SSH-2.0-x', algorithms: {} }
  return { info, close, openSubsystem: () => new Promise(() => {}) } as unknown as DriverSession
}

afterEach(() => {
  vi.doUnmock(deviceCode)
  vi.resetModules()
})

describe('while the code of the device is being fetched', () => {
  const never = () => new Promise(() => {})

  /** The module as it is where the code comes when `arrive` settles. */
  async function withCode(arrive: () => Promise<unknown>): Promise<typeof fetchAndOpen> {
    vi.resetModules()
    vi.doMock(deviceCode, async (original) => {
      await arrive()
      return original()
    })
    return (await import('../../packages/blockdev/src/begun-device.ts')).fetchAndOpen
  }

  test('the connection is made already', async () => {
    const open = await withCode(never)
    const connect = vi.fn(() => new Promise<DriverSession>(() => {}))
    const signal = new AbortController().signal
    void open('ssh://u@host/disk', { ...trust, writable: true, signal }, hostThat(connect))
    expect(connect).toHaveBeenCalledOnce()
  })

  test('an error of the connection is told at once', async () => {
    const open = await withCode(never)
    const refused = new Error('refused')
    const opening = open(
      'ssh://u@host/disk',
      trust,
      hostThat(() => Promise.reject(refused)),
    )
    expect(await rejection(opening)).toBe(refused)
  })

  test('cancelling reaches whoever connects, and the opening ends where that is done', async () => {
    const open = await withCode(never)
    const abort = new AbortController()
    const close = vi.fn(async () => {})
    let connected: AbortSignal | undefined
    const host = hostThat(async ({ signal }) => {
      connected = signal
      return idleSession(close)
    })
    const opening = open('ssh://u@host/disk', { ...trust, signal: abort.signal }, host)
    await vi.waitFor(() => expect(connected).toBeDefined())
    abort.abort(new Error('enough'))
    expect(await rejection(opening)).toMatchObject({ name: 'BlockDeviceError', code: 'ABORT_ERR' })
    expect(connected?.aborted).toBe(true)
    await vi.waitFor(() => expect(close).toHaveBeenCalled())
  })

  test('where it cannot be had the connection is closed, and the error says so', async () => {
    const open = await withCode(() => Promise.reject(new Error('404')))
    const close = vi.fn(async () => {})
    let connected: (session: DriverSession) => void = () => {}
    const host = hostThat(
      () =>
        new Promise((resolve) => {
          connected = resolve
        }),
    )
    const opening = open('ssh://u@host/disk', trust, host)
    // Not only when the connection is there.
    expect(await rejection(opening)).toMatchObject({
      name: 'BlockDeviceError',
      code: 'EIO',
      message: expect.stringContaining('could not be fetched'),
    })
    connected(idleSession(close))
    await vi.waitFor(() => expect(close).toHaveBeenCalledOnce())
  })
})

describe('a location that cannot be read', () => {
  test('connects to nobody', async () => {
    const connect = vi.fn()
    expect(await rejection(fetchAndOpen('http://host/disk', trust, hostThat(connect)))).toMatchObject({
      name: 'LocationError',
      code: 'EINVAL',
    })
    expect(connect).not.toHaveBeenCalled()
  })
})

describeWith([needsOpenssh()], 'on an OpenSSH server', () => {
  let peer: OpensshPeer
  beforeAll(async () => {
    peer = await startOpensshServer({ scope: 'file' })
  })

  test('a disk is created and opened on one connection each, and connects again after a loss', async () => {
    const near = connectNearby((await clientKey('ed25519')).privateFile)
    const sessions: DriverSession[] = []
    const host = hostThat(async (target) => {
      const session = await near(target)
      sessions.push(session)
      return session
    })
    const path = join(peer.paths.data, 'begun.img')
    const location = `ssh://${peer.user}@${peer.host}:${peer.port}${path}`
    const content = pattern(700_000)
    const made = await fetchAndCreate(location, { ...trust, size: content.length }, host)
    await made.write(0, content)
    await made.close()
    expect(sessions).toHaveLength(1)

    const disk = await fetchAndOpen(location, trust, host)
    const found = new Uint8Array(content.length)
    await disk.read(0, found)
    expect(Buffer.compare(found, content)).toBe(0)
    expect(sessions).toHaveLength(2)
    sessions[1]!.destroy!()
    await disk.read(0, found.fill(0))
    expect(Buffer.compare(found, content)).toBe(0)
    expect(sessions).toHaveLength(3)
    await disk.close()
  })

  test('a file that cannot be opened closes the connection', async () => {
    const near = connectNearby((await clientKey('ed25519')).privateFile)
    let session: DriverSession | undefined
    const host = hostThat(async (target) => {
      session = await near(target)
      return session
    })
    const directory = join(peer.paths.data, 'file')
    writeFileSync(directory, 'no directory')
    const location = `ssh://${peer.user}@${peer.host}:${peer.port}${directory}/nothing`
    expect(await rejection(fetchAndOpen(location, trust, host))).toMatchObject({ name: 'BlockDeviceError' })
    await session!.closed
  })
})
