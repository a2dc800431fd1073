/**
 * SSH2 in pure TypeScript, host-independent part: connect over any ByteDuplex, host keys, authentication, channels.
 * Node adds TCP, agents and files (`@sshblock/transport/node`), browsers add their cryptography and WebSockets.
 */

export { AgentClient } from './agent/client.ts'
export { MemoryAgent } from './agent/memory-agent.ts'
export type { AuthorizedKeyOptions } from './auth/authorized-key-options.ts'
export type { AuthorizedKey, AuthorizedKeyProblem } from './auth/authorized-keys.ts'
export { AuthorizedKeys } from './auth/authorized-keys.ts'
export type { AuthMethodName } from './auth/method-order.ts'
export type { Permissions, Restrictions } from './auth/permissions.ts'
export type { Prompt } from './auth/prompts.ts'
export type { ByteChannel, ByteReceiver } from './byte-channel.ts'
export type { WindowLimits } from './connection/window.ts'
export type { AlgorithmsInUse } from './core/key-exchange.ts'
export type { RekeyLimits } from './core/transport-core.ts'
export type { Clock, CryptoProvider, MaybePromise, RandomSource } from './crypto/provider.ts'
export { systemRandom } from './crypto/random.ts'
export { webCrypto } from './crypto/web.ts'
export * from './errors.ts'
export type { AlgorithmOffer } from './kex/algorithms.ts'
export { defaultOffer, knownAlgorithms } from './kex/algorithms.ts'
export type { KeyLog } from './kex/key-log.ts'
export type { Certificate } from './keys/certificate.ts'
export { certificateFromText, parseCertificate } from './keys/certificate.ts'
export type { FingerprintHash } from './keys/fingerprint.ts'
export {
  fingerprint,
  hasFingerprint,
  matchesFingerprint,
  opensshFingerprint,
  parseFingerprint,
} from './keys/fingerprint.ts'
export { generateKeyPair } from './keys/generate.ts'
export * from './keys/host-key-policy.ts'
export { KnownHosts } from './keys/known-hosts.ts'
export { formatPrivateKey } from './keys/openssh-key-file.ts'
export type { PrivateKey } from './keys/private-key.ts'
export { parsePrivateKey } from './keys/private-key.ts'
export type { PublicKey } from './keys/public-key.ts'
export { formatPublicKey, parsePublicKey, publicKeyFromText } from './keys/public-key.ts'
export type { Signer } from './keys/signer.ts'
export { signerFromAgent, signerFromPrivateKey } from './keys/signer.ts'
export type {
  AuthAgent,
  AuthMethod,
  AuthOutcome,
  KeyboardInteractiveRequest,
} from './session/authenticate.ts'
export { channelDuplex } from './session/channel-duplex.ts'
export type { ClientOptions, OpenDuplex } from './session/client.ts'
export { connectOver } from './session/client.ts'
export type { ByteDuplex, ByteSink } from './session/duplex.ts'
export type { EarlyChannelCount } from './session/early-channels.ts'
export type { EmbeddedClientOptions, EmbeddedServerOptions } from './session/embedded-server.ts'
export { EmbeddedServer, embeddedServer } from './session/embedded-server.ts'
export type { LoginAttempt } from './session/login-engine.ts'
export { memoryDuplexPair } from './session/memory-duplex.ts'
export { ServerConnection, serveSsh } from './session/server.ts'
export type * from './session/server-auth-policy.ts'
export type { ExitSignal } from './session/server-channel.ts'
export { ServerChannel } from './session/server-channel.ts'
export type * from './session/server-options.ts'
export type { KeepaliveOptions, OpenChannelOptions, SessionInfo } from './session/session.ts'
export { Session } from './session/session.ts'
export type { ExitStatus } from './session/session-channel.ts'
export { SessionChannel } from './session/session-channel.ts'
export type { StreamPair, StreamsDuplexOptions } from './session/streams-duplex.ts'
export { streamsDuplex } from './session/streams-duplex.ts'
export type { Terminal, TerminalSize } from './session/terminal.ts'
export type { WebSocketConstructor, WebSocketDuplexOptions, WebSocketLike } from './session/websocket.ts'
export { webSocketDuplex } from './session/websocket.ts'
export { WebSocketClosedError } from './session/websocket-error.ts'
export type { WebSocketStreamConstructor, WebSocketStreamLike } from './session/websocket-stream.ts'
export type { Trace, TraceEvent } from './trace.ts'
