// The worker that has the SSH session: made by the page for one connection, and ended with it. Everything between the relay's
// WebSocket and the page's pixels is here: SSH, SFTP, disks, file systems in images.

import { SftpClient, sftpChannels } from '@sshblock/sftp'
import type { Session } from '@sshblock/transport'
import { UsageError } from '@sshblock/transport/errors'
import { CallPort, type MessageEnd } from './call-port.ts'
import type { PageCalls, SessionCalls } from './calls.ts'
import { openDisk } from './disk.ts'
import { fileCalls } from './file-calls.ts'
import { factsOf, logIn } from './log-in.ts'
import { portableError } from './portable-error.ts'

/** How long calls may take to fail after the session has ended, in milliseconds. */
const lastAnswersMs = 2000

let session: Session | undefined
let sftp: SftpClient | undefined

function connected(): Session {
  if (session === undefined) throw new UsageError('there is no connection')
  return session
}

const page = new CallPort<PageCalls, SessionCalls>(self as unknown as MessageEnd, {
  async connect(access, { signal }) {
    const questions = {
      hostKey: (question: PageCalls['hostKey']['argument']) => page.call('hostKey', question),
      prompts: (question: PageCalls['prompts']['argument']) => page.call('prompts', question),
    }
    session = await logIn(access, questions, signal)
    void tellEnd(session)
    return factsOf(session)
  },
  async openFiles() {
    const { info } = connected()
    sftp = await SftpClient.open(await connected().openSubsystem('sftp'), {
      serverIdentification: info.peerIdentification,
    })
    return sftp.realpath('.')
  },
  ping: () => connected().ping(),
  disconnect: () => connected().close(),
  openDisk: (request) =>
    openDisk(request, {
      openChannel: async () => SftpClient.open(await connected().openSubsystem('sftp')),
      onWarning: (message) => void page.call('warning', message),
    }),
  ...fileCalls({
    sftp() {
      if (sftp === undefined) throw new UsageError('there is no SFTP channel')
      return sftp
    },
    openChannel: (wish) => sftpChannels(connected())(wish),
  }),
})

/** Says that it is over when nothing is left to say: calls have failed, and downloads were told so. */
async function tellEnd(over: Session): Promise<void> {
  await over.closed
  await Promise.race([page.answered(), new Promise((resolve) => setTimeout(resolve, lastAnswersMs))])
  const wasClosed = over.failure === undefined || over.failure.code === 'ERR_CLOSED'
  await page.call('ended', wasClosed ? undefined : portableError(over.failure))
}

// A bug, but not the end: whoever waits for something has his answer elsewhere. An uncaught exception, after which nobody knows
// what will be answered, reaches the page as the worker's 'error' event.
self.addEventListener('unhandledrejection', ({ reason }) => {
  void page.call('warning', `An error was overlooked: ${portableError(reason).message}`)
})
