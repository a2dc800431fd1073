// `sshblock cp`: a whole image between this machine and a server, or between servers. The copy grows as TARGET.part and
// gets its name when it is complete and flushed, so an interrupted one is never taken for an image, and can be resumed.

import { type BlockDevice, copyImage, firstDifference, resumePoint, startsAlike } from '@sshblock/blockdev'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { type LossFlags, withLoss } from '../connection/lasting-image.ts'
import type { ImageFlags } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import { type Invocation, printJson, tell } from '../invocation.ts'
import { type ProgressFlags, startProgress, withProgress } from '../output/progress.ts'
import { parseTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'
import { withUnsafeFlush } from './image-options.ts'
import { type ImagePlace, type Occupant, openPlace } from './image-place.ts'
import { irreplaceable } from './transfer-options.ts'

interface CpFlags extends ConnectionFlags, ImageFlags, LossFlags, ProgressFlags {
  overwrite?: boolean
  resume?: boolean
  verify?: boolean
  json?: boolean
}

export function cpCommand(invocation: Invocation): Command {
  return withLoss(withUnsafeFlush(withProgress(withConnection(new Command('cp')))))
    .description('Copies an image. Long zeros become holes. The copy is flushed before it gets its name.')
    .argument('<source>', 'a local file, host:path or ssh://user@host/path')
    .argument('<target>', 'the same; in a folder the copy has the name of the source')
    .option('--overwrite', 'replace a target that exists')
    .option('--resume', 'go on where an interrupted copy ended, after comparing what is there')
    .option('--verify', 'read both back and compare every byte')
    .option('--json', 'print what was done as JSON')
    .addHelpText(
      'after',
      `
Examples:
  sshblock cp disk.img myhost:/images/a.img
  sshblock cp --resume --verify myhost:/images/a.img disk.img
  sshblock cp myhost:/images/a.img otherhost:/images/a.img`,
    )
    .action((source: string, target: string, flags: CpFlags) => copy(source, target, flags, invocation))
}

async function copy(
  sourceText: string,
  targetText: string,
  flags: CpFlags,
  invocation: Invocation,
): Promise<void> {
  const targets = [parseTarget(sourceText), parseTarget(targetText)] as const
  if (targets.every(({ kind }) => kind === 'local'))
    throw new UsageProblem(
      `neither '${sourceText}' nor '${targetText}' is on a server; use cp for local files`,
    )
  await using from = await openPlace(targets[0], flags, invocation)
  await using into = await openPlace(targets[1], flags, invocation)
  await using source = await attempt('cannot open', sourceText, () => from.open('', false))
  const { text, occupant } = await placeFor(from.name, into, targetText)
  if (occupant !== undefined) checkReplaceable(occupant, text, flags)
  // As cp: what is replaced keeps its permissions, what is new has those of the source.
  const { mode } = occupant ?? (await attempt('cannot look at', sourceText, () => from.occupant(''))) ?? {}
  const copied = await copyPart(source, into, text, mode, flags, invocation)
  await attempt('cannot rename', `${text}.part`, () => into.rename('.part', '', flags.overwrite === true))
  if (flags.json === true) printJson(invocation, { source: sourceText, target: text, ...copied })
}

/** A target that is a folder means the file of the source's name in it. */
async function placeFor(
  name: string,
  into: ImagePlace,
  targetText: string,
): Promise<{ text: string; occupant: Occupant | undefined }> {
  const occupant = await attempt('cannot look at', targetText, () => into.occupant(''))
  if (occupant?.kind !== 'directory') return { text: targetText, occupant }
  into.enter(name)
  const text = `${targetText}${/[/:]$/.test(targetText) ? '' : '/'}${name}`
  return { text, occupant: await attempt('cannot look at', text, () => into.occupant('')) }
}

/** @throws CommandFailure where what is there must not be replaced */
function checkReplaceable({ kind }: Occupant, text: string, { overwrite }: CpFlags): void {
  const reason =
    irreplaceable(kind) ?? (overwrite === true ? undefined : 'exists already; --overwrite replaces it')
  if (reason !== undefined) throw new CommandFailure('cannot copy to', text, new Error(reason))
}

async function copyPart(
  source: BlockDevice,
  into: ImagePlace,
  targetText: string,
  mode: number | undefined,
  flags: CpFlags,
  invocation: Invocation,
) {
  const { signal } = invocation
  const part = `${targetText}.part`
  const { device, start } = await attempt('cannot make', part, () =>
    openPart(source, into, mode, flags, invocation),
  )
  await using target = device
  if (start > 0) tell(invocation, `going on at byte ${start} of '${part}'`)
  const progress = startProgress(invocation, flags, 'copy', source.size)
  let dataBytes: number
  try {
    ;({ dataBytes } = await attempt('cannot copy to', targetText, () =>
      copyImage(source, target, { start, signal, onProgress: ({ doneBytes }) => progress.update(doneBytes) }),
    ))
  } finally {
    progress.stop()
    if (signal.aborted) tell(invocation, `what was copied is kept in '${part}'; --resume goes on there`)
  }
  if (flags.verify === true) await verify(source, target, targetText, flags, invocation)
  return { size: source.size, resumedFrom: start, dataBytes, verified: flags.verify === true }
}

/** The file that the copy grows in: a fresh one, or what an earlier copy left as far as it is right. */
async function openPart(
  source: BlockDevice,
  into: ImagePlace,
  mode: number | undefined,
  flags: CpFlags,
  { signal }: Invocation,
): Promise<{ device: BlockDevice; start: number }> {
  if (flags.resume === true && (await into.occupant('.part')) !== undefined) {
    const device = await into.open('.part', true)
    const start = Math.min(resumePoint(device.size), source.size)
    if (start > 0 && (await startsAlike(source, device, start, { signal }))) return { device, start }
    await device.close()
  }
  // What is interrupted must be gone on with.
  const partMode = mode === undefined ? undefined : mode | 0o600
  return { device: await into.create('.part', partMode), start: 0 }
}

async function verify(
  source: BlockDevice,
  target: BlockDevice,
  targetText: string,
  flags: CpFlags,
  invocation: Invocation,
): Promise<void> {
  const progress = startProgress(invocation, flags, 'verify', source.size)
  try {
    const at = await attempt('cannot verify', targetText, () =>
      firstDifference(source, target, {
        signal: invocation.signal,
        onProgress: ({ doneBytes }) => progress.update(doneBytes),
      }),
    )
    if (at !== undefined)
      throw new CommandFailure('cannot verify', targetText, new Error(`byte ${at} differs from the source`))
  } finally {
    progress.stop()
  }
}
