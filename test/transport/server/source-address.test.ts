import { describe, expect, test } from 'vitest'
import {
  isAddressAdmitted,
  isInCidrList,
  normalizeAddress,
  parseAddress,
} from '../../../packages/transport/src/auth/source-address.ts'

const hex = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString('hex')

describe('addresses', () => {
  test.each([
    ['127.0.0.1', '7f000001'],
    ['255.255.255.255', 'ffffffff'],
    ['::', '0'.repeat(32)],
    ['::1', `${'0'.repeat(31)}1`],
    ['2001:db8::1', '20010db8000000000000000000000001'],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
    ['1:2:3:4:5:6:7::', '00010002000300040005000600070000'],
    ['::ffff:10.0.0.1', '0a000001'],
    ['64:ff9b::10.0.0.1', '0064ff9b00000000000000000a000001'],
    ['fe80::1%eth0', 'fe800000000000000000000000000001'],
  ])('%s is read', (text, expected) => {
    expect(hex(parseAddress(text))).toBe(expected)
  })

  test.each([
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    '01.2.3.4',
    '1.2.3.-4',
    '0x7f.0.0.1',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
    'g::',
    '1.2.3.4::',
    '::1.2.3',
  ])('"%s" is no address', (text) => {
    expect(parseAddress(text)).toBeUndefined()
  })

  test('an IPv4 address in IPv6 form is shown as IPv4', () => {
    expect(normalizeAddress('::ffff:192.0.2.1')).toBe('192.0.2.1')
    expect(normalizeAddress('::FFFF:192.0.2.1')).toBe('192.0.2.1')
    expect(normalizeAddress('::ffff:999.0.2.1')).toBe('::ffff:999.0.2.1')
    expect(normalizeAddress('2001:db8::1')).toBe('2001:db8::1')
  })
})

describe('pattern lists of from=', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1', true],
    ['10.0.0.1', '10.0.0.2', false],
    ['10.0.0.1', '10.0.0.0/8', true],
    ['11.0.0.1', '10.0.0.0/8', false],
    ['10.0.0.1', '10.0.0.*', true],
    ['10.0.0.11', '10.0.0.?', false],
    ['10.0.0.1', '192.0.2.1,10.0.0.1', true],
    ['10.0.0.1', '*,!10.0.0.1', false],
    ['10.0.0.1', '!10.0.0.1,*', false],
    ['10.0.0.1', '!10.0.0.0/24,10.0.0.0/8', false],
    ['10.0.1.1', '!10.0.0.0/24,10.0.0.0/8', true],
    ['10.0.0.1', '!192.0.2.1', false],
    ['10.0.0.1', '', false],
    ['10.0.0.1', '10.0.0.1,', false],
    ['10.0.0.1', '!', false],
    ['10.0.0.1', '10.0.0.1/8', false],
    ['10.0.0.1', '10.0.0.1/8,10.0.0.1', false],
    ['10.0.0.1', '10.0.0.0/33', false],
    ['10.0.0.1', '0.0.0.0/0', true],
    ['::1', '0.0.0.0/0', false],
    ['2001:db8::5', '2001:db8::/32', true],
    ['2001:db9::5', '2001:db8::/32', false],
    ['2001:db8::5', '2001:DB8:*', true],
    ['::ffff:10.0.0.1', '10.0.0.1', true],
    ['10.0.0.1', '::ffff:10.0.0.1', true],
    ['10.0.0.1', 'host.example', false],
    ['not-an-address', '*', false],
  ])('%s and "%s": %s', (address, list, expected) => {
    expect(isAddressAdmitted(address, list)).toBe(expected)
  })

  test('a list of many stars is matched in linear time', () => {
    const startedAt = performance.now()
    isAddressAdmitted('10.0.0.1', '*1'.repeat(5000))
    expect(performance.now() - startedAt).toBeLessThan(100)
  })
})

describe('networks of source-address', () => {
  test.each([
    ['10.0.0.1', '10.0.0.0/8', true],
    ['10.0.0.1', '10.0.0.1', true],
    ['10.0.0.1', '192.0.2.0/24,10.0.0.0/8', true],
    ['10.0.0.1', '192.0.2.0/24', false],
    ['10.0.0.1', '', false],
    ['10.0.0.1', '10.0.0.*', false],
    ['10.0.0.1', '10.0.0.1,10.0.0.*', false],
    ['10.0.0.1', '!192.0.2.1', false],
    ['10.0.0.1', '10.0.0.1/8', false],
    [undefined, '0.0.0.0/0', false],
  ])('%s and "%s": %s', (address, list, expected) => {
    expect(isInCidrList(address, list)).toBe(expected)
  })
})
