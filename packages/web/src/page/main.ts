// The page: the form, then the workspace of the session, and the form again when it is over.

import type { Session } from '@sshblock/transport'
import { type PageSettings, settingsPath } from '../demo-settings.ts'
import { connectionForm } from './connection-form.ts'
import { askAboutHostKey, askPrompts } from './dialogs.ts'
import { el } from './dom.ts'
import { Notices } from './notices.ts'
import { openSession, type ServerAccess } from './server-access.ts'
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
  const form = connectionForm(settings, async (access) => {
    notices.clear()
    const session = await logIn(access)
    if (session !== undefined) await work(session, settings)
  })
  main.replaceChildren(form)
}

async function logIn(access: ServerAccess): Promise<Session | undefined> {
  try {
    return await openSession(
      access,
      { hostKey: askAboutHostKey, prompts: askPrompts },
      new AbortController().signal,
    )
  } catch (error) {
    notices.error(`Connecting to ${access.host} failed`, error)
    return undefined
  }
}

async function work(session: Session, settings: PageSettings): Promise<void> {
  let workspace: Workspace
  try {
    workspace = await Workspace.open(session, settings, notices)
  } catch (error) {
    notices.error('The server gives no files', error)
    await session.close()
    return
  }
  main.replaceChildren(workspace.element)
  main.focus()
  const onLeave = (event: BeforeUnloadEvent): void => {
    if (workspace.isTransferring) event.preventDefault()
  }
  addEventListener('beforeunload', onLeave)
  void session.closed.then(() => {
    removeEventListener('beforeunload', onLeave)
    workspace.ended()
    if (session.failure?.code !== 'ERR_CLOSED') notices.error('The connection was lost', session.failure)
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
