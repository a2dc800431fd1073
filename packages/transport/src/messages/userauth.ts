// Authentication messages (RFC 4252, RFC 4256; OpenSSH PROTOCOL 1.6 publickey-hostbound).

import { bool, message, nameList, rest, string, text, u32 } from '../wire/codec.ts'
import * as number from './numbers.ts'

/** RFC 4252 s5; `methodFields` is one of the field sets below. */
export const userauthRequest = message('USERAUTH_REQUEST', number.USERAUTH_REQUEST, {
  user: text,
  service: text,
  method: text,
  methodFields: rest,
})
/** RFC 4252 s5.1. */
export const userauthFailure = message('USERAUTH_FAILURE', number.USERAUTH_FAILURE, {
  methods: nameList,
  partialSuccess: bool,
})
/** RFC 4252 s5.1. */
export const userauthSuccess = message('USERAUTH_SUCCESS', number.USERAUTH_SUCCESS, {})
/** RFC 4252 s5.4; the language tag is missing in some peers. */
export const userauthBanner = message(
  'USERAUTH_BANNER',
  number.USERAUTH_BANNER,
  { text },
  { trailing: 'ignore' },
)
/** RFC 4252 s7. */
export const publicKeyOk = message('USERAUTH_PK_OK', number.USERAUTH_METHOD_60, {
  algorithm: text,
  publicKey: string,
})
/** RFC 4252 s8. */
export const passwordChangeRequest = message(
  'USERAUTH_PASSWD_CHANGEREQ',
  number.USERAUTH_METHOD_60,
  { prompt: text },
  { trailing: 'ignore' },
)
/** RFC 4256 s3.2; `prompts` is read by `readPrompts`. */
export const infoRequest = message('USERAUTH_INFO_REQUEST', number.USERAUTH_METHOD_60, {
  name: text,
  instruction: text,
  language: text,
  count: u32,
  prompts: rest,
})
/** RFC 4256 s3.4; `responses` is a run of `count` strings. */
export const infoResponse = message('USERAUTH_INFO_RESPONSE', number.USERAUTH_INFO_RESPONSE, {
  count: u32,
  responses: rest,
})

/** Method fields of 'publickey' (RFC 4252 s7); with a signature when `signed`. */
export const publicKeyFields = { signed: bool, algorithm: text, publicKey: string, rest }
/** What is signed for 'publickey' (RFC 4252 s7). */
export const passwordFields = { change: bool, password: text }
export const passwordChangeFields = { change: bool, password: text, newPassword: text }
/** RFC 4256 s3.1. */
export const keyboardInteractiveFields = { language: text, submethods: text }
