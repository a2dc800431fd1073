// Progress on stderr: a bar with rate and time left on a terminal, a line now and then where it was asked for elsewhere.

import { SingleBar } from 'cli-progress'
import type { Command } from 'commander'
import type { Invocation } from '../invocation.ts'
import { sizeText } from '../sizes.ts'

export interface ProgressFlags {
  /** Undefined: where stderr is a terminal. */
  progress?: boolean
}

export function withProgress(command: Command): Command {
  return command
    .option('--progress', 'show progress though stderr is no terminal')
    .option('--no-progress', 'show no progress')
}

export interface Progress {
  /** `done` of `total` bytes. */
  update(done: number, total?: number): void
  /** Takes the bar away. */
  stop(): void
}

const none: Progress = { update: () => {}, stop: () => {} }
const framesPerSecond = 5
const rateWindowMs = 3000

export function startProgress(
  { stderr }: Invocation,
  { progress }: ProgressFlags,
  name: string,
  totalBytes: number,
): Progress {
  if (!(progress ?? stderr.isTTY === true)) return none
  const bar = new SingleBar({
    format: `${name}  {bar}  {percentage} %  {size}  {rate}/s  {left} left`,
    barCompleteChar: '#',
    barIncompleteChar: '-',
    stream: stderr,
    fps: framesPerSecond,
    noTTYOutput: true,
    notTTYSchedule: 1000,
    hideCursor: false,
    clearOnComplete: stderr.isTTY === true,
    gracefulExit: false,
  })
  bar.start(totalBytes, 0, { size: sizeText(0), rate: '-', left: '-' })
  const samples: { at: number; done: number }[] = []
  return {
    update(done, total = totalBytes) {
      const at = performance.now()
      samples.push({ at, done })
      while (samples.length > 2 && samples[1]!.at < at - rateWindowMs) samples.shift()
      const first = samples[0]!
      const rate = at > first.at ? ((done - first.done) / (at - first.at)) * 1000 : 0
      bar.setTotal(total)
      bar.update(done, {
        size: sizeText(done),
        rate: sizeText(Math.round(rate)),
        left: timeText((total - done) / rate),
      })
    },
    stop: () => bar.stop(),
  }
}

function timeText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-'
  const whole = Math.ceil(seconds)
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  return parts
    .slice(parts[0] === 0 ? 1 : 0)
    .map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, '0')))
    .join(':')
}
