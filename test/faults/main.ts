// `npm run faults`: histories by the thousand, or one of them again, told step by step and cut down to what matters.
//
//     npm run faults -- --histories 100000              runs so many, and says what came of them
//     npm run faults -- --first 50000 --histories 1000  the same, of those from that number on
//     npm run faults -- --seed 7 --profile ghosts       another run, about one kind of trouble
//     npm run faults -- --seed 7 --history 4711         one of them again, with everything that happens in it
//     npm run faults -- --seed 7 --history 4711 --shrink    the same, made as short as it gets
//     npm run faults -- --without R2 --histories 500    with one rule of the device switched off: the oracle shall complain

import { parseArgs } from 'node:util'
import { replayCommand, runCampaign } from './campaign.ts'
import { generateHistory, type Profile } from './history.ts'
import { historySeed } from './model/random.ts'
import { type ProfileName, profiles } from './profiles.ts'
import { runHistory } from './run-history.ts'
import { shrinkHistory } from './shrink.ts'
import { switchOff } from './switched-off.ts'
import type { RunOptions } from './world.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    histories: { type: 'string', default: '2000' },
    first: { type: 'string', default: '0' },
    history: { type: 'string' },
    profile: { type: 'string', default: 'all' },
    shrink: { type: 'boolean', default: false },
    without: { type: 'string' },
  },
})

/** Of the histories that break a rule. */
const mostTold = 100

const seed = wholeNumber('seed', values.seed)
const off = values.without === undefined ? undefined : switchOff(values.without)
const profile: Profile | undefined = off?.profile ?? profiles[values.profile as ProfileName]
if (profile === undefined) fail(`--profile is one of ${Object.keys(profiles).join(', ')}`)
const options: RunOptions = off?.options ?? {}

if (values.history !== undefined) await again(wholeNumber('history', values.history))
else await many(wholeNumber('histories', values.histories))
off?.restore()

async function again(index: number): Promise<void> {
  let history = generateHistory(historySeed(seed, index), profile)
  if (values.shrink) {
    history = await shrinkHistory(history, {
      breaks: async (candidate) => (await runHistory(candidate, options)).violations.length > 0,
    })
  }
  console.log(JSON.stringify(history.setup))
  for (const step of history.steps) console.log('  ', JSON.stringify(step))
  const { violations, trace } = await runHistory(history, { ...options, trace: true })
  for (const line of trace) console.log(line)
  for (const violation of violations) console.log(`VIOLATION: ${violation}`)
  console.log(violations.length === 0 ? 'no rule is broken' : `${violations.length} violations`)
  if (violations.length > 0) process.exitCode = 1
}

async function many(histories: number): Promise<void> {
  const started = process.hrtime.bigint()
  const seconds = () => Number(process.hrtime.bigint() - started) / 1e9
  let told = 0
  let toldOf = 0
  const result = await runCampaign({
    seed,
    histories,
    first: wholeNumber('first', values.first),
    profile,
    options,
    onFinding: ({ index, violations }) => {
      if (toldOf++ >= mostTold) return
      console.log(`history ${index} (${replayCommand(seed, index, values.profile)}):`)
      for (const violation of violations.slice(0, 4)) console.log(`    ${violation}`)
    },
    onProgress: (done, findings) => {
      if (seconds() - told < 5) return
      told = seconds()
      console.log(`${done} of ${histories} histories in ${told.toFixed(0)} s, ${findings} that break a rule`)
    },
  })
  const { counts } = result
  console.log(
    `${result.done} histories in ${seconds().toFixed(1)} s (CPU ${(process.cpuUsage().user / 1e6).toFixed(1)} s), ${(counts.virtualMs / 3_600_000).toFixed(1)} h of virtual time`,
  )
  console.log(
    `${counts.calls} calls, ${counts.succeeded} succeeded; ${counts.losses} losses, ${counts.restored} recovered, ${counts.gaveUp} devices gave up; ${counts.fencedByExit} fenced by exit status, ${counts.fencedByProcesses} by processes, ${counts.fencedByEpoch} by session epochs; ${counts.ghosts} ghost writes; up to ${counts.channels} channels`,
  )
  console.log(`${result.findings.length} histories break a rule`)
  if (result.findings.length > 0) process.exitCode = 1
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) fail(`--${name} is a whole number, not ${text}`)
  return value
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}
