/** SSH's data types on the wire (RFC 4251 s5), shared by the transport, SFTP and the agent protocol. */
export * from './wire/bytes.ts'
export * from './wire/codec.ts'
export { Reader } from './wire/reader.ts'
export { WireError } from './wire/wire-error.ts'
export { Writer } from './wire/writer.ts'
