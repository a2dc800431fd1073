// Every bound on what an SFTP server can make a client hold, loop over or wait for.

/** Value of the length field of a packet; OpenSSH's SFTP_MAX_MSG_LENGTH, beyond which servers drop the channel as well. */
export const maxMessageBytes = 262_144
/** Type byte and id (or version) of the shortest legal packet. */
export const minMessageBytes = 5
/** draft-ietf-secsh-filexfer-02 s6.2: "the length of the handle string MUST NOT exceed 256 data bytes". */
export const maxHandleBytes = 256

/** READ and WRITE where the server does not tell limits (draft s6.4: all servers must take packets of 34000 bytes). */
export const defaultPieceBytes = 32_768
/** Smallest read or write that a bogus limits reply or clipped answers make us use. */
export const minPieceBytes = 1024
/** Largest, so that a whole packet with a handle stays below 256 KiB. */
export const maxPieceBytes = 261_120
/** What a WRITE needs besides its data: 4 length, 1 type, 4 id, 4 + 256 handle, 8 offset, 4 data length; rounded up. */
export const writeOverheadBytes = 1024

/** Bytes in flight in one direction at the start, and the default of how far they grow. */
export const initialBytesInFlight = 1024 * 1024
export const defaultMaxBytesInFlight = 16 * 1024 * 1024
/** Requests in flight in one direction, whatever their size. */
export const maxRequestsInFlight = 1024

/** Requests that were cancelled or timed out and may still be answered; a server that leaves more than these is broken. */
export const maxUnansweredRequests = 4096

export const defaultRequestTimeoutMs = 60_000
/** How long close() waits for the server to end its side before the channel is closed without it. */
export const closeTimeoutMs = 5000

/** Depth to which trees are walked. */
export const maxTreeDepth = 64
/** readFile() refuses files above this unless told otherwise. */
export const defaultMaxFileBytes = 2 ** 31 - 1
