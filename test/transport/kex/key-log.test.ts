import { expect, test } from 'vitest'
import { keyLogLine } from '../../../packages/transport/src/kex/key-log.ts'
import { mpintSecret, stringSecret } from '../../../packages/transport/src/kex/shared-secret.ts'

const cookie = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i)
const start = 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff SHARED_SECRET '

// Wireshark puts the zero byte of an mpint in front where the first bit is set, and takes one that is there.
test('a line of the key log has the cookie, the kind of secret, and K without its length', () => {
  expect(keyLogLine(cookie, mpintSecret(Uint8Array.of(0x12, 0x34)))).toBe(`${start}1234`)
  expect(keyLogLine(cookie, mpintSecret(Uint8Array.of(0x80, 0x01)))).toBe(`${start}008001`)
  expect(keyLogLine(cookie, stringSecret(Uint8Array.of(0x80, 0x01)))).toBe(`${start}8001`)
})
