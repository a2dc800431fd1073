// Our server on loopback, with host keys and client keys made by ssh-keygen and a handful of commands, for other people's
// clients. It fits where the tests take a started peer.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { ExecHandler, ListenOptions, ServerEvent, Signer, SshServer } from '@sshblock/transport/node'
import { listen, nodeCrypto, parsePrivateKey, signerFromPrivateKey } from '@sshblock/transport/node'
import { registerCleanup } from '../../support/cleanup.ts'
import type { KeyPair, KeyType } from '../../support/keys.ts'
import { clientKey, hostKey } from '../../support/keys.ts'
import type { Destination } from '../../support/openssh-client.ts'
import { CLIENT_KEY_TYPES, LOOPBACK, writeKnownHosts } from '../../support/peer.ts'
import { tempDir } from '../../support/temp-dir.ts'

export interface OurServer extends Destination {
  readonly server: SshServer
  readonly hostKeys: readonly KeyPair[]
  /** Everything that happened so far. */
  readonly events: ServerEvent[]
}

export interface OurServerOptions extends Partial<ListenOptions> {
  hostKeyTypes?: readonly KeyType[]
  /** Text of authorized_keys; the client key of every type where left out. */
  authorizedKeys?: string
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** Stands for a shell: 'echo X', 'cat', 'sha256' and 'zeros N' do what they say, 'status N' ends so, 'env' shows what was set. */
export const commands: ExecHandler = async (channel, command, context) => {
  const [name = '', ...words] = command.split(' ')
  const argument = words.join(' ')
  switch (name) {
    case 'echo':
      channel.write(text(`${argument}\n`))
      return 0
    case 'complain':
      channel.writeStderr(text(`${argument}\n`))
      return 1
    case 'status':
      return Number(argument)
    case 'signal':
      return channel.exitWith({ signal: argument })
    case 'env':
      channel.write(text([...context.environment].map(([key, value]) => `${key}=${value}\n`).join('')))
      return 0
    case 'terminal':
      channel.write(
        text(`${channel.terminal?.term} ${channel.terminal?.columns}x${channel.terminal?.rows}\n`),
      )
      return 0
    case 'wait':
      await new Promise((resolve) => setTimeout(resolve, Number(argument)))
      return 0
    case 'cat':
      await channel.readable().pipeTo(channel.writable())
      return 0
    case 'sha256': {
      const hash = createHash('sha256')
      const reader = channel.readable().getReader()
      for (let next = await reader.read(); !next.done; next = await reader.read()) hash.update(next.value)
      channel.write(text(`${hash.digest('hex')}\n`))
      return 0
    }
    case 'zeros': {
      const writer = channel.writable().getWriter()
      const chunk = new Uint8Array(65_536)
      for (let left = Number(argument); left > 0; left -= chunk.length)
        await writer.write(chunk.subarray(0, Math.min(left, chunk.length)))
      return 0
    }
    case 'original':
      channel.write(text(`${context.originalCommand}\n`))
      return 0
    default:
      channel.writeStderr(text(`${name}: not found\n`))
      return 127
  }
}

export async function signerOf(pair: KeyPair): Promise<Signer> {
  return signerFromPrivateKey(nodeCrypto, await parsePrivateKey(nodeCrypto, readFileSync(pair.privateFile)))
}

/** Starts the server; it ends with the test. */
export async function startOurServer(options: OurServerOptions = {}): Promise<OurServer> {
  const { hostKeyTypes = ['ed25519', 'ecdsa-256', 'rsa-2048'], authorizedKeys, ...rest } = options
  const hostKeys = await Promise.all(hostKeyTypes.map(hostKey))
  const events: ServerEvent[] = []
  const authorized =
    authorizedKeys ??
    (await Promise.all(CLIENT_KEY_TYPES.map((type) => clientKey(type))))
      .map((key) => key.publicLine)
      .join('\n')
  const server = await listen({
    hostKeys: await Promise.all(hostKeys.map(signerOf)),
    exec: commands,
    ...rest,
    auth: rest.auth ?? {
      authorizedKeys: (user) => (user === 'ann' ? authorized : undefined),
      refusalFloorMs: 0,
    },
    onEvent: (event, connection) => {
      events.push(event)
      rest.onEvent?.(event, connection)
    },
  })
  registerCleanup(() => server.close())
  const knownHosts = writeKnownHosts(tempDir('our-server'), LOOPBACK, server.port, hostKeys)
  return { server, host: LOOPBACK, port: server.port, user: 'ann', paths: { knownHosts }, hostKeys, events }
}
