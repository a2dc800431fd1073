// IP addresses as bytes, networks, and which addresses belong to the public internet. Pure functions.
// The text that is accepted is the canonical one: the forms that inet_aton(3) also takes (2130706433, 0x7f.1, 0177.0.0.1,
// 127.1) are no addresses here, and `looksNumeric` keeps them from being looked up as names, which the system's resolver
// would turn into addresses.

import { isIPv4, isIPv6 } from 'node:net'

/** 4 or 16 bytes. */
export type AddressBytes = Uint8Array

export interface Network {
  readonly bytes: AddressBytes
  readonly prefixBits: number
}

/** The bytes of an IPv4 or IPv6 address; undefined for any other text, and for one with a zone. */
export function parseAddress(text: string): AddressBytes | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (!isIPv6(text) || text.includes('%')) return undefined
  // The last four bytes may be written as IPv4 (RFC 4291 s2.2).
  const dotted = text.lastIndexOf(':') + 1
  const v4 = text.includes('.') ? parseAddress(text.slice(dotted)) : undefined
  const hex = v4 === undefined ? text : `${text.slice(0, dotted)}${group(v4, 0)}:${group(v4, 2)}`
  const [head = '', tail] = hex.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right]
  return Uint8Array.from(
    groups.flatMap((each) => [Number.parseInt(each, 16) >>> 8, Number.parseInt(each, 16) & 0xff]),
  )
}

function group(bytes: Uint8Array, at: number): string {
  return (bytes[at]! * 256 + bytes[at + 1]!).toString(16)
}

/** '10.0.0.0/8', or a single address; undefined for anything else, also where bits beyond the prefix are set. */
export function parseNetwork(text: string): Network | undefined {
  const [address = '', prefix, ...rest] = text.split('/')
  const bytes = parseAddress(address)
  if (bytes === undefined || rest.length > 0) return undefined
  const bits = bytes.length * 8
  const prefixBits = prefix === undefined ? bits : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1
  if (prefixBits < 0 || prefixBits > bits) return undefined
  const network = { bytes, prefixBits }
  const isBase = Array.from({ length: bits - prefixBits }, (_, i) => bitOf(bytes, prefixBits + i)).every(
    (bit) => bit === 0,
  )
  return isBase ? network : undefined
}

function bitOf(bytes: Uint8Array, index: number): number {
  return (bytes[index >> 3]! >> (7 - (index & 7))) & 1
}

/** Whether an address lies in a network. IPv4 and its IPv6 forms are different addresses here. */
export function isWithin(address: AddressBytes, { bytes, prefixBits }: Network): boolean {
  if (address.length !== bytes.length) return false
  for (let bit = 0; bit < prefixBits; bit++) if (bitOf(address, bit) !== bitOf(bytes, bit)) return false
  return true
}

const networks = (...texts: string[]): readonly Network[] => texts.map((text) => parseNetwork(text)!)

// IANA IPv4 Special-Purpose Address Registry (RFC 6890), multicast (RFC 5771) and what is reserved.
const specialV4 = networks(
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
)
// Global unicast is 2000::/3 (RFC 4291 s2.4); everything else is special, and these parts of it are: IETF protocol
// assignments with Teredo, documentation, 6to4, documentation again (RFC 9637).
const globalUnicast = parseNetwork('2000::/3')!
const specialV6 = networks('2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20')

/** Whether an address belongs to the public internet: neither this machine, nor its networks, nor reserved, nor a tunnel. */
export function isPublic(address: AddressBytes): boolean {
  if (address.length === 4) return !specialV4.some((network) => isWithin(address, network))
  return isWithin(address, globalUnicast) && !specialV6.some((network) => isWithin(address, network))
}

const embedding: readonly (readonly [network: Network, at: number, inverted: boolean])[] = [
  // IPv4-compatible and IPv4-mapped (RFC 4291 s2.5.5), IPv4-translated (RFC 2765), NAT64 (RFC 6052, 8215), 6to4 (RFC 3056), Teredo.
  [parseNetwork('::/96')!, 12, false],
  [parseNetwork('::ffff:0:0/96')!, 12, false],
  [parseNetwork('::ffff:0:0:0/96')!, 12, false],
  [parseNetwork('64:ff9b::/96')!, 12, false],
  [parseNetwork('64:ff9b:1::/48')!, 12, false],
  [parseNetwork('2002::/16')!, 2, false],
  [parseNetwork('2001::/32')!, 12, true],
]

/** The IPv4 address that an IPv6 address stands for, if it does. */
export function embeddedV4(address: AddressBytes): AddressBytes | undefined {
  if (address.length !== 16) return undefined
  const found = embedding.find(([network]) => isWithin(address, network))
  if (found === undefined) return undefined
  const [, at, inverted] = found
  return address.slice(at, at + 4).map((byte) => (inverted ? byte ^ 0xff : byte))
}

/**
 * Whether an address may be connected to: a public one, or one in `allowed`. One that stands for an IPv4 address must also
 * do so by that.
 */
export function mayConnect(address: AddressBytes, allowed: readonly Network[]): boolean {
  if (!isPublic(address) && !allowed.some((network) => isWithin(address, network))) return false
  // '::' and '::1' are in ::/96 too, but stand for themselves.
  const v4 = isLoopbackOrUnspecified(address) ? undefined : embeddedV4(address)
  return v4 === undefined || mayConnect(v4, allowed)
}

function isLoopbackOrUnspecified(address: AddressBytes): boolean {
  return address.length === 16 && address.every((byte, i) => byte === 0 || (i === 15 && byte === 1))
}

/** Whether the resolver might take a name for a number: its last label is decimal, octal or hexadecimal (WHATWG URL s3.5). */
export function looksNumeric(host: string): boolean {
  const last = host.replace(/\.$/, '').split('.').at(-1) ?? ''
  return /^(\d+|0x[0-9a-f]*)$/i.test(last)
}

/** What counts as one client: an IPv4 address, or the /64 of an IPv6 address; mapped IPv4 is IPv4. */
export function clientKey(text: string): string {
  const bytes = parseAddress(text)
  if (bytes === undefined) return text
  if (bytes.length === 4) return text
  const v4 = isWithin(bytes, embedding[1]![0]) ? bytes.subarray(12) : undefined
  return v4 === undefined ? `${Buffer.from(bytes.subarray(0, 8)).toString('hex')}/64` : v4.join('.')
}
