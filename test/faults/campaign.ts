// Many histories from one seed, and what came of them.

import type { History, Profile } from './history.ts'
import { generateHistory } from './history.ts'
import { type HistoryCounts, noCounts } from './history-result.ts'
import { historySeed } from './model/random.ts'
import { runHistory } from './run-history.ts'
import type { RunOptions } from './world.ts'

export interface Campaign {
  readonly seed: number
  readonly histories: number
  /** Number of the first history. Default 0. */
  readonly first?: number
  readonly profile?: Profile | undefined
  readonly options?: RunOptions
  /** Stop at the first that breaks a rule in this way. Default: never, so that as many run as are named. */
  readonly until?: (finding: Finding) => boolean
  /** Is told of each history that breaks a rule, at once. */
  readonly onFinding?: (finding: Finding) => void
  readonly onProgress?: (done: number, findings: number) => void
}

export interface Finding {
  /** Number of the history in the campaign. */
  readonly index: number
  readonly history: History
  readonly violations: readonly string[]
}

export interface CampaignResult {
  readonly done: number
  readonly findings: readonly Finding[]
  readonly counts: HistoryCounts
}

export async function runCampaign(campaign: Campaign): Promise<CampaignResult> {
  const { seed, histories, first = 0, profile, options, until, onFinding, onProgress } = campaign
  const findings: Finding[] = []
  const counts = noCounts()
  let done = 0
  while (done < histories) {
    const index = first + done
    const history = generateHistory(historySeed(seed, index), profile)
    const result = await runHistory(history, options)
    for (const name of Object.keys(counts) as (keyof HistoryCounts)[]) {
      if (name === 'channels') counts.channels = Math.max(counts.channels, result.counts.channels)
      else counts[name] += result.counts[name]
    }
    done++
    const { violations } = result
    if (violations.length > 0) {
      const finding = { index, history, violations }
      findings.push(finding)
      onFinding?.(finding)
    }
    onProgress?.(done, findings.length)
    if (violations.length > 0 && until?.({ index, history, violations }) === true) break
  }
  return { done, findings, counts }
}

/** The command that runs a history again, for messages. */
export function replayCommand(seed: number, index: number, profile?: string): string {
  const named = profile === undefined ? '' : ` --profile ${profile}`
  return `npm run faults -- --seed ${seed}${named} --history ${index}`
}
