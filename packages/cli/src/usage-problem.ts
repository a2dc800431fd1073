// Exit statuses, and the one error that needs none of the libraries: the command was called wrongly.

export const exitStatus = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** By Ctrl-C, as shells count it: 128 and the signal's number. */
  interrupted: 130,
  /** No connection, not the right server, or not let in; as ssh. */
  connection: 255,
} as const

/** The command was called wrongly. */
export class UsageProblem extends Error {
  /** Whose help says more; undefined: that of all. */
  command: string | undefined

  constructor(message: string, command?: string) {
    super(message)
    this.command = command
  }
}
