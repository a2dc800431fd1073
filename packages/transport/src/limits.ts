// Every bound on what a peer can make us hold, loop over or wait for, in one place.
// Each has a test at the limit and one beyond it.

/** RFC 4253 s6.1 demands 35 000; OpenSSH's PACKET_MAX_SIZE is 256 KiB. Value of packet_length. */
export const maxPacketLength = 262_144
/** packet_length counts at least padding_length, one payload byte... RFC 4253 s6: minimum padding 4. */
export const minPacketLength = 5
export const minPadding = 4

/** RFC 4253 s4.2: 255 characters including CR and LF. */
export const maxIdentificationBytes = 255
/** Lines a server may send before its identification (OpenSSH: 1024), and their bytes in total. */
export const maxPreIdentificationLines = 1024
export const maxPreIdentificationBytes = 65_536

export const maxKexInitBytes = 35_000
export const maxNamesPerList = 64
export const maxNameBytes = 64

/** Rekey after 1 GiB, 2^28 packets or an hour in one direction; RFC 4253 s9, RFC 4344 s3. */
export const rekeyBytes = 2 ** 30
export const rekeyPackets = 2 ** 28
export const rekeyMs = 3_600_000
/** A sequence number never wraps under one key. */
export const maxSequence = 2 ** 32 - 1

/** Messages of ours that wait while keys are exchanged. */
export const maxQueuedPacketsInKex = 64
export const maxQueuedBytesInKex = 2 * 1024 * 1024

/** Replies (to pings, global requests, ...) not yet taken by the socket, beyond which we stop reading. */
export const maxQueuedReplyBytes = 1024 * 1024

export const maxChannelsClient = 256
export const maxChannelsServer = 64
export const maxSessionChannelsServer = 10
export const maxWindowBytes = 2 ** 32 - 1
/** Environment that a client may set on one channel: variables, and bytes of names and values together. */
export const maxEnvironmentVariables = 128
export const maxEnvironmentBytes = 65_536

/** Before authentication, server role. */
export const preAuthMs = 30_000
export const preAuthBytes = 1024 * 1024
export const preAuthPackets = 1000
export const maxAuthTries = 6
export const maxKeyboardInteractiveRounds = 10

export const maxUserNameBytes = 1024
export const maxPasswordBytes = 1024
export const maxPrompts = 32
/** Banners accepted by a client, and their bytes in total. */
export const maxBanners = 100
export const maxBannerBytes = 65_536

export const maxSftpMessageBytes = 262_144
export const maxSftpHandleBytes = 256
export const maxAgentMessageBytes = 262_144
export const maxAgentIdentities = 2048

export const minRsaBits = 2048
export const maxRsaBits = 16_384
export const minDhBits = 2048
export const maxDhBits = 8192
export const maxBcryptRounds = 2048
export const maxKeyFileBytes = 1024 * 1024
