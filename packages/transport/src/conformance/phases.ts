// How far an honest connection comes before a script takes over, in either role. Each phase is one step from the one before.

import { publicKeySignedData, writePublicKeyRequest } from '../auth/signed-data.ts'
import { readExtensions, serverSignatureAlgorithms } from '../core/extension-info.ts'
import * as number from '../messages/numbers.ts'
import { serviceAccept, serviceRequest } from '../messages/transport.ts'
import {
  passwordFields,
  publicKeyFields,
  publicKeyOk,
  userauthFailure,
  userauthRequest,
  userauthSuccess,
} from '../messages/userauth.ts'
import { decodeFields, encodeFields } from '../wire/codec.ts'
import { Writer } from '../wire/writer.ts'
import { decodeArrived, describeArrival, NotApplicable, Unexpected } from './arrival.ts'
import type { ScriptedPeer } from './scripted-peer.ts'

/** The phases in their order. */
export const phases = [
  /** Bytes can pass; nothing was sent. */
  'connected',
  /** The peer's identification line came; we have sent nothing. */
  'introduced',
  /** Both identification lines passed (RFC 4253 s4.2). */
  'identified',
  /** Both KEXINITs passed (RFC 4253 s7.1). */
  'kexinit',
  /** Both method messages passed (RFC 4253 s8); we have not sent NEWKEYS. */
  'exchanged',
  /** Both NEWKEYS passed: keys are in force (RFC 4253 s7.3). */
  'keys',
  /** The service ssh-userauth was asked for and accepted (RFC 4253 s10). */
  'service',
  /** USERAUTH_SUCCESS passed (RFC 4252 s5.1). */
  'authenticated',
  /** One session channel is open (RFC 4254 s6.1). */
  'channel',
  /** A subsystem or command was asked for on it, and granted (RFC 4254 s6.5). */
  'running',
] as const

export type Phase = (typeof phases)[number]

/** Brings the peer to `phase`, step by step. @throws Unexpected */
export async function reach(peer: ScriptedPeer, phase: Phase): Promise<void> {
  const wanted = phases.indexOf(phase)
  if (phases.indexOf(peer.phase) > wanted)
    throw new Error(`the peer is beyond '${phase}' already: '${peer.phase}'`)
  while (phases.indexOf(peer.phase) < wanted) {
    let next = phases[phases.indexOf(peer.phase) + 1]!
    // Who goes on anyway does not wait for the other one to begin.
    if (next === 'introduced' && phase !== next) next = 'identified'
    await step(peer, next)
    peer.phase = next
  }
}

async function step(peer: ScriptedPeer, to: Phase): Promise<void> {
  const isClient = peer.role === 'client'
  switch (to) {
    case 'connected':
      return
    case 'introduced':
      return readIdentification(peer)
    case 'identified':
      peer.sendRaw(`${peer.identification}\r\n`)
      if (peer.theirIdentification === undefined) await readIdentification(peer)
      return
    case 'kexinit': {
      const exchange = peer.startExchange()
      exchange.sendInit(peer.options.kexInit)
      await exchange.receiveInit()
      return
    }
    case 'exchanged': {
      const exchange = exchangeOf(peer)
      if (isClient) {
        await exchange.sendMethodInit()
        await exchange.receiveMethodReply()
      } else {
        await exchange.receiveMethodInit()
        await exchange.sendMethodReply()
      }
      return
    }
    case 'keys': {
      const exchange = exchangeOf(peer)
      exchange.sendNewKeys()
      return exchange.receiveNewKeys()
    }
    case 'service':
      return isClient ? askService(peer) : serveService(peer)
    case 'authenticated':
      return isClient ? authenticate(peer) : serveAuthentication(peer)
    case 'channel': {
      const channel = peer.channel(peer.options.channel)
      return isClient ? channel.open() : channel.accept()
    }
    case 'running': {
      const channel = peer.channels[0]!
      if (isClient) await channel.startSubsystem()
      else await channel.acceptStart()
      return
    }
  }
}

function exchangeOf(peer: ScriptedPeer): NonNullable<ScriptedPeer['exchange']> {
  if (peer.exchange === undefined) throw new Error('no key exchange is under way')
  return peer.exchange
}

/** Reads lines up to the peer's identification. @throws Unexpected */
export async function readIdentification(peer: ScriptedPeer): Promise<void> {
  for (;;) {
    const line = await peer.wire.line(peer.patienceMs)
    if (line.kind !== 'line') throw new Unexpected('an identification line', describeArrival(line))
    if (line.text.startsWith('SSH-')) {
      peer.theirIdentification = line.text
      peer.theirIdentificationLine = line.raw
      return
    }
    peer.linesBefore.push(line.text)
  }
}

