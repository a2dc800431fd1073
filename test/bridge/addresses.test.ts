/** Which addresses a bridge may be led to: text to bytes, special networks, and everything that stands for them. */
import { BlockList, isIPv4 } from 'node:net'
import { describe, expect, it } from 'vitest'
import {
  clientKey,
  embeddedV4,
  isPublic,
  isWithin,
  looksNumeric,
  mayConnect,
  parseAddress,
  parseNetwork,
} from '../../packages/bridge/src/address.ts'
import { closeReason } from '../../packages/bridge/src/close-codes.ts'

const bytes = (text: string): Uint8Array => parseAddress(text)!
const network = (text: string) => parseNetwork(text)!

describe('an address', () => {
  it.each([
    ['1.2.3.4', [1, 2, 3, 4]],
    ['::', Array(16).fill(0)],
    ['::1', [...Array(15).fill(0), 1]],
    ['2001:db8::ff00:42:8329', [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0x42, 0x83, 0x29]],
    ['1:2:3:4:5:6:7:8', [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]],
    ['1:2:3:4:5:6:7::', [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0]],
    ['::ffff:10.1.2.3', [...Array(10).fill(0), 255, 255, 10, 1, 2, 3]],
    ['64:ff9b::192.0.2.33', [0, 0x64, 0xff, 0x9b, ...Array(8).fill(0), 192, 0, 2, 33]],
  ])('%s has its bytes', (text, expected) => {
    expect([...bytes(text)]).toEqual(expected)
  })

  it.each([
    '2130706433',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '127.1',
    '127.0.1',
    '0x7f000001',
    '1.2.3.4.5',
    '256.1.1.1',
    'fe80::1%eth0',
    '[::1]',
    '',
    '::1::',
    'localhost',
  ])('is not %j', (text) => {
    expect(parseAddress(text)).toBeUndefined()
  })

  it.each(['2130706433', '0x7f.0.0.1', '127.1', '0x7f000001', 'host.0x7f', 'host.1', '1.', 'a.0x'])(
    'may be meant by %s',
    (host) => {
      expect(looksNumeric(host)).toBe(true)
    },
  )

  it.each(['localhost', 'db1', '1db', '10.example.org', 'a.x0f', 'xn--bcher-kva.example'])(
    'is not meant by %s',
    (host) => {
      expect(looksNumeric(host)).toBe(false)
    },
  )
})

describe('a network', () => {
  it.each([
    '10.0.0.0/33',
    '10.0.0.1/8',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    '10.0.0.0/1e1',
    'x/8',
    '::/129',
    '10/8',
  ])('is not %s', (text) => {
    expect(parseNetwork(text)).toBeUndefined()
  })

  it('holds what BlockList holds, at every prefix length', () => {
    for (const [base, inside] of [
      ['203.0.113.77', '203.0.113.77'],
      ['2001:db8:aaaa:5555::ffff', '2001:db8:aaaa:5555::ffff'],
    ] as const) {
      const family = isIPv4(base) ? 'ipv4' : 'ipv6'
      const bits = isIPv4(base) ? 32 : 128
      for (let prefix = 0; prefix <= bits; prefix++) {
        const address = bytes(base).map(
          (byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i))),
        )
        const text = family === 'ipv4' ? address.join('.') : hexGroups(address)
        const oracle = new BlockList()
        oracle.addSubnet(text, prefix, family)
        for (let flipped = 0; flipped < bits; flipped += 3) {
          const other = bytes(inside).map((byte, i) =>
            i === flipped >> 3 ? byte ^ (0x80 >> (flipped & 7)) : byte,
          )
          const otherText = family === 'ipv4' ? other.join('.') : hexGroups(other)
          expect(
            isWithin(bytes(otherText), network(`${text}/${prefix}`)),
            `${otherText} in ${text}/${prefix}`,
          ).toBe(oracle.check(otherText, family))
        }
      }
    }
  })
})

function hexGroups(address: Uint8Array): string {
  return Array.from({ length: 8 }, (_, i) => (address[2 * i]! * 256 + address[2 * i + 1]!).toString(16)).join(
    ':',
  )
}

