// Progress on stderr: a bar with rate and time left on a terminal, a line now and then where it was asked for elsewhere.

import { SingleBar } from 'cli-progress'
import type { Command } from 'commander'
import { type Invocation, setDrawn } from '../invocation.ts'
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
  const onTerminal = stderr.isTTY === true
  const bar = new SingleBar({
    format: (_, { progress }, { size, rate, left }: Facts) =>
      progressLine(
        name,
        progress,
        [size, `${rate}/s`, `${left} left`],
        onTerminal ? stderr.columns : undefined,
      ),
    stream: withoutCursorMemory(stderr),
    fps: framesPerSecond,
    noTTYOutput: true,
    notTTYSchedule: 1000,
    hideCursor: false,
    // Lines are made to fit.
    linewrap: true,
    clearOnComplete: onTerminal,
    gracefulExit: false,
  })
  setDrawn(stderr, onTerminal)
  bar.start(totalBytes, 0, { size: sizeText(0), rate: '-', left: '-' } satisfies Facts)
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
    stop: () => {
      bar.stop()
      setDrawn(stderr, false)
    },
  }
}

interface Facts {
  readonly size: string
  readonly rate: string
  readonly left: string
}

const longestBar = 40
const shortestBar = 8
const gap = '  '

/** 'copy  ####----  50 %  1 GiB  ...' in so many columns: the bar shrinks, then it is left out, then facts from the last. */
export function progressLine(
  name: string,
  progress: number,
  facts: readonly string[],
  columns = Number.POSITIVE_INFINITY,
): string {
  const parts = [`${Math.floor(progress * 100)} %`, ...facts]
  // The last column stays free: what is written there wraps on some terminals.
  const room = columns - 1 - [name, ...parts].join(gap).length
  const length = Math.min(longestBar, room - gap.length)
  if (length >= shortestBar) {
    const done = Math.round(progress * length)
    return [name, '#'.repeat(done).padEnd(length, '-'), ...parts].join(gap)
  }
  while (parts.length > 1 && [name, ...parts].join(gap).length >= columns) parts.pop()
  return [name, ...parts].join(gap)
}

/** The stream for a bar that does not return to where it began: lines that were written meanwhile moved that place. */
function withoutCursorMemory(stream: NodeJS.WriteStream): NodeJS.WriteStream {
  const write = (text: string): boolean => text === '\u001b7' || text === '\u001b8' || stream.write(text)
  return Object.create(stream, { write: { value: write } }) as NodeJS.WriteStream
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
