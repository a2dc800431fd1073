// The ways in which packets are sealed that differ in where the length is and what is checked first: one suite of each that
// the peer under test knows. Rules about packets are tried in every one of them.

import { knownCiphers } from '../packet/suites.ts'
import { Unexpected } from './arrival.ts'
import type { ScriptedPeer } from './scripted-peer.ts'
import type { PeerOptions, Trial } from './trial.ts'

/** A way of sealing packets. */
export interface CipherMode {
  readonly name: string
  /** packet_length counts towards the block multiple (RFC 4253 s6). */
  readonly lengthInBlock: boolean
  /** The sequence number is part of what is checked. */
  readonly checksSequence: boolean
  readonly options: PeerOptions
}

const macsThenEncrypt = ['hmac-sha2-256', 'hmac-sha2-512', 'hmac-sha1']
const etmMacs = [
  'hmac-sha2-256-etm@openssh.com',
  'hmac-sha2-512-etm@openssh.com',
  'hmac-sha1-etm@openssh.com',
]

/** The modes that this peer knows, keys in force. */
export function cipherModes(trial: Trial): CipherMode[] {
  const { ciphersClientToServer, ciphersServerToClient, macsClientToServer } = trial.theirInit
  const ciphers = knownCiphers.filter(
    (name) => ciphersClientToServer.includes(name) && ciphersServerToClient.includes(name),
  )
  const mac = (names: readonly string[]): string | undefined =>
    names.find((name) => macsClientToServer.includes(name))
  const found: CipherMode[] = []
  const add = (
    name: string,
    cipher: string | undefined,
    macName: string | undefined,
    lengthInBlock: boolean,
    checksSequence: boolean,
  ): void => {
    if (cipher === undefined) return
    const macs = macName === undefined ? {} : { macs: [macName] }
    found.push({
      name,
      lengthInBlock,
      checksSequence,
      options: { algorithms: { ciphers: [cipher], ...macs } },
    })
  }
  const ctr = ciphers.find((name) => name.endsWith('-ctr'))
  add(
    'gcm',
    ciphers.find((name) => name.includes('-gcm@')),
    undefined,
    false,
    false,
  )
  add(
    'chacha20',
    ciphers.find((name) => name.startsWith('chacha20')),
    undefined,
    false,
    true,
  )
  const etm = mac(etmMacs)
  if (etm !== undefined) add('etm', ctr, etm, false, true)
  const plain = mac(macsThenEncrypt)
  if (plain !== undefined) add('mac', ctr, plain, true, true)
  return found
}

/** A peer in one mode; 'plain' is the state before keys. */
export type ModeWork = (peer: ScriptedPeer, mode: CipherMode) => Promise<string>

const plainMode: CipherMode = { name: 'plain', lengthInBlock: true, checksSequence: false, options: {} }

/**
 * Does `work` in each mode on a connection of its own, keys in force and the counterpart quiet; where asked for, also before
 * there are keys. Returns what came, told by mode where that differs. @throws Unexpected that names the mode
 */
export async function inEachMode(
  trial: Trial,
  work: ModeWork,
  options: { plain?: boolean; only?: (mode: CipherMode) => boolean } = {},
): Promise<string> {
  const came = new Map<string, string[]>()
  const one = async (mode: CipherMode, peer: ScriptedPeer): Promise<void> => {
    try {
      const words = await work(peer, mode)
      came.set(words, [...(came.get(words) ?? []), mode.name])
    } catch (error) {
      if (error instanceof Unexpected) throw new Unexpected(`${error.expected} (${mode.name})`, error.came)
      throw error
    } finally {
      peer.wire.abort()
    }
  }
  if (options.plain === true) await one(plainMode, await trial.quietWithoutKeys())
  for (const mode of cipherModes(trial)) {
    if (options.only?.(mode) === false) continue
    await one(mode, await trial.quiet(mode.options))
  }
  return [...came].map(([words, modes]) => `${modes.join(', ')}: ${words}`).join('; ')
}
