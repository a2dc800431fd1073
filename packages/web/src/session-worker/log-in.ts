// From what the form says to a session: the relay, the keys, the question of trust. Secrets stay in this worker.

import {
  type AuthMethod,
  BrowserKnownHosts,
  connect,
  type HostKeyPolicy,
  parsePrivateKey,
  pinnedFingerprint,
  type Session,
  signerFromPrivateKey,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport/browser'
import type { HostKeyAnswer, HostKeyQuestion, PromptsQuestion, ServerAccess, ServerFacts } from './calls.ts'

/** What only the user of the page can answer. */
export interface Questions {
  hostKey(question: HostKeyQuestion): Promise<HostKeyAnswer>
  /** Answers to what the server asks; undefined for giving up. */
  prompts(question: PromptsQuestion): Promise<readonly string[] | undefined>
}

/** Connects and logs in. @throws what connect throws, and KeyFormatError for a key file that is none */
export async function logIn(
  access: ServerAccess,
  questions: Questions,
  signal: AbortSignal,
): Promise<Session> {
  const crypto = webCrypto()
  const auth = await waysIn(access, questions)
  const { hostKeyPolicy, release } = await trust(access, questions)
  try {
    return await connect({
      open: (abort) => webSocketDuplex(access.relay, abort === undefined ? {} : { signal: abort }),
      crypto,
      host: access.host,
      port: access.port,
      username: access.user,
      hostKeyPolicy,
      auth,
      signal,
    })
  } finally {
    release()
  }
}

/** What the page shows of a session. */
export function factsOf({ info }: Session): ServerFacts {
  const { algorithms, hostKey } = info
  return {
    identification: info.peerIdentification,
    hostKeyType: hostKey.type,
    fingerprint: hostKey.fingerprint,
    kex: algorithms.kex,
    cipher: algorithms.cipherServerToClient,
    authentication: info.authentication?.method ?? '',
    user: info.user,
  }
}

async function trust(
  { host, port, fingerprint }: ServerAccess,
  questions: Questions,
): Promise<{ hostKeyPolicy: HostKeyPolicy; release(): void }> {
  const crypto = webCrypto()
  if (fingerprint !== undefined)
    return { hostKeyPolicy: pinnedFingerprint(crypto, 'openssh', fingerprint), release: () => {} }
  const store = await BrowserKnownHosts.open()
  const hostKeyPolicy = await store.policy(crypto, {
    host,
    port,
    ask: (presented, message) =>
      questions.hostKey({
        host: presented.host,
        port: presented.port,
        keyType: presented.publicKey.type,
        fingerprint: presented.fingerprint,
        message,
      }),
  })
  return { hostKeyPolicy, release: () => store.close() }
}

async function waysIn(access: ServerAccess, questions: Questions): Promise<AuthMethod[]> {
  const crypto = webCrypto()
  const methods: AuthMethod[] = []
  if (access.privateKey !== undefined) {
    const { passphrase } = access
    const key = await parsePrivateKey(
      crypto,
      access.privateKey,
      passphrase === undefined ? {} : { passphrase },
    )
    methods.push({ type: 'publickey', signer: signerFromPrivateKey(crypto, key) })
  }
  if (access.password !== undefined) methods.push({ type: 'password', password: access.password })
  methods.push({
    type: 'keyboard-interactive',
    respond: async ({ name, instruction, prompts }) => {
      if (prompts.length === 0) return []
      const { password } = access
      // Most servers ask for the password this way.
      if (password !== undefined && prompts.length === 1 && /password/i.test(prompts[0]!.prompt))
        return [password]
      const asked = prompts.map(({ prompt, echo }) => ({ prompt, echo }))
      const answers = await questions.prompts({ title: name || instruction, prompts: asked })
      if (answers === undefined) throw new DOMException('the questions were not answered', 'AbortError')
      return answers
    },
  })
  return methods
}
