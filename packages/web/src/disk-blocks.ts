// The unit in which disks are fetched, cached and shown, known to the page and to its worker.

/** Bytes. Over SSH a read costs a round trip whatever its size, so blocks are large. */
export const diskBlockBytes = 256 * 1024
