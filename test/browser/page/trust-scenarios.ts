// Whom a page believes to be the server, and keys that it holds itself.

import {
  AgentClient,
  BrowserKnownHosts,
  handlerChannel,
  MemoryAgent,
  parsePrivateKey,
  webCrypto,
} from '@sshblock/transport/browser'
import { type Connection, login } from './connection.ts'

/** Logs in with the known hosts of this origin; `answer` is what the user would say. */
export async function logInAsking(
  connection: Connection,
  { answer }: { answer: 'remember' | 'once' | 'no' },
): Promise<{ asked: string[]; knownHosts: string }> {
  const store = await BrowserKnownHosts.open()
  const crypto = webCrypto()
  const asked: string[] = []
  try {
    const { host, port } = connection
    const hostKeyPolicy = await store.policy(crypto, {
      host,
      port,
      ask: (presented, message) => {
        asked.push(`${presented.fingerprint} ${message}`)
        return answer
      },
    })
    const session = await login(connection, { hostKeyPolicy })
    await session.close()
    return { asked, knownHosts: await store.text() }
  } finally {
    store.close()
  }
}

/** Two tabs that remember a host at the same time. */
export async function rememberAtOnce(names: readonly string[]): Promise<string> {
  const stores = await Promise.all(names.map(() => BrowserKnownHosts.open()))
  const crypto = webCrypto()
  const key = { type: 'ssh-ed25519', blob: new Uint8Array(51).fill(7) }
  await Promise.all(stores.map((store, i) => store.add(crypto, { host: names[i]!, port: 22, key })))
  const text = await stores[0]!.text()
  for (const store of stores) store.close()
  return text
}

/** Puts a file's text in, takes one name out again. */
export async function importAndForget(
  text: string,
  name: string,
): Promise<{ removed: number; left: string }> {
  const store = await BrowserKnownHosts.open()
  await store.replace(text)
  const removed = await store.remove(webCrypto(), name)
  const left = await store.text()
  store.close()
  return { removed, left }
}

/** The key is in an agent that lives in the page. */
export async function logInWithAgent(connection: Connection): Promise<{ method: string; source: string }> {
  const crypto = webCrypto()
  const agent = new MemoryAgent({ crypto })
  agent.add(await parsePrivateKey(crypto, connection.privateKey ?? ''), { comment: 'held in the page' })
  const session = await login(connection, {
    auth: [{ type: 'agent', agent: new AgentClient(handlerChannel(agent.connection()), { crypto }) }],
  })
  const { authentication } = session.info
  await session.close()
  agent.destroy()
  return { method: authentication?.method ?? '', source: authentication?.source ?? '' }
}
