// Images that outlive their connection: the first session is made as for every command; when it is lost, or more of them
// are useful, others are made by the same settings and with the answers that were typed before. What becomes of reads and
// writes meanwhile is the device's business (docs/lost-connections.md).

import type { ConnectionBehaviour, ConnectionEvent, DriverSession, SftpDevice } from '@sshblock/blockdev'
import { type CreateBlockDeviceOptions, createBlockDevice, openBlockDevice } from '@sshblock/blockdev/node'
import type { Session } from '@sshblock/transport/node'
import { type Command, Option } from 'commander'
import { reasonOf } from '../failure.ts'
import { type Invocation, tell } from '../invocation.ts'
import { traceTo } from '../output/trace-lines.ts'
import { parseSeconds, parseWhole } from '../sizes.ts'
import type { RemoteTarget } from '../target.ts'
import type { ConnectionFlags } from './flags.ts'
import { type Connection, type ImageFlags, imageBehaviour, settingsFor } from './server.ts'

export interface LossFlags {
  reconnectDelay?: number
  onLoss?: 'fail' | 'replay'
  fence?: boolean
  connections?: number
}

/** The options of commands that go on after a loss. */
export function withLoss(command: Command): Command {
  return command
    .option(
      '--reconnect-delay <seconds>',
      'how long requests wait for a lost connection to come back; 0: not at all (default: 30)',
      parseSeconds,
    )
    .addOption(
      new Option(
        '--on-loss <what>',
        'writes without an answer, where nothing proves that the server gave them up: fail them, or replay them, which may undo later writes (default: fail)',
      ).choices(['fail', 'replay']),
    )
    .option('--no-fence', 'run no command on the server that makes sure that the old connection is dead')
    .option('--connections <n>', 'SSH connections at most (default: 3)', parseWhole(1, 16))
}

export interface LastingImageOptions {
  readonly writable: boolean
  /** Makes the image. */
  readonly create?: Pick<CreateBlockDeviceOptions, 'size' | 'overwrite' | 'exactSize' | 'mode'>
  /** Another path than the location's. */
  readonly path?: string
  /** The first session stays the caller's; false: the image closes it with itself. */
  readonly borrowsSession: boolean
  readonly onState?: (event: ConnectionEvent) => void
}

/** Opens, or makes, an image. Errors are the device's. */
export async function openLastingImage(
  connection: Connection,
  target: RemoteTarget,
  flags: ConnectionFlags & ImageFlags & LossFlags,
  invocation: Invocation,
  options: LastingImageOptions,
): Promise<SftpDevice> {
  const { create, writable, path = target.path, borrowsSession, onState } = options
  const { session, again, wasAsked } = connection
  const { host, port, user } = settingsOf(target, flags, invocation)
  let first: DriverSession | undefined = borrowsSession ? borrowed(session) : session
  const trace = traceTo(invocation, flags.verbose ?? 0)
  const common = {
    ...imageBehaviour(flags, invocation),
    ...behaviourOnLoss(flags),
    // Nobody shall be asked for another password in the middle of the work.
    ...(wasAsked ? { maxConnections: 1 } : {}),
    signal: invocation.signal,
    connect: async ({ signal }: { signal?: AbortSignal | undefined }): Promise<DriverSession> => {
      const made = first ?? (await again(signal ?? invocation.signal))
      first = undefined
      return made
    },
    onState: (event: ConnectionEvent) => {
      tellState(invocation, flags, target, event)
      onState?.(event)
    },
    ...(trace === undefined ? {} : { trace }),
  }
  const location = { server: { host, port }, user, path }
  if (create !== undefined) return createBlockDevice(location, { ...common, ...create })
  return openBlockDevice(location, { ...common, writable })
}

function settingsOf(target: RemoteTarget, flags: ConnectionFlags, invocation: Invocation) {
  const { hostName: host, port, user } = settingsFor(target, flags, invocation)
  return { host, port, user }
}

/** A session that whoever uses it does not close. */
function borrowed(session: Session): DriverSession {
  let givenBack = false
  return {
    get info() {
      return session.info
    },
    get failure() {
      return session.failure
    },
    closed: session.closed,
    openSubsystem: (name, options) => session.openSubsystem(name, options),
    exec: (command, options) => session.exec(command, options),
    close: async () => {
      givenBack = true
    },
    destroy: () => {
      if (!givenBack) session.destroy()
    },
  }
}

function behaviourOnLoss({ reconnectDelay, onLoss, fence, connections }: LossFlags): ConnectionBehaviour {
  return {
    ...(reconnectDelay === undefined ? {} : { reconnectDelayMs: reconnectDelay * 1000 }),
    ...(onLoss === undefined ? {} : { onLoss }),
    ...(fence === false ? { fence: 'none' } : {}),
    ...(connections === undefined ? {} : { maxConnections: connections }),
  }
}

function tellState(
  invocation: Invocation,
  { verbose = 0 }: ConnectionFlags,
  { text }: RemoteTarget,
  event: ConnectionEvent,
): void {
  // Once it is told to stop, losing the connection is part of that.
  if (invocation.signal.aborted) return
  switch (event.type) {
    case 'lost':
      tell(invocation, `lost the connection to '${text}': ${reasonOf(event.cause)}; connecting again`)
      break
    case 'restored':
      tell(invocation, `connected to '${text}' again after ${Math.ceil(event.outageMs / 1000)} s`)
      break
    case 'budget-over':
      tell(invocation, `still no connection to '${text}': requests fail until it is back`)
      break
    case 'attempt-failed':
      if (verbose > 0) tell(invocation, `attempt ${event.attempt} failed: ${reasonOf(event.cause)}`)
      break
    default:
  }
}
