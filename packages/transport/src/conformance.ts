/**
 * Protocol tests for SSH: a scripted peer that is honest up to a phase of your choice, and suites of named checks that run
 * against any server or client. See docs/conformance.md.
 */
export * from './conformance/arrival.ts'
export * from './conformance/check.ts'
export { type ExchangeOutcome, type HonestReply, ScriptedExchange } from './conformance/key-exchange.ts'
export { type PacketEdit, PacketWriter } from './conformance/packet-writer.ts'
export { noneRequest, type Phase, passwordRequest, phases, publicKeyRequest } from './conformance/phases.ts'
export * from './conformance/report.ts'
export { ScriptedChannel, type ScriptedChannelOptions } from './conformance/scripted-channel.ts'
export * from './conformance/scripted-peer.ts'
export { clientChecks, serverChecks } from './conformance/suites.ts'
export {
  type ClientTarget,
  type PeerOptions,
  runTrials,
  type ServerTarget,
  type Target,
  Trial,
} from './conformance/trial.ts'
