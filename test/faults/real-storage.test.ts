// What goes wrong behind a server that can be reached: its disk, its space, the file itself. On OpenSSH, with faults injected
// into the system calls of its sftp-server where the machine cannot be made to fail.

import { chmodSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openBlockDevice } from '@sshblock/blockdev/node'
import { expect, it, vi } from 'vitest'
import { needsStrace } from '../blockdev/private-sftp-server.ts'
import { rejection } from '../blockdev/scripted-file.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpensshAccounts, startOpensshServer } from '../support/openssh-server.ts'
import { writeKnownHosts } from '../support/peer.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { mountTmpfs } from '../support/tmpfs.ts'
import { filled, needsSshd, type Sshd, sftpServer, startSshd } from './real-sshd.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const size = 1 << 20

/** A command for the sftp subsystem that injects faults into system calls on `path`; into those of one process only with `once`. */
function injecting(path: string, expressions: readonly string[], once: boolean): string {
  const folder = tempDir('inject')
  const script = join(folder, 'sftp.sh')
  const inject = expressions.map((expression) => `-e ${expression}`).join(' ')
  const strace = `exec strace -f -o /dev/null -P '${path}' ${inject} ${sftpServer}`
  // The mark goes to the first process that writes; here the first that comes.
  const body = once
    ? `if mkdir ${folder}/taken 2>/dev/null; then ${strace}; else exec ${sftpServer}; fi`
    : strace
  writeFileSync(script, `#!/bin/sh\n${body}\n`)
  chmodSync(script, 0o755)
  return script
}

function blockOf(path: string, block: number): Uint8Array {
  return new Uint8Array(readFileSync(path).subarray(block * 4096, (block + 1) * 4096))
}

describeWith([...needsSshd, needsStrace()], 'a disk that fails', () => {
  it('an fsync that fails once: everything since the last good one is written again on a new handle, and the flush succeeds', async () => {
    const folder = tempDir('disk')
    const path = join(folder, 'disk.img')
    writeFileSync(path, new Uint8Array(size))
    const sshd = await startSshd({ sftp: injecting(path, ['inject=fsync:error=EIO:when=1'], true) })
    const { device } = await sshd.open(path)
    await device.write(0, filled(1))
    await device.write(4096, filled(2))
    await device.flush()
    expect(device.info.connection).toMatchObject({ state: 'connected', journalBytes: 0 })
    expect(device.info.connection!.losses).toBeGreaterThan(0)
    await device.close()
    expect([blockOf(path, 0), blockOf(path, 1)]).toEqual([filled(1), filled(2)])
  })

  it('an fsync that always fails: every flush fails with EIO, also those that come later, and so does close', async () => {
    const folder = tempDir('disk')
    const path = join(folder, 'disk.img')
    writeFileSync(path, new Uint8Array(size))
    const sshd = await startSshd({ sftp: injecting(path, ['inject=fsync:error=EIO'], false) })
    const { device } = await sshd.open(path)
    await device.write(0, filled(1))
    for (let time = 0; time < 2; time++)
      expect(await rejection(device.flush())).toMatchObject({ code: 'EIO' })
    const seen = new Uint8Array(4096)
    await device.read(0, seen)
    expect(seen).toEqual(filled(1))
    expect(await rejection(device.close())).toMatchObject({ code: 'EIO' })
  })

  it('EIO of a write is that of the call alone, and the device goes on', async () => {
    const folder = tempDir('disk')
    const path = join(folder, 'disk.img')
    writeFileSync(path, new Uint8Array(size))
    const sshd = await startSshd({ sftp: injecting(path, ['inject=pwrite64,write:error=EIO:when=2'], false) })
    const { device } = await sshd.open(path)
    await device.write(0, filled(1))
    expect(await rejection(device.write(4096, filled(2)))).toMatchObject({
      code: 'EIO',
      offset: 4096,
      length: 4096,
    })
    await device.write(4096, filled(3))
    await device.close()
    expect(blockOf(path, 1)).toEqual(filled(3))
  })
})

describeWith([...needsSshd, needsStrace()], 'a write that the kernel refuses or cuts short', () => {
  it.each([
    ['ENOSPC though the file system has room, as with a quota', 'inject=pwrite64,write:error=ENOSPC:when=2'],
    ['EDQUOT', 'inject=pwrite64,write:error=EDQUOT:when=2'],
    ['a short write', 'inject=pwrite64,write:retval=100:when=2'],
  ])(
    '%s: EIO that says what it may be, nothing is lost, and the range can be written again',
    async (_, fault) => {
      const folder = tempDir('disk')
      const path = join(folder, 'disk.img')
      writeFileSync(path, new Uint8Array(size))
      const sshd = await startSshd({ sftp: injecting(path, [fault], false) })
      const { device } = await sshd.open(path)
      await device.write(0, filled(1))
      expect(await rejection(device.write(4096, filled(2)))).toMatchObject({
        code: 'EIO',
        offset: 4096,
        length: 4096,
        message: expect.stringMatching(/a quota/),
      })
      await device.write(4096, filled(3))
      await device.flush()
      expect(device.info.connection).toMatchObject({ state: 'connected', losses: 0 })
      await device.close()
      expect([blockOf(path, 0), blockOf(path, 1)]).toEqual([filled(1), filled(3)])
    },
  )
})

