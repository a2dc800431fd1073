// The ways to get in, in the order of the settings: the agent's identities, key files, questions of the server, the
// password. Whatever must be typed is asked for on the terminal (questions.ts), never taken from arguments.

import { existsSync, readFileSync } from 'node:fs'
import {
  type AuthMethod,
  agentAuth,
  agentSocketPath,
  defaultKeyFiles,
  keyFileAuth,
  nodeCrypto,
  parsePrivateKey,
  publicKeyFromText,
} from '@sshblock/transport/node'
import type { Invocation } from '../invocation.ts'
import { promptText } from '../questions.ts'
import type { HostSettings } from '../ssh-config/settings.ts'

export async function authentication(invocation: Invocation, settings: HostSettings): Promise<AuthMethod[]> {
  const methods: AuthMethod[] = []
  for (const method of settings.preferredAuthentications) {
    if (method === 'publickey') methods.push(...(await publicKeys(invocation, settings)))
    // What must be typed.
    else if (settings.batchMode) continue
    else if (method === 'keyboard-interactive') methods.push(keyboardInteractive(invocation, settings))
    else if (method === 'password') methods.push(password(invocation, settings))
  }
  return methods
}

async function publicKeys(invocation: Invocation, settings: HostSettings): Promise<AuthMethod[]> {
  const named = settings.identityFiles
  const files = named ?? defaultKeyFiles().filter((file) => existsSync(file))
  const methods: AuthMethod[] = []
  const agent = await agentMethod(settings, files)
  if (agent !== undefined) methods.push(agent)
  for (const file of files) {
    methods.push(
      keyFileAuth(file, {
        ...(settings.batchMode
          ? {}
          : {
              passphrase: (path) =>
                invocation.questions.ask(`Enter passphrase for key '${path}': `, { echo: false }),
            }),
        ...certificateFor(file, settings),
      }),
    )
  }
  return methods
}

/** A CertificateFile that is the file's own by its name. */
function certificateFor(file: string, { certificateFiles }: HostSettings): { certificatePath?: string } {
  const own =
    certificateFiles.find((path) => path === `${file}-cert.pub`) ??
    (certificateFiles.length === 1 ? certificateFiles[0] : undefined)
  return own === undefined ? {} : { certificatePath: own }
}

async function agentMethod(
  { identityAgent, identitiesOnly }: HostSettings,
  files: readonly string[],
): Promise<AuthMethod | undefined> {
  const socketPath = identityAgent ?? agentSocketPath()
  if (socketPath === false || socketPath === undefined) return undefined
  if (!identitiesOnly) return agentAuth({ socketPath })
  const blobs = await Promise.all(files.map(publicBlob))
  return agentAuth({ socketPath, only: blobs.filter((blob) => blob !== undefined) })
}

/** The public key of an identity file: from FILE.pub, or from the file where it needs no passphrase. */
async function publicBlob(file: string): Promise<Uint8Array | undefined> {
  for (const path of [`${file}.pub`, file]) {
    try {
      return publicKeyFromText(readFileSync(path, 'utf8')).publicKey.blob
    } catch {
      // Not there, or no public key: the next one.
    }
  }
  try {
    return (await parsePrivateKey(nodeCrypto, readFileSync(file))).publicKey.blob
  } catch {
    return undefined
  }
}

function keyboardInteractive({ questions }: Invocation, { user, alias }: HostSettings): AuthMethod {
  return {
    type: 'keyboard-interactive',
    respond: async ({ name, instruction, prompts }) => {
      const heading = [name, instruction].filter((text) => text !== '').map((text) => `${promptText(text)}\n`)
      const answers: string[] = []
      for (const { prompt, echo } of prompts) {
        const text = `${answers.length === 0 ? heading.join('') : ''}(${user}@${alias}) ${promptText(prompt)}`
        answers.push((await questions.ask(text, { echo })) ?? '')
      }
      return answers
    },
  }
}

function password({ questions }: Invocation, { user, alias, passwordPrompts }: HostSettings): AuthMethod {
  const ask = (text: string): Promise<string | undefined> => questions.ask(text, { echo: false })
  return {
    type: 'password',
    password: async (attempt) =>
      attempt > passwordPrompts ? undefined : ask(`${user}@${alias}'s password: `),
    onChange: async (prompt) => {
      const wanted = await ask(`${promptText(prompt)}\nNew password for ${user}@${alias}: `)
      const again = wanted === undefined ? undefined : await ask('The new password again: ')
      return wanted === again ? wanted : undefined
    },
  }
}
