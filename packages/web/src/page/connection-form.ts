// Where to connect to, as whom. The server that came with the page is prefilled; any other one that the relay allows works.

import { safeText } from '@sshblock/transport/errors'
import type { DemoServer, PageSettings } from '../demo-settings.ts'
import type { ServerAccess } from '../session-worker/calls.ts'
import { button, el, field } from './dom.ts'

/** The form; `onSubmit` connects, until `signal` is aborted, and the form cannot be sent again until it is done. */
export function connectionForm(
  settings: PageSettings,
  onSubmit: (access: ServerAccess, signal: AbortSignal) => Promise<void>,
): HTMLElement {
  const { demo } = settings
  const host = el('input', { name: 'host', required: true, autocomplete: 'off', spellcheck: 'false' })
  const port = el('input', { name: 'port', type: 'number', min: 1, max: 65_535, value: 22, required: true })
  const user = el('input', { name: 'user', required: true, autocomplete: 'username', spellcheck: 'false' })
  const relay = el('input', {
    name: 'relay',
    value: new URL(settings.bridgePath, location.href).href.replace(/^http/, 'ws'),
    required: true,
    spellcheck: 'false',
  })
  const keyFile = el('input', { name: 'key', type: 'file' })
  const passphrase = el('input', { name: 'passphrase', type: 'password', autocomplete: 'off' })
  const password = el('input', { name: 'password', type: 'password', autocomplete: 'current-password' })
  const allowed = settings.allowed.length === 0 ? 'none but its own' : settings.allowed.join(', ')

  const other = el(
    'fieldset',
    { class: 'other' },
    el('legend', { class: 'visually-hidden' }, 'Another server'),
    el('div', { class: 'row' }, field('Host', host), field('Port', port), field('User', user)),
    el(
      'div',
      { class: 'row' },
      field('Private key file', keyFile, 'Stays in this page. OpenSSH, PEM and PKCS#8.'),
      field('Passphrase of the key', passphrase, 'Where it has one.'),
    ),
    field('Password', password, 'Tried after the key. Other questions of the server are shown.'),
    el(
      'details',
      {},
      el('summary', {}, 'Relay'),
      field('Address', relay, `Joins WebSockets with TCP. This page's own leads to: ${safeText(allowed)}.`),
    ),
  )
  const submit = el('button', { type: 'submit', class: 'primary' }, 'Connect')
  let abort: AbortController | undefined
  const cancel = button('Cancel', () => abort?.abort(), { class: 'quiet', hidden: true })
  const choice = demo === undefined ? undefined : serverChoice(demo, other)
  if (choice === undefined) other.hidden = false

  const form = el(
    'form',
    { class: 'card connect', 'aria-labelledby': 'connect-title' },
    el('h2', { id: 'connect-title' }, 'Connect to an SSH server'),
    el(
      'p',
      { class: 'lead' },
      'This page speaks SSH itself. Keys, passwords and file contents are encrypted here; the relay between ' +
        'this page and the server passes on what it cannot read.',
    ),
    choice?.element,
    other,
    el('div', { class: 'actions' }, submit, cancel),
  )
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    submit.disabled = true
    submit.textContent = 'Connecting…'
    cancel.hidden = false
    abort = new AbortController()
    const { signal } = abort
    void (async () => {
      try {
        const access = choice?.isDemo() === true ? accessOfDemo(demo!, settings) : await accessOfForm()
        await onSubmit(access, signal)
      } finally {
        submit.disabled = false
        submit.textContent = 'Connect'
        // Its focus is not to be lost with it.
        if (document.activeElement === cancel) submit.focus()
        cancel.hidden = true
      }
    })()
  })
  return form

  async function accessOfForm(): Promise<ServerAccess> {
    const [file] = keyFile.files ?? []
    const target = `${host.value.includes(':') ? `[${host.value}]` : host.value}:${port.value}`
    return {
      relay: `${relay.value.replace(/\/$/, '')}/${encodeURIComponent(target)}`,
      host: host.value.trim(),
      port: Number(port.value),
      user: user.value.trim(),
      privateKey: file === undefined ? undefined : await file.text(),
      passphrase: passphrase.value || undefined,
      password: password.value || undefined,
      fingerprint: undefined,
    }
  }
}

function accessOfDemo(demo: DemoServer, { bridgePath }: PageSettings): ServerAccess {
  const { host, port, user, privateKey, fingerprint } = demo
  const relay = new URL(`${bridgePath}/${host}:${port}`, location.href).href.replace(/^http/, 'ws')
  return { relay, host, port, user, privateKey, fingerprint, passphrase: undefined, password: undefined }
}

function serverChoice(
  demo: DemoServer,
  other: HTMLFieldSetElement,
): { element: HTMLElement; isDemo(): boolean } {
  const ours = el('input', { type: 'radio', name: 'server', value: 'demo', id: 'server-demo', checked: true })
  const theirs = el('input', { type: 'radio', name: 'server', value: 'other', id: 'server-other' })
  const update = (): void => {
    other.hidden = ours.checked
    // Fields that are not shown must not keep the form from being sent.
    other.disabled = ours.checked
  }
  const element = el(
    'fieldset',
    { class: 'choice', onchange: update },
    el('legend', {}, 'Server'),
    el(
      'label',
      { for: 'server-demo' },
      ours,
      el(
        'span',
        {},
        el('strong', {}, 'The one that came with this page'),
        el('small', {}, `${demo.user}@${demo.host}:${demo.port}, with a fresh key`),
      ),
    ),
    el(
      'label',
      { for: 'server-other' },
      theirs,
      el('span', {}, el('strong', {}, 'Another one'), el('small', {}, 'with your key or password')),
    ),
  )
  update()
  return { element, isDemo: () => ours.checked }
}
