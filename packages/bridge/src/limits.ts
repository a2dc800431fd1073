// Every bound on what a client can make the bridge hold, or wait for, in one place.

/** Largest message taken from a client, all its fragments together. A longer one ends the connection with 1009. */
export const maxMessageBytes = 1024 * 1024
/** Largest message sent to a client. */
export const maxSentMessageBytes = 256 * 1024
/** A target that sends this much while the client says nothing is streaming. */
export const streamingFromBytes = 256 * 1024
/** How long bytes of a target that streams are gathered into a message, in milliseconds. */
export const gatherMs = 1
/** Fragments of one message (RFC 6455 s5.4); every browser sends far fewer. */
export const maxFragments = 1024
/** Pieces in which the network may bring one message; 64 bytes each would still fit. */
export const maxBufferedChunks = 16 * 1024
/** Pongs that wait for a client that pings without reading. */
export const maxPendingPongs = 16
/** Close reasons (RFC 6455 s5.5: a control frame has 125 bytes, two of which are the code). */
export const maxReasonBytes = 123
/** Request line and headers of one request. */
export const maxHeaderBytes = 16 * 1024
/** Path of a target. */
export const maxPathLength = 512
/** Addresses of one name that are tried. */
export const maxAddresses = 8
/** Sockets that may exist beyond `maxConnections`, being told why they are refused. */
export const refusalSlots = 64
/** TCP connections that one address may have beyond `maxConnectionsPerAddress`: to be told so, for the health path, idle ones. */
export const moreSocketsPerAddress = 16

export const defaultHighWaterBytes = 512 * 1024
export const defaultMaxConnections = 1024
export const defaultMaxConnectionsPerAddress = 64
export const defaultHandshakeTimeoutMs = 10_000
export const defaultAuthenticateTimeoutMs = 15_000
export const defaultConnectTimeoutMs = 15_000
export const defaultFirstByteTimeoutMs = 30_000
export const defaultIdleTimeoutMs = 30 * 60_000
/** Below the 60 s after which proxies usually drop a silent connection. */
export const defaultPingIntervalMs = 25_000
/** How long the closing handshake may take. */
export const lingerMs = 5000
/** How long what was received before one end's orderly end may wait for the other to take some of it. */
export const drainStallMs = 60_000
/** How long a target that was sent everything, and our FIN, may keep its half open. */
export const targetLingerMs = 250
