// Samples of transfers: what a whole process moved in its whole life.

/** @typedef {import('./peers.mjs').Contestant} Contestant */

/** MB/s of a whole process. @param {Contestant} contestant @param {number} bytes @returns {Contestant} */
export function moving(contestant, bytes) {
  const { run } = contestant
  if (run === undefined) return contestant
  return {
    ...contestant,
    run: async () => {
      const sample = await run()
      return { ...sample, bytes, value: bytes / 1e6 / sample.seconds }
    },
  }
}

/**
 * MB/s by the program's own clock, from the open connection to the last byte (of a write: until it is flushed): what a link is
 * used for, without the round trips of setting up and the start of a process.
 * @param {Contestant} contestant @param {number} bytes @returns {Contestant}
 */
export function movingOnceOpen(contestant, bytes) {
  const { run } = contestant
  if (run === undefined) return contestant
  return {
    ...contestant,
    run: async () => {
      const sample = await run()
      return { ...sample, bytes, value: bytes / 1e6 / sample.insideSeconds }
    },
  }
}

/** Operations a second by the program's own clock. @param {Contestant} contestant @returns {Contestant} */
export function operating(contestant) {
  const { run } = contestant
  if (run === undefined) return contestant
  return {
    ...contestant,
    run: async () => {
      const sample = await run()
      return { ...sample, value: sample.operations / sample.insideSeconds }
    },
  }
}
