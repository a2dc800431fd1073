import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SparseBytes } from '../../../packages/sftp/src/backend/sparse-bytes.ts'
import { BackendError } from '../../../packages/sftp/src/backend.ts'
import { MemoryBackend } from '../../../packages/sftp/src/memory-backend.ts'

const writing = { read: true, write: true, append: false, create: true, truncate: false, exclusive: false }

function errorOf(call: () => unknown): string | undefined {
  try {
    call()
    return undefined
  } catch (error) {
    if (error instanceof BackendError) return error.code
    throw error
  }
}

describe('sparse bytes', () => {
  const position = fc.oneof(
    fc.nat(300),
    fc.integer({ min: 65_000, max: 66_000 }),
    fc.integer({ min: 130_000, max: 200_000 }),
  )
  const change = fc.oneof(
    fc.record({ write: position, length: fc.oneof(fc.nat(600), fc.integer({ min: 65_000, max: 140_000 })) }),
    fc.record({ truncate: position }),
  )

  test('read back what a plain array would hold', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        let held = 0
        const sparse = new SparseBytes((bytes) => {
          held += bytes
        })
        let plain = new Uint8Array(0)
        let fill = 1
        const resize = (size: number) => {
          const next = new Uint8Array(size)
          next.set(plain.subarray(0, size))
          plain = next
        }
        for (const step of changes) {
          if ('truncate' in step) {
            sparse.truncate(step.truncate)
            resize(step.truncate)
          } else {
            const bytes = new Uint8Array(step.length).fill(fill++)
            sparse.write(step.write, bytes)
            if (step.length > 0 && step.write + step.length > plain.length) resize(step.write + step.length)
            plain.set(bytes, step.length > 0 ? step.write : 0)
          }
          expect(sparse.size).toBe(plain.length)
          const back = new Uint8Array(plain.length + 50).fill(0xee)
          expect(sparse.read(0, back)).toBe(plain.length)
          expect(Buffer.compare(back.subarray(0, plain.length), plain)).toBe(0)
          expect(back.subarray(plain.length).every((byte) => byte === 0xee)).toBe(true)
        }
        sparse.truncate(0)
        expect(held).toBe(0)
      }),
      { numRuns: 100 },
    )
  })

  test('a hole of any size costs nothing, and 2^53 - 1 is the end', () => {
    let held = 0
    const sparse = new SparseBytes((bytes) => {
      held += bytes
    })
    sparse.truncate(Number.MAX_SAFE_INTEGER)
    expect(held).toBe(0)
    sparse.write(Number.MAX_SAFE_INTEGER - 3, Uint8Array.of(1, 2, 3))
    const back = new Uint8Array(10)
    expect(sparse.read(Number.MAX_SAFE_INTEGER - 5, back)).toBe(5)
    expect([...back.subarray(0, 5)]).toEqual([0, 0, 1, 2, 3])
    expect(held).toBeLessThanOrEqual(65_536)
    expect(errorOf(() => sparse.write(Number.MAX_SAFE_INTEGER, Uint8Array.of(1)))).toBe('EFBIG')
  })
})

describe('a memory back end', () => {
  test('is full at its capacity, and not for ever', () => {
    const memory = new MemoryBackend({ capacityBytes: 100_000 })
    memory.writeFile('/a', new Uint8Array(65_536))
    expect(errorOf(() => memory.writeFile('/b', new Uint8Array(65_536)))).toBe('ENOSPC')
    expect(memory.statvfs('/').bavail).toBeLessThan(20n)
    memory.remove('/a')
    memory.remove('/b')
    expect(memory.heldBytes).toBe(0)
    memory.writeFile('/b', new Uint8Array(65_536))
  })

  test('keeps the content of a removed file while it is open', () => {
    const memory = new MemoryBackend()
    const file = memory.open('/a', writing, 0o666)
    file.write(0, Uint8Array.of(1, 2, 3))
    memory.remove('/a')
    const back = new Uint8Array(3)
    expect(file.read(0, back)).toBe(3)
    expect(memory.heldBytes).toBeGreaterThan(0)
    file.close()
    expect(memory.heldBytes).toBe(0)
  })

  test('counts links as POSIX does', () => {
    const memory = new MemoryBackend()
    memory.makeDirectories('/d/e')
    memory.writeFile('/d/a', 'x')
    memory.hardlink('/d/a', '/b')
    expect(memory.stat('/b').nlink).toBe(2)
    expect(memory.stat('/d').nlink).toBe(3)
    memory.posixRename('/d/e', '/e')
    expect(memory.stat('/d').nlink).toBe(2)
    expect(memory.stat('/').nlink).toBe(4)
    memory.posixRename('/b', '/d/a')
    memory.remove('/b')
    expect(memory.stat('/d/a').nlink).toBe(1)
  })

  test('stamps what changes with its clock', () => {
    let now = 100
    const memory = new MemoryBackend({ now: () => now })
    memory.writeFile('/a', 'x')
    now = 200
    const file = memory.open('/a', { ...writing, create: false }, 0)
    expect(memory.stat('/a').mtime).toBe(100)
    file.write(0, Uint8Array.of(1))
    expect(memory.stat('/a').mtime).toBe(200)
    now = 300
    memory.remove('/a')
    expect(memory.stat('/').mtime).toBe(300)
  })

  test('names as objects have them are only names', () => {
    const memory = new MemoryBackend()
    for (const name of ['__proto__', 'constructor', 'toString']) {
      expect(errorOf(() => memory.stat(`/${name}`))).toBe('ENOENT')
      memory.writeFile(`/${name}`, name)
      expect(new TextDecoder().decode(memory.readFile(`/${name}`))).toBe(name)
    }
  })
})