const special = [
  ['this host', '0.0.0.0', '0.255.255.255', '::'],
  ['loopback', '127.0.0.1', '127.255.255.254', '::1'],
  ['link-local', '169.254.169.254', 'fe80::1', 'febf::1'],
  ['private', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
  ['shared', '100.64.0.1', '100.127.255.255'],
  ['unique local and site-local', 'fc00::1', 'fdff::1', 'fec0::1'],
  [
    'multicast, broadcast, reserved',
    '224.0.0.1',
    '239.1.1.1',
    '240.0.0.1',
    '255.255.255.255',
    'ff02::1',
    '4000::1',
  ],
  [
    'documentation, benchmarks',
    '192.0.2.1',
    '198.51.100.1',
    '203.0.113.1',
    '198.18.0.1',
    '2001:db8::1',
    '3fff::1',
    '100::1',
  ],
  ['IPv4-mapped', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '::ffff:7f00:1'],
  ['IPv4-compatible and translated', '::127.0.0.1', '::ffff:0:127.0.0.1'],
  ['NAT64', '64:ff9b::127.0.0.1', '64:ff9b::8.8.8.8', '64:ff9b:1::a00:1'],
  ['6to4 and Teredo', '2002:7f00:1::', '2002:0808:0808::', '2001:0:1:2:3:4:5:6'],
] as const

describe('the public internet', () => {
  it.each<readonly [string, ...string[]]>(special)('has no %s addresses', (_, ...addresses) => {
    for (const text of addresses) {
      expect(isPublic(bytes(text)), text).toBe(false)
      expect(mayConnect(bytes(text), []), text).toBe(false)
    }
  })

  it.each([
    '8.8.8.8',
    '1.1.1.1',
    '126.255.255.255',
    '128.0.0.1',
    '172.15.0.1',
    '172.32.0.1',
    '100.63.0.1',
    '100.128.0.1',
    '169.253.1.1',
    '223.255.255.255',
    '2606:4700::1',
    '2a00:1450::1',
  ])('has %s', (text) => {
    expect(mayConnect(bytes(text), [])).toBe(true)
  })

  it('lets an operator add networks, and those alone', () => {
    const allowed = [network('10.1.0.0/16'), network('fd00::/8')]
    for (const text of ['10.1.2.3', 'fd12::1']) expect(mayConnect(bytes(text), allowed)).toBe(true)
    for (const text of ['10.2.0.1', '127.0.0.1', 'fc00::1', '::ffff:10.1.2.3'])
      expect(mayConnect(bytes(text), allowed)).toBe(false)
  })

  it('asks of an allowed tunnel address where the tunnel ends', () => {
    const nat64 = [network('64:ff9b::/96')]
    expect(mayConnect(bytes('64:ff9b::8.8.8.8'), nat64)).toBe(true)
    expect(mayConnect(bytes('64:ff9b::127.0.0.1'), nat64)).toBe(false)
    expect(mayConnect(bytes('64:ff9b::10.0.0.1'), [...nat64, network('10.0.0.0/8')])).toBe(true)
    expect(mayConnect(bytes('2002:7f00:1::'), [network('2002::/16')])).toBe(false)
    // Teredo hides the address of its client inverted (RFC 4380 s4).
    expect([...embeddedV4(bytes('2001::80ff:fffe'))!]).toEqual([127, 0, 0, 1])
  })

  it('allows ::1 without allowing 0.0.0.1', () => {
    expect(mayConnect(bytes('::1'), [network('::1')])).toBe(true)
  })
})

describe('who counts as one client', () => {
  it('is an IPv4 address, or a /64', () => {
    expect(clientKey('::ffff:192.0.2.1')).toBe(clientKey('192.0.2.1'))
    expect(clientKey('2001:db8:1:2::1')).toBe(clientKey('2001:db8:1:2:ffff::9'))
    expect(clientKey('2001:db8:1:2::1')).not.toBe(clientKey('2001:db8:1:3::1'))
    expect(clientKey('192.0.2.1')).not.toBe(clientKey('192.0.2.2'))
  })
})

describe('a close reason', () => {
  it('has at most 123 bytes and no character cut in two', () => {
    expect(closeReason('x'.repeat(123))).toBe('x'.repeat(123))
    for (let ascii = 0; ascii < 8; ascii++) {
      for (const letter of ['é', '€', '😀']) {
        const reason = closeReason('x'.repeat(ascii) + letter.repeat(60))
        expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(123)
        expect(Buffer.byteLength(reason)).toBeGreaterThan(119)
        expect(reason).not.toContain('\ufffd')
      }
    }
    expect(closeReason('a\r\nb\u202e')).toBe('a\\u{d}\\u{a}b\\u{202e}')
  })
})
