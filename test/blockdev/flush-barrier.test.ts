import { describe, expect, test } from 'vitest'
import { FileDevice } from '../../packages/blockdev/src/file-device.ts'
import type { FileDeviceOptions } from '../../packages/blockdev/src/file-device-options.ts'
import { NotSyncedYetError } from '../../packages/blockdev/src/random-access-file.ts'
import { gate, pattern, rejection, ScriptedFile, settle } from './scripted-file.ts'

function deviceOn(file: ScriptedFile, options: Partial<FileDeviceOptions> = {}) {
  return new FileDevice({ files: [file], size: file.bytes.length, kind: 'file', readOnly: false, ...options })
}

/** The next fsync fails, as the kernel has it: once. */
function failNextSync(file: ScriptedFile) {
  file.onSync = () => {
    file.onSync = () => undefined
    throw Object.assign(new Error('fsync failed'), { code: 'EIO' })
  }
}

const sector = (value: number) => new Uint8Array(512).fill(value)

describe('flush', () => {
  test('syncs what was written, and nothing where nothing was', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file)
    await device.flush()
    expect(file.count('sync')).toBe(0)
    await device.write(0, sector(1))
    await device.flush()
    await device.flush()
    expect(file.count('sync')).toBe(1)
    await device.close()
  })

  test('a flush called after a write ended is not answered by an fsync that was sent before', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file)
    const gates = [gate(), gate()]
    let syncs = 0
    file.onSync = () => gates[syncs++]!.opened as Promise<undefined>
    await device.write(0, sector(1))
    const first = device.flush()
    await settle()
    await device.write(512, sector(2))
    let answered = false
    const second = device.flush().then(() => {
      answered = true
    })
    gates[0]!.open()
    await first
    await settle()
    expect(syncs).toBe(2)
    expect(answered).toBe(false)
    gates[1]!.open()
    await second
  })

  test('a flush called in the very turn in which another ends is not answered without an fsync', async () => {
    for (let turn = 0; turn < 16; turn++) {
      const file = new ScriptedFile(4096)
      const device = deviceOn(file)
      const gates = [gate(), gate(), gate()]
      let syncs = 0
      file.onSync = () => gates[syncs++]!.opened as Promise<undefined>
      await device.write(0, sector(1))
      const first = device.flush()
      await settle()
      await device.write(512, sector(2))
      let answered = 0
      const answer = () => {
        answered++
      }
      const second = device.flush().then(answer)
      gates[0]!.open()
      for (let i = 0; i < turn; i++) await undefined
      const third = device.flush().then(answer)
      await settle()
      await first
      expect(answered, `in turn ${turn}`).toBe(0)
      for (const each of gates) each.open()
      await Promise.all([second, third])
    }
  })

  test('flushes that come together share one fsync', async () => {
    const file = new ScriptedFile(1 << 16)
    file.hops = () => 20
    const device = deviceOn(file)
    await device.write(0, sector(1))
    await Promise.all(Array.from({ length: 20 }, () => device.flush()))
    expect(file.count('sync')).toBe(1)
    await Promise.all(Array.from({ length: 20 }, (_, i) => device.write(i * 512, sector(i), { fua: true })))
    expect(file.count('sync')).toBeLessThanOrEqual(4)
  })

  test('a write with force unit access is synced when it resolves', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file)
    await device.write(0, sector(1), { fua: true })
    await device.writeZeroes(0, 512, { fua: true })
    expect(file.calls.map(({ call }) => call)).toEqual(['write', 'sync', 'write', 'sync'])
    failNextSync(file)
    expect(await rejection(device.write(0, sector(1), { fua: true }))).toMatchObject({
      code: 'EIO',
      offset: 0,
      length: 512,
    })
  })

  test('every handle that was written through is synced', async () => {
    const files = [new ScriptedFile(4096), new ScriptedFile(4096)] as const
    const device = new FileDevice({ files: [...files], size: 4096, kind: 'file', readOnly: false })
    await device.write(0, sector(1))
    await device.flush()
    expect(files.map((file) => file.count('sync'))).toEqual([1, 0])
    await device.close()
  })
})

