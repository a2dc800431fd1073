// What a client says about its terminal (RFC 4254 s6.2, s6.7, s8). Nothing here drives one.

import { ptyFields, windowChangeFields } from '../messages/connection.ts'
import { decodeFields } from '../wire/codec.ts'
import { Reader } from '../wire/reader.ts'
import { WireError } from '../wire/wire-error.ts'

export interface TerminalSize {
  columns: number
  rows: number
  widthPixels: number
  heightPixels: number
}

export interface Terminal extends TerminalSize {
  /** Value of TERM, raw. */
  readonly term: string
  /** Arguments by opcode (RFC 4254 s8, RFC 8160). */
  readonly modes: ReadonlyMap<number, number>
}

const endOfModes = 0
/** RFC 4254 s8: opcodes from 160 on "are not yet defined, and cause parsing to stop". */
const firstUndefinedMode = 160

/** Reads pty-req. Throws WireError. */
export function readTerminal(payload: Uint8Array): Terminal {
  const { modes, ...fields } = decodeFields('pty-req', ptyFields, payload)
  return { ...fields, modes: readModes(modes) }
}

/** Reads window-change. Throws WireError. */
export function readTerminalSize(payload: Uint8Array): TerminalSize {
  return { ...decodeFields('window-change', windowChangeFields, payload) }
}

/** Pairs of opcode and argument; a repeated opcode counts once, so the map stays small whatever is sent. */
function readModes(bytes: Uint8Array): Map<number, number> {
  const reader = new Reader(bytes)
  const modes = new Map<number, number>()
  try {
    while (reader.remaining > 0) {
      const opcode = reader.u8()
      if (opcode === endOfModes || opcode >= firstUndefinedMode) break
      modes.set(opcode, reader.u32())
    }
  } catch (error) {
    if (error instanceof WireError) throw error.within('pty-req', 'modes')
    throw error
  }
  return modes
}
