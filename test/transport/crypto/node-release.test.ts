import { describe, expect, test } from 'vitest'
import { aesGcm } from '../../../packages/transport/src/crypto/node-ciphers.ts'
import { releaseMemory } from '../../../packages/transport/src/crypto/node-release.ts'

const key = new Uint8Array(32).fill(1)
const aad = new Uint8Array(4)
const nonce = (count: number): Uint8Array => new Uint8Array(12).fill(count)

function sealed(count: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length + 16).fill(count, 0, length)
  void aesGcm(key).sealInPlace(nonce(count), aad, bytes)
  return bytes
}

describe('memory of packets', () => {
  test('is given back at once, not left to the collector', () => {
    const bytes = new Uint8Array(32_768)
    releaseMemory(bytes)
    expect(bytes.length).toBe(0)
    expect(bytes.buffer.byteLength).toBe(0)
  })

  test('that others share is left alone', () => {
    const shared = new Uint8Array(65_536)
    releaseMemory(shared.subarray(0, 32_768))
    expect(shared.length).toBe(65_536)
  })

  test('a plaintext is whole until the next packet is opened, and gone then', () => {
    const gcm = aesGcm(key)
    const first = gcm.open(nonce(1), aad, sealed(1, 32_768)) as Uint8Array
    expect(first.every((byte) => byte === 1)).toBe(true)
    const second = gcm.open(nonce(2), aad, sealed(2, 32_768)) as Uint8Array
    expect(first.length).toBe(0)
    expect(second.every((byte) => byte === 2)).toBe(true)
  })

  test('two connections do not free packets of each other', () => {
    const one = aesGcm(key)
    const other = aesGcm(key)
    const mine = one.open(nonce(1), aad, sealed(1, 32_768)) as Uint8Array
    other.open(nonce(2), aad, sealed(2, 32_768))
    expect(mine.length).toBe(32_768)
  })
})
