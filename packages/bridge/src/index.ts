/**
 * A relay from WebSockets to TCP that only sees ciphertext.
 *
 *     const bridge = createBridge({ targets: { fixed: 'ssh.example.org:22' }, origins: ['https://app.example.org'] })
 *     await bridge.listen({ port: 8022 })              // or: server.on('upgrade', bridge.handleUpgrade)
 *     // in the page: webSocketDuplex('ws://127.0.0.1:8022/')
 *     await bridge.close()
 */
export { type Bridge, type BridgeAddress, type BridgeListenOptions, createBridge } from './bridge.ts'
export { type CloseCode, closeCode } from './close-codes.ts'
export type { ConnectTcp, Resolve } from './dial.ts'
export type { BridgeEvent, BridgeStatistics } from './events.ts'
export type { BridgeOptions, BridgeVisitor } from './options.ts'
export type { BridgeTargets, Target } from './target.ts'
export { type TicketOptions, Tickets, type TicketTerms } from './tickets.ts'