describeWith(needsSshd, 'a file that is cut under the device', () => {
  it('reads behind its end are errors, never zeros; reads before it go on', async () => {
    const sshd = await startSshd()
    const path = sshd.image(filled(7, size))
    const { device } = await sshd.open(path, { readAhead: false })
    truncateSync(path, size / 2)
    const error = await rejection(device.read(size - 4096, new Uint8Array(4096)))
    expect(error).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/shorter|end of the file|ends/),
    })
    const seen = new Uint8Array(4096)
    await device.read(0, seen)
    expect(seen).toEqual(filled(7))
    await device.close()
    expect(statSync(path).size).toBe(size / 2)
  })
})

describeWith(needsSshd, 'a disk that is full', () => {
  it('a write without space is ENOSPC; reads go on; with space again writes do', async () => {
    const folder = await mountTmpfs(256 * 1024)
    const path = join(folder, 'disk.img')
    const ballast = join(folder, 'ballast')
    writeFileSync(path, '')
    truncateSync(path, size)
    writeFileSync(ballast, new Uint8Array(128 * 1024))
    const sshd = await startSshd()
    const { device } = await sshd.open(path)
    const big = filled(5, 64 * 1024)
    await device.write(0, big)
    const error = await rejection(device.write(128 * 1024, filled(6, 128 * 1024)))
    expect(error).toMatchObject({ code: 'ENOSPC', offset: 128 * 1024, length: 128 * 1024 })
    expect(error.message).toMatch(/space/)
    const seen = new Uint8Array(64 * 1024)
    await device.read(0, seen)
    expect(Buffer.compare(seen, big)).toBe(0)
    rmSync(ballast)
    await device.write(128 * 1024, big)
    await device.flush()
    await device.close()
    expect(Buffer.compare(readFileSync(path).subarray(128 * 1024, 192 * 1024), big)).toBe(0)
  })
})

describeWith(needsSshd, 'a file that is another one after a loss', () => {
  /** A device that has lost its connection; what is done meanwhile decides what it finds. */
  async function after(change: (path: string, sshd: Sshd) => void) {
    const sshd = await startSshd()
    const content = new Uint8Array(size).map((_, index) => (index * 7 + (index >> 9)) & 0xff)
    const path = sshd.image(content)
    const opened = await sshd.open(path)
    await opened.device.write(0, filled(1))
    await opened.device.flush()
    sshd.proxy.refuse()
    sshd.cut('rst')
    change(path, sshd)
    await sshd.proxy.accept()
    return { ...opened, path, sshd }
  }

  it('replaced by another of the same size: the device fails for good, and that file is not touched', async () => {
    const other = filled(9, size)
    const { device, path } = await after((file) => {
      writeFileSync(`${file}.new`, other)
      renameSync(`${file}.new`, file)
    })
    expect(await rejection(device.write(0, filled(2)))).toMatchObject({ code: 'EIO' })
    expect(device.info.connection!.state).toBe('failed')
    await rejection(device.close())
    expect(Buffer.compare(readFileSync(path), other)).toBe(0)
  })

  it('truncated: the device fails for good, and the file does not grow again', async () => {
    const { device, path } = await after((file) => truncateSync(file, size / 2))
    expect(await rejection(device.write(size - 4096, filled(2)))).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/shorter/),
    })
    await rejection(device.close())
    expect(statSync(path).size).toBe(size / 2)
  })

  it('unlinked: calls fail when the budget is over, and no file is made', async () => {
    const sshd = await startSshd()
    const path = sshd.image(new Uint8Array(size))
    const { device } = await sshd.open(path, { reconnectDelayMs: 4000 })
    await device.write(0, filled(1))
    await device.flush()
    rmSync(path)
    sshd.cut('rst')
    const error = await rejection(device.write(0, filled(2)))
    expect(error).toMatchObject({ code: 'EIO', message: expect.stringMatching(/No such file|NO_SUCH_FILE/) })
    await device.close().catch(() => {})
    expect(() => statSync(path)).toThrow(/ENOENT/)
  })

  it('longer: the device goes on, the rest is left alone', async () => {
    const { device, path } = await after((file) => truncateSync(file, size + 8192))
    await device.write(4096, filled(2))
    await device.close()
    expect(statSync(path).size).toBe(size + 8192)
    expect(blockOf(path, 1)).toEqual(filled(2))
  })
})

describeWith([...needsSshd, needsOpensshAccounts()], 'a file that must not be read any more', () => {
  it('made unreadable during an outage: calls fail with what the server said; readable again, they go on', async () => {
    const name = 'alice'
    const peer = await startOpensshServer({ passwordUser: { name, password: 'secret' } })
    const proxy = await startProxy({ target: peer })
    const path = join(peer.paths.data, 'disk.img')
    writeFileSync(path, new Uint8Array(size))
    chmodSync(path, 0o666)
    const device = await openBlockDevice(
      { server: { host: proxy.host, port: proxy.port }, user: name, path },
      {
        knownHostsFiles: [writeKnownHosts(peer.paths.dir, proxy.host, proxy.port, peer.hostKeys)],
        agent: false,
        keyFiles: [(await clientKey('ed25519')).privateFile],
        writable: true,
        reconnectDelayMs: 4000,
        firstRetryMs: 20,
        maxRetryMs: 100,
      },
    )
    await device.write(0, filled(1))
    await device.flush()
    chmodSync(path, 0)
    proxy.cut('rst')
    const error = await rejection(device.read(0, filled(0)))
    expect(error).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/permission denied|PERMISSION_DENIED/i),
    })
    chmodSync(path, 0o666)
    await expect.poll(() => device.info.connection!.state, { timeout: 20_000 }).toBe('connected')
    const seen = new Uint8Array(4096)
    await device.read(0, seen)
    expect(seen).toEqual(filled(1))
    await device.close()
  })
})
