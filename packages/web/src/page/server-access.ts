// From what the form says to a session: the relay, the keys, the question of trust. Secrets stay in this page.

import {
  type AuthMethod,
  BrowserKnownHosts,
  connect,
  type HostKeyPolicy,
  type PresentedHostKey,
  parsePrivateKey,
  pinnedFingerprint,
  type Session,
  signerFromPrivateKey,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport/browser'

export interface ServerAccess {
  /** ws: or wss: address of the relay, with the path to the target. */
  readonly relay: string
  readonly host: string
  readonly port: number
  readonly user: string
  /** Text of a private key file. */
  readonly privateKey: string | undefined
  readonly passphrase: string | undefined
  readonly password: string | undefined
  /** Believed without a question: the server that came with the page. */
  readonly fingerprint: string | undefined
}

export type HostKeyAnswer = 'remember' | 'once' | 'no'

export interface Questions {
  hostKey(presented: PresentedHostKey, message: string): Promise<HostKeyAnswer>
  /** Answers to what the server asks; undefined for giving up. */
  prompts(
    title: string,
    prompts: readonly { prompt: string; echo: boolean }[],
  ): Promise<readonly string[] | undefined>
}

/** Connects and logs in. @throws what connect throws, and KeyFormatError for a key file that is none */
export async function openSession(
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
    ask: (presented, message) => questions.hostKey(presented, message),
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
      const answers = await questions.prompts(name || instruction, prompts)
      if (answers === undefined) throw new DOMException('the questions were not answered', 'AbortError')
      return answers
    },
  })
  return methods
}
