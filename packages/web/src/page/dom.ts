// Elements made in one expression. Text is always text: nothing here takes HTML.

type Child = Node | string | undefined | false
type Attributes = Readonly<Record<string, string | number | boolean | undefined | ((event: Event) => void)>>

/** `el('button', { type: 'button', onclick: save }, 'Save')`. Functions are listeners; true and '' set an empty attribute. */
export function el<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key.replace(/^on/, ''), value)
    else if (value !== undefined && value !== false)
      element.setAttribute(key, value === true ? '' : String(value))
  }
  element.append(
    ...children.filter((child): child is Node | string => child !== undefined && child !== false),
  )
  return element
}

export function svg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  return element
}

/** A push button that does something that may fail; it cannot be pressed again meanwhile. */
export function button(
  label: string,
  act: () => void | Promise<void>,
  attributes: Attributes = {},
): HTMLButtonElement {
  const element = el('button', { type: 'button', ...attributes }, label)
  element.addEventListener('click', () => {
    const done = act()
    if (done === undefined) return
    element.setAttribute('aria-disabled', 'true')
    element.disabled = true
    void done.finally(() => {
      element.disabled = false
      element.removeAttribute('aria-disabled')
    })
  })
  return element
}

let labels = 0

/** A label over its field. */
export function field(label: string, input: HTMLElement, hint?: string): HTMLElement {
  input.id ||= `field-${++labels}`
  const note = hint === undefined ? undefined : el('small', { id: `${input.id}-hint` }, hint)
  if (note !== undefined) input.setAttribute('aria-describedby', note.id)
  return el('div', { class: 'field' }, el('label', { for: input.id }, label), input, note)
}