const authService = 'ssh-userauth'
const connectionService = 'ssh-connection'

async function askService(peer: ScriptedPeer): Promise<void> {
  peer.sendHonest(number.SERVICE_REQUEST, serviceRequest.bytes({ service: authService }))
  const { service } = decodeArrived(serviceAccept, await peer.expect(serviceAccept))
  if (service !== authService) throw new Unexpected(`SERVICE_ACCEPT of ${authService}`, `one of ${service}`)
}

async function serveService(peer: ScriptedPeer): Promise<void> {
  const { service } = decodeArrived(serviceRequest, await peer.expect(serviceRequest))
  if (service !== authService) throw new Unexpected(`SERVICE_REQUEST of ${authService}`, `one of ${service}`)
  peer.sendHonest(number.SERVICE_ACCEPT, serviceAccept.bytes({ service }))
}

/** The whole USERAUTH_REQUEST with a signature, or the question whether one would do (RFC 4252 s7). */
export async function publicKeyRequest(
  peer: ScriptedPeer,
  options: { signed: boolean; sessionId?: Uint8Array; user?: string } = { signed: true },
): Promise<Uint8Array> {
  const { login } = peer.options
  const signer = login?.signer
  if (login === undefined || signer === undefined) throw new NotApplicable('no key to log in with was given')
  const attempt = {
    user: options.user ?? login.user,
    service: connectionService,
    algorithm: userKeyAlgorithm(peer),
    publicKey: signer.publicKeyBlob,
    hostKey: undefined,
  }
  const writer = new Writer(1024)
  writePublicKeyRequest(writer, attempt, options.signed)
  if (options.signed) {
    const sessionId = options.sessionId ?? peer.sessionId!
    writer.string(await signer.sign(attempt.algorithm, publicKeySignedData(sessionId, attempt)))
  }
  return writer.copy()
}

/** The algorithm under which our key signs: the first that the server named (RFC 8308 s3.1), else our best. */
export function userKeyAlgorithm(peer: ScriptedPeer): string {
  const { algorithms } = peer.options.login!.signer!
  const told = peer.seen.find((message) => message.number === number.EXT_INFO)
  const theirs = told === undefined ? undefined : serverSignatureAlgorithms(readExtensions(told.payload))
  return algorithms.find((name) => theirs?.includes(name) === true) ?? algorithms[0]!
}

async function authenticate(peer: ScriptedPeer): Promise<void> {
  const { login } = peer.options
  if (login === undefined) throw new NotApplicable('no user to log in as was given')
  let request: Uint8Array
  if (login.signer !== undefined) request = await publicKeyRequest(peer)
  else if (login.password !== undefined) request = passwordRequest(login.user, login.password)
  else request = noneRequest(login.user)
  peer.sendHonest(number.USERAUTH_REQUEST, request)
  await peer.expect(number.USERAUTH_SUCCESS)
}

/** USERAUTH_REQUEST 'none' (RFC 4252 s5.2). */
export function noneRequest(user: string, service: string = connectionService): Uint8Array {
  return userauthRequest.bytes({ user, service, method: 'none', methodFields: new Uint8Array(0) })
}

/** USERAUTH_REQUEST 'password' (RFC 4252 s8). */
export function passwordRequest(user: string, password: string): Uint8Array {
  const methodFields = encodeFields(passwordFields, { change: false, password })
  return userauthRequest.bytes({ user, service: connectionService, method: 'password', methodFields })
}

/** Lets the client in, by whatever it tries: 'none' is refused first, so that it shows something. */
async function serveAuthentication(peer: ScriptedPeer): Promise<void> {
  for (;;) {
    const request = decodeArrived(userauthRequest, await peer.expect(userauthRequest))
    if (request.method === 'none') {
      peer.sendHonest(
        number.USERAUTH_FAILURE,
        userauthFailure.bytes({ methods: ['publickey', 'password'], partialSuccess: false }),
      )
      continue
    }
    if (request.method.startsWith('publickey')) {
      const fields = decodeFields('publickey', publicKeyFields, request.methodFields)
      if (!fields.signed) {
        const { algorithm, publicKey } = fields
        peer.sendHonest(number.USERAUTH_METHOD_60, publicKeyOk.bytes({ algorithm, publicKey }))
        continue
      }
    }
    peer.sendHonest(number.USERAUTH_SUCCESS, userauthSuccess.bytes({}))
    return
  }
}
