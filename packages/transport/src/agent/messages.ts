// The messages of the SSH agent protocol (RFC 9987; OpenSSH PROTOCOL.agent for session-bind and key constraints).
// Declarations only. Each message travels as uint32 length, then these bytes; see framing.ts.

import { maxAgentIdentities } from '../limits.ts'
import { bool, type Codec, message, rest, string, text, u32 } from '../wire/codec.ts'
import { WireError } from '../wire/wire-error.ts'

export const agentMessageNumbers = {
  failure: 5,
  success: 6,
  requestIdentities: 11,
  identitiesAnswer: 12,
  signRequest: 13,
  signResponse: 14,
  addIdentity: 17,
  removeIdentity: 18,
  removeAllIdentities: 19,
  lock: 22,
  unlock: 23,
  addIdentityConstrained: 25,
  extension: 27,
  extensionFailure: 28,
  extensionResponse: 29,
} as const

const number = agentMessageNumbers

/** RFC 9987, "Key Constraints". */
export const constraintNumbers = { lifetime: 1, confirm: 2, extension: 255 } as const

/** OpenSSH PROTOCOL.agent section 1. */
export const sessionBindName = 'session-bind@openssh.com'
/** RFC 9987, "Query Extension". */
export const queryName = 'query'
/** OpenSSH PROTOCOL.agent section 2. */
export const restrictDestinationName = 'restrict-destination-v00@openssh.com'

/** An identity on the wire. */
export interface IdentityRecord {
  keyBlob: Uint8Array
  comment: string
}

/** uint32 count, then blob and comment each. The count is checked against our limit and the bytes that are there. */
const identities: Codec<readonly IdentityRecord[]> = {
  read: (reader) => {
    const start = reader.at
    const count = reader.u32()
    if (count > maxAgentIdentities)
      throw new WireError(`${count} identities, at most ${maxAgentIdentities}`, start)
    if (count > reader.remaining / 8)
      throw new WireError(`${count} identities in ${reader.remaining} bytes`, start)
    const list: IdentityRecord[] = []
    for (let i = 0; i < count; i++) list.push({ keyBlob: reader.string().slice(), comment: reader.text() })
    return list
  },
  write: (writer, list) => {
    writer.u32(list.length)
    for (const { keyBlob, comment } of list) writer.string(keyBlob).text(comment)
  },
}

export const failure = message('AGENT_FAILURE', number.failure, {}, { trailing: 'ignore' })
export const success = message('AGENT_SUCCESS', number.success, {}, { trailing: 'ignore' })
export const requestIdentities = message('AGENTC_REQUEST_IDENTITIES', number.requestIdentities, {})
export const identitiesAnswer = message('AGENT_IDENTITIES_ANSWER', number.identitiesAnswer, { identities })
export const signRequest = message('AGENTC_SIGN_REQUEST', number.signRequest, {
  keyBlob: string,
  data: string,
  flags: u32,
})
export const signResponse = message('AGENT_SIGN_RESPONSE', number.signResponse, { signature: string })
/** `key`: the fields of private-key-fields.ts, then the comment as a string. */
export const addIdentity = message('AGENTC_ADD_IDENTITY', number.addIdentity, { key: rest })
/** `key`: as in addIdentity, then constraints up to the end. */
export const addIdentityConstrained = message('AGENTC_ADD_ID_CONSTRAINED', number.addIdentityConstrained, {
  key: rest,
})
export const removeIdentity = message('AGENTC_REMOVE_IDENTITY', number.removeIdentity, { keyBlob: string })
export const removeAllIdentities = message('AGENTC_REMOVE_ALL_IDENTITIES', number.removeAllIdentities, {})
export const lock = message('AGENTC_LOCK', number.lock, { passphrase: string })
export const unlock = message('AGENTC_UNLOCK', number.unlock, { passphrase: string })
export const extension = message('AGENTC_EXTENSION', number.extension, { name: text, contents: rest })
export const extensionResponse = message('AGENT_EXTENSION_RESPONSE', number.extensionResponse, {
  name: text,
  contents: rest,
})

/** Contents of a session-bind@openssh.com request. */
export const sessionBindFields = {
  hostKey: string,
  sessionId: string,
  /** The server's signature over the session id, from the first key exchange. */
  signature: string,
  /** Whether the agent is reached through the host rather than used to log in to it. */
  forwarding: bool,
}
