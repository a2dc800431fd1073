// Every bound on what a client can make the server hold, loop over or wait for; each has a test at the limit and beyond.

/** Length field of any request but WRITE: OpenSSH's SFTP_MAX_MSG_LENGTH. One more closes the channel. */
export const maxRequestBytes = 262_144

/** Payload of a WRITE. OpenSSH takes less than 256 KiB; clients exist that send 256 KiB and more. */
export const maxWriteBytes = 1_048_576

/** Length field of a WRITE: its payload, header, and the garbage that some clients leave behind the payload. */
export const maxWriteRequestBytes = maxWriteBytes + 65_536

/** Shortest request: type byte and id (INIT: version). */
export const minRequestBytes = 5

/** Most bytes in one DATA, so that the packet stays below the 256 KiB at which clients give up; longer READs are cut. */
export const maxReadBytes = 261_120

/** What limits@openssh.com tells as the most that a client shall write at once: OpenSSH's own numbers. */
export const announcedWriteBytes = 261_120

/** No reply is longer than this (length field). */
export const maxReplyBytes = 262_144

/** Open files and directories of one channel, unless told otherwise. */
export const defaultMaxHandles = 256

/** Replies not yet taken by the channel, with those being read from disk: above this no further request is begun. */
export const defaultMaxQueuedReplyBytes = 4 * 1024 * 1024

/** Requests not yet begun: above this the channel is paused, below half of it resumed. A window more may still come. */
export const pauseAtBufferedBytes = 1024 * 1024

/** READs, or WRITEs, of one session under way at once: enough to keep a disk busy. */
export const maxRequestsUnderWay = 16

/** Requests begun before the event loop must have turned. */
export const maxRequestsPerTurn = 2048

/** Names asked of a directory for one READDIR, as OpenSSH. */
export const namesPerReply = 100
