// What the demo prints: lines on stdout, a progress bar on stderr where that is a terminal.

import { SingleBar } from 'cli-progress'

const mebibyte = 1024 ** 2

export function line(name: string, text: string): void {
  console.log(`${name.padEnd(16)}${text}`)
}

export function mebibytes(bytes: number): string {
  return `${(bytes / mebibyte).toFixed(bytes % mebibyte === 0 ? 0 : 1)} MiB`
}

/** Runs `work`, which reports the bytes it did, under a progress bar; prints and returns its throughput in bytes a second. */
export async function timed(
  name: string,
  totalBytes: number,
  work: (advance: (bytes: number) => void) => Promise<void>,
): Promise<number> {
  const format = `${name.padEnd(16)}{bar} {percentage} %  {rate} MiB/s  {eta_formatted} left`
  const bar = new SingleBar({
    format,
    stream: process.stderr,
    hideCursor: true,
    fps: 5,
    clearOnComplete: true,
    noTTYOutput: false,
  })
  const showBar = process.stderr.isTTY === true
  if (showBar) bar.start(totalBytes, 0, { rate: '-' })
  const startedAt = performance.now()
  let done = 0
  try {
    await work((bytes) => {
      done += bytes
      const rate = (done / mebibyte / ((performance.now() - startedAt) / 1000)).toFixed(0)
      if (showBar) bar.update(done, { rate })
    })
  } finally {
    if (showBar) bar.stop()
  }
  const seconds = (performance.now() - startedAt) / 1000
  const rate = done / seconds
  line(name, `${mebibytes(done)} in ${seconds.toFixed(2)} s, ${(rate / mebibyte).toFixed(0)} MiB/s`)
  return rate
}
