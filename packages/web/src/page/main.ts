// The page: the form, then the workspace of the session, and the form again when it is over.

import { type PageSettings, settingsPath } from '../demo-settings.ts'
import type { ServerAccess } from '../session-worker/calls.ts'
import { connectionForm } from './connection-form.ts'
import { askAboutHostKey, askPrompts } from './dialogs.ts'
import { el } from './dom.ts'
import { Notices } from './notices.ts'
import { RemoteServer } from './remote-server.ts'
import { Workspace } from './workspace.ts'

const notices = new Notices()
const main = el('main', { id: 'main', tabindex: -1 })

/** Where a server may not know this page's settings: a page served by somebody else's. */
const bareSettings: PageSettings = { bridgePath: '/ssh', demo: undefined, allowed: [], hasBios: false }

async function loadSettings(): Promise<PageSettings> {
  try {
    // The token is in the address that `npm run web` printed.
    const response = await fetch(settingsPath, {
      headers: { authorization: `Bearer ${location.hash.slice(1)}` },
    })
    return response.ok ? ((await response.json()) as PageSettings) : bareSettings
  } catch {
    return bareSettings
  }
}

function showForm(settings: PageSettings): void {
  const form = connectionForm(settings, async (access, signal) => {
    notices.clear()
    const server = await logIn(access, signal)
    if (server !== undefined) await work(server, settings)
  })
  main.replaceChildren(form)
}

async function logIn(access: ServerAccess, signal: AbortSignal): Promise<RemoteServer | undefined> {
  const user = {
    hostKey: askAboutHostKey,
    prompts: askPrompts,
    warning: (message: string) => notices.info(message),
  }
  try {
    return await RemoteServer.connect(access, user, signal)
  } catch (error) {
    notices.error(`Connecting to ${access.host} failed`, error)
    return undefined
  }
}

async function work(server: RemoteServer, settings: PageSettings): Promise<void> {
  let workspace: Workspace
  try {
    workspace = await Workspace.open(server, settings, notices)
  } catch (error) {
    notices.error('The server gives no files', error)
    await server.disconnect()
    return
  }
  main.replaceChildren(workspace.element)
  main.focus()
  const onLeave = (event: BeforeUnloadEvent): void => {
    if (workspace.isTransferring) event.preventDefault()
  }
  addEventListener('beforeunload', onLeave)
  void server.closed.then((failure) => {
    removeEventListener('beforeunload', onLeave)
    workspace.ended()
    if (failure !== undefined) notices.error('The connection was lost', failure)
    showForm(settings)
    main.focus()
  })
}

document.body.append(
  el('a', { class: 'skip', href: '#main' }, 'To the content'),
  el(
    'header',
    {},
    el('h1', {}, 'sshblock'),
    el('p', {}, 'SSH, files and disk images, end to end from this page'),
  ),
  notices.element,
  main,
)
showForm(await loadSettings())