describe('a failed fsync stays failed', () => {
  test('later flushes fail too, without asking: the next fsync would say OK and the data is gone', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file)
    await device.write(0, sector(1))
    failNextSync(file)
    const first = await rejection(device.flush())
    expect(first).toMatchObject({ code: 'EIO' })
    for (let i = 0; i < 3; i++) {
      const later = await rejection(device.flush())
      expect(later).toMatchObject({ code: 'EIO', cause: { message: 'fsync failed' } })
      expect(later.message).toMatch(/write the 512 bytes in doubt again/)
    }
    expect(file.count('sync')).toBe(1)
    expect(await rejection(device.close())).toMatchObject({ code: 'EIO' })
  })

  test('writing something else does not help; writing everything since the last good fsync again does', async () => {
    const file = new ScriptedFile(8192)
    const device = deviceOn(file)
    await device.write(4096, sector(9))
    await device.flush()
    await device.write(0, sector(1))
    await device.write(1024, sector(2))
    failNextSync(file)
    await rejection(device.flush())
    await device.write(2048, sector(3))
    await rejection(device.flush())
    await device.write(0, sector(1))
    await rejection(device.flush())
    await device.write(1000, new Uint8Array(536))
    await device.flush()
    await device.close()
    expect(file.count('sync')).toBe(3)
  })

  test('what was written while the fsync was under way is in doubt too, acknowledged or not', async () => {
    const file = new ScriptedFile(8192)
    const device = deviceOn(file)
    await device.write(0, sector(1))
    const sync = gate()
    file.onSync = async () => {
      await sync.opened
      file.onSync = () => undefined
      throw Object.assign(new Error('fsync failed'), { code: 'EIO' })
    }
    const flushing = device.flush()
    await settle()
    await device.write(512, sector(2))
    const slow = gate()
    file.onWrite = () => slow.opened as Promise<undefined>
    const late = device.write(1024, sector(3))
    await settle()
    sync.open()
    await rejection(flushing)
    slow.open()
    await late
    file.onWrite = () => undefined
    expect((await rejection(device.flush())).message).toMatch(/write the 1536 bytes/)
    await device.write(0, sector(1))
    await device.write(512, sector(2))
    await rejection(device.flush())
    await device.write(1024, sector(3))
    await device.flush()
  })

  test('a failed attempt to write the bytes again does not count', async () => {
    const file = new ScriptedFile(8192)
    const device = deviceOn(file)
    await device.write(0, sector(1))
    failNextSync(file)
    await rejection(device.flush())
    file.onWrite = () => {
      throw Object.assign(new Error('bad'), { code: 'EIO' })
    }
    await rejection(device.write(0, sector(1)))
    file.onWrite = () => undefined
    await rejection(device.flush())
    await device.write(0, sector(1))
    await device.flush()
  })

  test('bytes that were cut off need not be written again; a changed size in doubt needs a new opening', async () => {
    const file = new ScriptedFile(8192)
    const device = deviceOn(file)
    await device.write(4096, sector(1))
    failNextSync(file)
    await rejection(device.flush())
    await device.resize(4096, { shrink: true })
    await device.flush()
    await device.resize(8192)
    failNextSync(file)
    await rejection(device.flush())
    await device.write(0, new Uint8Array(8192))
    expect((await rejection(device.flush())).message).toMatch(/open the device again/)
  })

  test('zeros in doubt are not called zero any more', async () => {
    const file = new ScriptedFile(pattern(4096))
    const device = deviceOn(file)
    await device.writeZeroes(0, 1024)
    expect(device.extents(0, 1024)).toEqual([{ offset: 0, length: 1024, zero: true }])
    failNextSync(file)
    await rejection(device.flush())
    expect(device.extents(0, 1024)).toEqual([{ offset: 0, length: 1024, zero: false }])
  })
})

describe('zeros and a sync that fails', () => {
  test('zeros of which a part fell into a failed sync are not called zero', async () => {
    const file = new ScriptedFile(pattern(3 << 20))
    const device = deviceOn(file)
    const held = gate()
    let pieces = 0
    file.onWrite = async () => {
      if (++pieces === 2) await held.opened
      return undefined
    }
    const zeroing = device.writeZeroes(0, 3 << 20)
    await settle()
    failNextSync(file)
    await rejection(device.flush())
    held.open()
    await zeroing
    expect(device.extents(0, 3 << 20).some(({ offset, zero }) => zero && offset < 1 << 20)).toBe(false)
  })
})

describe('storage that cannot sync', () => {
  test('strict: opening for writing is refused and says why; reading is fine', () => {
    const file = new ScriptedFile(4096)
    file.canSync = false
    expect(() => deviceOn(file, { storageName: 'server "h"', missingSync: 'fsync@openssh.com' })).toThrow(
      expect.objectContaining({
        code: 'ENOTSUP',
        message: expect.stringMatching(/server "h" has no fsync@openssh.com/),
      }),
    )
    const device = deviceOn(file, { readOnly: true })
    expect(device.durability).toBe('volatile')
  })

  test('unsafe: flush succeeds with one warning, and the device says that it is volatile', async () => {
    const file = new ScriptedFile(4096)
    file.canSync = false
    const warnings: string[] = []
    const device = deviceOn(file, {
      flushPolicy: 'unsafe',
      storageName: 'server "h"',
      missingSync: 'fsync@openssh.com',
      onWarning: (message) => warnings.push(message),
    })
    expect([device.durability, device.flushPolicy]).toEqual(['volatile', 'unsafe'])
    await device.write(0, sector(1))
    await device.flush()
    await device.write(0, sector(2), { fua: true })
    await device.close()
    expect(warnings).toEqual(['server "h" has no fsync@openssh.com; data may be lost on a crash'])
    expect(file.count('sync')).toBe(0)
  })
})

describe('a storage that keeps what is not durable', () => {
  test('a flush that fails loses nothing: the next one syncs all of it, without anything being written again', async () => {
    const file = new ScriptedFile(4096)
    const device = deviceOn(file)
    await device.write(0, sector(1))
    file.onSync = () => {
      file.onSync = () => undefined
      throw new NotSyncedYetError(new Error('no connection'))
    }
    expect(await rejection(device.flush())).toMatchObject({ code: 'EIO' })
    await device.flush()
    expect(file.count('sync')).toBe(2)
    await device.flush()
    expect(file.count('sync')).toBe(2)
    await device.close()
  })
})
