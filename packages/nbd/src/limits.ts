// Every bound on what an NBD client can make the server hold, loop over or wait for, in one place.
// "The NBD protocol" is the document doc/proto.md of the NetworkBlockDevice project; sections are cited by title.

/** Section "Conventions": a string "MUST be no longer than 4096 bytes". */
export const maxStringBytes = 4096
/** Data of one option. A longer one ends the connection: nothing that we know needs it. */
export const maxOptionBytes = 65_536
/** Options of one client before it enters the transmission phase. */
export const maxOptions = 1024
/** Option replies that the client has not taken yet, beyond which its next option waits. */
export const maxQueuedOptionReplyBytes = 262_144

/**
 * Largest payload of one READ or WRITE. Section "Block size constraints": any length below 2^25 "SHOULD NOT be considered
 * a denial of service attack", and clients that do not ask for the limit keep to 2^25.
 */
export const maxRequestBytes = 33_554_432
/** A structured READ reply is made of pieces of at most this size, read from the device at once and sent as they come. */
export const maxReadPieceBytes = 1_048_576
/** Zeros shorter than this are sent as data: a chunk of their own would cost more than it saves. */
export const minHoleBytes = 4096
/** Descriptors of one BLOCK_STATUS reply; the client asks again for the rest. */
export const maxStatusDescriptors = 4096
/** How much of the device one look for extents covers, so that the event loop never waits long for a 4 GiB question. */
export const statusWindowBytes = 67_108_864

export const defaultMaxClients = 16
export const defaultMaxBytesInFlight = 67_108_864
export const defaultMaxRequestsInFlight = 256
/** From connect to the transmission phase. */
export const defaultNegotiationTimeoutMs = 30_000
/** How long `close()` waits for requests in flight and for clients to take their replies. */
export const defaultShutdownTimeoutMs = 30_000
/** Free buffers kept for later requests, all clients together. */
export const maxPooledBytes = 33_554_432
