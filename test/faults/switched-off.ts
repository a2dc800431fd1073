// Each rule of the device, switched off, with the kind of history that shows what it is for. A rule without which the oracle
// has nothing to complain of would be no rule, or the oracle would be blind.

import { BlockDeviceError } from '@sshblock/blockdev'
import { SessionEpochs } from '@sshblock/sftp'
import { LaneLost } from '../../packages/blockdev/src/image/host.ts'
import { Recovery } from '../../packages/blockdev/src/image/recovery.ts'
import type { Rule } from '../../packages/blockdev/src/image/rules.ts'
import { RangeLock } from '../../packages/blockdev/src/layers/range-lock.ts'
import { SftpLane } from '../../packages/blockdev/src/sftp-lane.ts'
import type { Profile } from './history.ts'
import { profiles } from './profiles.ts'
import type { RunOptions } from './world.ts'

export interface SwitchedOff {
  /** What is not done any more. */
  readonly what: string
  readonly profile: Profile
  readonly options?: RunOptions
  /** Takes the rule out until the returned function is called. */
  readonly apply?: () => () => void
}

const nothing = { 'fail-write': 0, 'fail-read': 0, 'fail-sync': 0 }

function without(rule: Rule): RunOptions {
  return { deviceOptions: { dangerouslyWithout: new Set([rule]) } }
}

/** Replaces a method of a class until the returned function is called. */
function replace<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (original: T[K]) => T[K],
): () => void {
  const original = prototype[name]
  prototype[name] = make(original)
  return () => {
    prototype[name] = original
  }
}

export const switchedOff: Readonly<Record<string, SwitchedOff>> = {
  R0: {
    what: 'overlapping calls are not kept apart',
    profile: {
      setup: { reorders: true, channels: 4 },
      weights: { lose: 0, cut: 0, crash: 0, slow: 6, ...nothing },
    },
    apply: () =>
      replace(
        RangeLock.prototype,
        'acquire',
        () => () => ({ release: () => {} }) as unknown as ReturnType<RangeLock['acquire']>,
      ),
  },
  R1: {
    what: 'a read that got no answer is not sent again',
    profile: profiles.losses,
    apply: () =>
      replace(
        SftpLane.prototype,
        'read',
        (read) =>
          function (this: SftpLane, ...args) {
            return read.apply(this, args).catch((error: unknown) => {
              throw error instanceof LaneLost ? new BlockDeviceError('EIO', 'no answer') : error
            })
          },
      ),
  },
  R2: {
    what: 'nobody remembers which writes had no answer',
    profile: profiles.ghosts,
    apply: () =>
      replace(
        Recovery.prototype,
        'lost',
        (lost) =>
          function (this: Recovery, open) {
            open.writes.clear()
            lost.call(this, open)
          },
      ),
  },
  R3: {
    what: 'no proof is asked for that the old session is over',
    profile: profiles.ghosts,
    options: without('fence'),
  },
  'R3 (c)': {
    what: 'the server says that older sessions have ended, and they have not',
    profile: profiles.epochs,
    apply: () =>
      replace(
        SessionEpochs.prototype,
        'join',
        () => (_name, _epoch, serial) => Promise.resolve(Array.from({ length: serial }, (_, each) => each)),
      ),
  },
  R4: {
    what: 'without a proof the device goes on all the same',
    profile: profiles.unfenced,
    options: { deviceOptions: { onLoss: 'replay' } },
  },
  R5: {
    what: 'acknowledged writes are not written again after a loss',
    profile: profiles.crashes,
    options: without('journal'),
  },
  R6: {
    what: 'an fsync that failed is simply tried again',
    profile: profiles.syncs,
    options: without('failed-sync'),
  },
  R7: { what: 'whoever answers is believed', profile: profiles.impostors, options: without('identity') },
  R8: {
    what: 'nobody looks whether the file became shorter',
    profile: { ...profiles.impostors, meanwhile: ['shorter'] },
    options: { deviceOptions: { onShrink: 'zeros' } },
    apply: () =>
      replace(
        SftpLane.prototype,
        'status',
        (status) =>
          async function (this: SftpLane) {
            return { ...(await status.call(this)), size: undefined }
          },
      ),
  },
  R9: {
    what: 'a write that was refused counts as done',
    profile: {
      setup: { reconnectDelayMs: 30_000 },
      weights: { 'fail-write': 15, lose: 0, cut: 0, crash: 0 },
    },
    apply: () =>
      replace(
        SftpLane.prototype,
        'write',
        (write) =>
          function (this: SftpLane, offset, from) {
            return write.call(this, offset, from).catch((error: unknown) => {
              if (error instanceof LaneLost) throw error
              return from.length
            })
          },
      ),
  },
  R10: {
    what: 'calls wait for as long as it takes',
    profile: { setup: { reconnectDelayMs: 3000 }, weights: { down: 10, lose: 10 }, longOutages: true },
    options: { deviceOptions: { reconnectDelayMs: 1e9 } },
  },
}

/** Switches a rule off until the returned function is called. */
export function switchOff(rule: string): SwitchedOff & { restore: () => void } {
  const found = switchedOff[rule]
  if (found === undefined)
    throw new Error(`no rule ${rule}: there are ${Object.keys(switchedOff).join(', ')}`)
  return { ...found, restore: found.apply?.() ?? (() => {}) }
}
