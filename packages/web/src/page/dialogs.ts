// Questions in the way of the work: <dialog> elements, which keep the focus and close with Escape, which means no.

import { safeText } from '@sshblock/transport/errors'
import type { HostKeyAnswer, HostKeyQuestion, PromptsQuestion } from '../session-worker/calls.ts'
import { el, field } from './dom.ts'

/** Shows a dialog and returns the value of the button that was pressed; '' for Escape. */
async function ask(
  title: string,
  content: readonly (Node | string)[],
  choices: readonly Node[],
): Promise<{ value: string; form: HTMLFormElement }> {
  const form = el(
    'form',
    { method: 'dialog' },
    el('h2', { id: 'dialog-title' }, title),
    ...content,
    el('div', { class: 'actions' }, ...choices),
  )
  const dialog = el('dialog', { 'aria-labelledby': 'dialog-title' }, form)
  const before = document.activeElement
  document.body.append(dialog)
  dialog.showModal()
  await new Promise<void>((resolve) => dialog.addEventListener('close', () => resolve(), { once: true }))
  dialog.remove()
  if (before instanceof HTMLElement) before.focus()
  return { value: dialog.returnValue, form }
}

const choice = (value: string, label: string, kind = ''): HTMLButtonElement =>
  el('button', { type: 'submit', value, class: kind, formnovalidate: value === '' }, label)

/** The question of trust on first use. */
export async function askAboutHostKey({
  host,
  port,
  keyType,
  fingerprint,
  message,
}: HostKeyQuestion): Promise<HostKeyAnswer> {
  const { value } = await ask(
    'Do you know this server?',
    [
      el(
        'p',
        {},
        `You have not been at ${safeText(host)}, port ${port}, from this browser before. It shows this key:`,
      ),
      el('p', { class: 'fingerprint' }, `${keyType} ${fingerprint}`),
      el(
        'p',
        {},
        'Compare it with what the owner of the server tells you, on another way than this page. If it differs, somebody ' +
          'is answering in the place of the server and would get your password and your files.',
      ),
      el('details', {}, el('summary', {}, 'Exactly'), el('p', {}, safeText(message))),
    ],
    [
      choice('remember', 'It is right: remember it', 'primary'),
      choice('once', 'Trust it this time'),
      choice('', 'Do not connect', 'quiet'),
    ],
  )
  return value === 'remember' || value === 'once' ? value : 'no'
}

/** Questions of the server (keyboard-interactive). */
export async function askPrompts({ title, prompts }: PromptsQuestion): Promise<string[] | undefined> {
  const inputs = prompts.map(({ echo }) =>
    el('input', { type: echo ? 'text' : 'password', autocomplete: 'off' }),
  )
  const fields = prompts.map(({ prompt }, i) => field(safeText(prompt), inputs[i]!))
  const { value } = await ask(title === '' ? 'The server asks' : safeText(title), fields, [
    choice('answer', 'Answer', 'primary'),
    choice('', 'Cancel', 'quiet'),
  ])
  return value === 'answer' ? inputs.map((input) => input.value) : undefined
}

/** One line of text; undefined where it was cancelled or left empty. */
export async function askText(title: string, label: string, initial: string): Promise<string | undefined> {
  const input = el('input', { value: initial, required: true, spellcheck: 'false', autocomplete: 'off' })
  // The part before the ending is what people change.
  const dot = initial.lastIndexOf('.')
  input.addEventListener('focus', () => input.setSelectionRange(0, dot > 0 ? dot : initial.length), {
    once: true,
  })
  const { value } = await ask(
    title,
    [field(label, input)],
    [choice('ok', 'OK', 'primary'), choice('', 'Cancel', 'quiet')],
  )
  return value === 'ok' && input.value !== '' ? input.value : undefined
}

export async function askToConfirm(title: string, text: string, yes: string): Promise<boolean> {
  const { value } = await ask(
    title,
    [el('p', {}, text)],
    [choice('yes', yes, 'danger'), choice('', 'Cancel', 'quiet')],
  )
  return value === 'yes'
}
