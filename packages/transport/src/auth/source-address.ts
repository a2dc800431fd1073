// Where a client may come from: the pattern lists of authorized_keys `from=` and the CIDR lists of certificates, read as
// OpenSSH reads them (ssh_config(5) PATTERNS; PROTOCOL.certkeys "source-address").
// Everything unclear is a refusal: an empty list, an empty entry, a mask that does not fit, an unknown address.

import { matchesWildcard } from '../keys/host-pattern.ts'

/** The bytes of an IPv4 (4) or IPv6 (16) address, or undefined. An IPv4 address in IPv6 form is the IPv4 address. */
export function parseAddress(text: string): Uint8Array | undefined {
  const zone = text.indexOf('%')
  const plain = zone < 0 ? text : text.slice(0, zone)
  if (!plain.includes(':')) return parseIpv4(plain)
  const bytes = parseIpv6(plain)
  const isMapped =
    bytes?.[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0)
  return isMapped ? bytes!.slice(12) : bytes
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (const [i, part] of parts.entries()) {
    // A leading zero would be octal to some and decimal to others.
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined
    bytes[i] = Number(part)
  }
  return bytes
}

/** RFC 4291 s2.2. */
function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = halves.map((half, i) => parseGroups(half, i === halves.length - 1))
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined
  const missing = 16 - head.length - (tail?.length ?? 0)
  if (tail === undefined ? missing !== 0 : missing < 2) return undefined
  const bytes = new Uint8Array(16)
  bytes.set(head)
  if (tail !== undefined) bytes.set(tail, 16 - tail.length)
  return bytes
}

/** Groups of four hex digits; the address may end in IPv4 form. */
function parseGroups(text: string, isEnd: boolean): number[] | undefined {
  if (text === '') return []
  const bytes: number[] = []
  const groups = text.split(':')
  for (const [i, group] of groups.entries()) {
    const ipv4 = isEnd && i === groups.length - 1 && group.includes('.') ? parseIpv4(group) : undefined
    if (ipv4 !== undefined) bytes.push(...ipv4)
    else if (/^[0-9a-fA-F]{1,4}$/.test(group))
      bytes.push(Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255)
    else return undefined
  }
  return bytes.length > 16 ? undefined : bytes
}

interface Network {
  address: Uint8Array
  bits: number
}

/** 'not-a-network' may still be a wildcard; 'malformed' is a network that contradicts itself. */
function parseNetwork(text: string): Network | 'not-a-network' | 'malformed' {
  const slash = text.indexOf('/')
  const mask = slash < 0 ? undefined : text.slice(slash + 1)
  if (mask !== undefined && !/^[0-9]{1,3}$/.test(mask)) return 'not-a-network'
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (address === undefined) return 'not-a-network'
  const bits = mask === undefined ? 8 * address.length : Number(mask)
  if (bits > 8 * address.length) return 'malformed'
  // 10.0.0.1/8 is either a typing error or a misunderstanding: OpenSSH refuses it, too.
  return hostBitsAreZero(address, bits) ? { address, bits } : 'malformed'
}

function hostBitsAreZero(address: Uint8Array, bits: number): boolean {
  return address.every((byte, i) => (byte & (0xff >> Math.min(8, Math.max(0, bits - 8 * i)))) === 0)
}

function isInNetwork(address: Uint8Array, network: Network): boolean {
  if (address.length !== network.address.length) return false
  return address.every((byte, i) => {
    const mask = 0xff & ~(0xff >> Math.min(8, Math.max(0, network.bits - 8 * i)))
    return (byte & mask) === (network.address[i]! & mask)
  })
}

/** The text form under which a client's address is compared and shown: without IPv6's way of writing IPv4. */
export function normalizeAddress(address: string): string {
  const mapped = /^::ffff:([0-9.]+)$/i.exec(address)?.[1]
  return mapped !== undefined && parseIpv4(mapped) !== undefined ? mapped : address
}

/**
 * Whether an address is admitted by a pattern list: comma-separated addresses, networks in CIDR form and wildcards; '!' in
 * front excludes whatever else matches. Names are not looked up (as with UseDNS no), so a host name admits nobody.
 * @param address the client's address; undefined (a UNIX socket, a pipe) is admitted by no list.
 */
export function isAddressAdmitted(address: string | undefined, list: string): boolean {
  const text = address === undefined ? undefined : normalizeAddress(address).toLowerCase()
  const bytes = text === undefined ? undefined : parseAddress(text)
  if (text === undefined || bytes === undefined) return false
  let isMatch = false
  for (const entry of list.split(',')) {
    const negated = entry.startsWith('!')
    const pattern = negated ? entry.slice(1) : entry
    const network = pattern === '' ? 'malformed' : parseNetwork(pattern)
    if (network === 'malformed') return false
    const matches =
      network === 'not-a-network' ? matchesWildcard(text, pattern.toLowerCase()) : isInNetwork(bytes, network)
    if (matches && negated) return false
    isMatch ||= matches
  }
  return isMatch
}

/**
 * Whether an address is in one of the networks of a certificate's source-address: comma-separated addresses and CIDR
 * networks, nothing else. A malformed list admits nobody.
 */
export function isInCidrList(address: string | undefined, list: string): boolean {
  const bytes = address === undefined ? undefined : parseAddress(address)
  if (bytes === undefined) return false
  const networks = list.split(',').map(parseNetwork)
  if (!networks.every((network) => typeof network === 'object')) return false
  return networks.some((network) => isInNetwork(bytes, network))
}
