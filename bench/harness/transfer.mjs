// Samples of transfers: what a whole process moved in its whole life.

/** @typedef {import('./peers.mjs').Contestant} Contestant */

/**
 * Adds to each sample what `more` makes of it.
 * @param {Contestant} contestant @param {(sample: any) => object} more @returns {Contestant}
 */
function sampling(contestant, more) {
  const { run } = contestant
  if (run === undefined) return contestant
  return {
    ...contestant,
    run: async () => {
      const sample = await run()
      return { ...sample, ...more(sample) }
    },
  }
}

/** MB/s of a whole process. @param {Contestant} contestant @param {number} bytes @returns {Contestant} */
export function moving(contestant, bytes) {
  return sampling(contestant, (sample) => ({ bytes, value: bytes / 1e6 / sample.seconds }))
}

/**
 * MB/s by the program's own clock, from the open connection to the last byte (of a write: until it is flushed): what a link is
 * used for, without the round trips of setting up and the start of a process.
 * @param {Contestant} contestant @param {number} bytes @returns {Contestant}
 */
export function movingOnceOpen(contestant, bytes) {
  return sampling(contestant, (sample) => ({ bytes, value: bytes / 1e6 / sample.insideSeconds }))
}

/** Operations a second by the program's own clock. @param {Contestant} contestant @returns {Contestant} */
export function operating(contestant) {
  return sampling(contestant, (sample) => ({ value: sample.operations / sample.insideSeconds }))
}
