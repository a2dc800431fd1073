// The settings for one host as the rest of this package wants them: typed, with paths expanded. Keywords that are not
// named here do nothing.

import { hostname } from 'node:os'
import { quote, SshError } from '@sshblock/transport/errors'
import { type ConfigSources, type ConfigTarget, evaluateConfig } from './evaluate.ts'
import { expandPath, expandTokens, type Tokens } from './tokens.ts'

export interface HostSettings {
  /** As the user typed it. */
  readonly alias: string
  /** The name or address that is connected to. */
  readonly hostName: string
  readonly port: number
  readonly user: string
  /** Private key files in order; undefined where none was named. */
  readonly identityFiles: readonly string[] | undefined
  readonly certificateFiles: readonly string[]
  readonly identitiesOnly: boolean
  /** Path of the agent's socket; undefined: SSH_AUTH_SOCK; false: none. */
  readonly identityAgent: string | false | undefined
  readonly userKnownHostsFiles: readonly string[]
  readonly globalKnownHostsFiles: readonly string[]
  /** Keys that are never believed. */
  readonly revokedHostKeysFiles: readonly string[]
  readonly hashKnownHosts: boolean
  readonly hostKeyAlias: string | undefined
  readonly strictHostKeyChecking: 'yes' | 'ask' | 'accept-new' | 'no'
  /** Hosts to go through, the first one first. */
  readonly proxyJump: readonly string[]
  readonly proxyCommand: string | undefined
  /** Lists of algorithms as written, with '+', '-' and '^'. */
  readonly algorithms: { readonly [K in AlgorithmKeyword]: string | undefined }
  readonly connectTimeoutMs: number | undefined
  readonly serverAliveIntervalMs: number | undefined
  readonly serverAliveCountMax: number | undefined
  /** Methods in the order to be tried. */
  readonly preferredAuthentications: readonly string[]
  readonly batchMode: boolean
  readonly passwordPrompts: number
}

export type AlgorithmKeyword = 'ciphers' | 'macs' | 'kexalgorithms' | 'hostkeyalgorithms'

const defaultMethods = ['publickey', 'keyboard-interactive', 'password']

/** @throws SshError as evaluateConfig, and 'ERR_SSH_CONFIG' for values that are none. */
export function hostSettings(
  sources: ConfigSources,
  target: ConfigTarget,
  env: Readonly<Record<string, string | undefined>>,
): HostSettings {
  const values = evaluateConfig(sources, target)
  const { home, localUser } = sources
  const one = (keyword: string): string | undefined => values.get(keyword)?.[0]
  const hostName = expandTokens(one('hostname') ?? target.host, new Map([['h', target.host]]))
  const user = one('user') ?? localUser
  const port = portNumber(one('port') ?? '22')
  const proxyJump = one('proxyjump') ?? 'none'
  const hostKeyAlias = one('hostkeyalias')
  const tokens: Tokens = new Map([
    ['d', home],
    ['h', hostName],
    ['j', proxyJump === 'none' ? '' : proxyJump],
    ['k', hostKeyAlias ?? target.host],
    ['L', hostname().split('.')[0] ?? ''],
    ['l', hostname()],
    ['n', target.host],
    ['p', String(port)],
    ['r', user],
    ['u', localUser],
    ['i', String(process.getuid?.() ?? '')],
  ])
  const path = (text: string): string => expandPath(text, home, tokens, env)
  const files = (keyword: string, defaults: readonly string[]): string[] => {
    const given = values.get(keyword) ?? defaults
    return given[0] === 'none' ? [] : given.map(path)
  }
  const flag = (keyword: string, otherwise: boolean): boolean => yesNo(keyword, one(keyword), otherwise)
  const switches = new Map([
    ['publickey', flag('pubkeyauthentication', true)],
    ['password', flag('passwordauthentication', true)],
    ['keyboard-interactive', flag('kbdinteractiveauthentication', true)],
  ])
  const proxyCommand = one('proxycommand')
  const seconds = (keyword: string): number | undefined => milliseconds(keyword, one(keyword))
  return {
    alias: target.host,
    hostName,
    port,
    user,
    identityFiles: values
      .get('identityfile')
      ?.filter((name) => name !== 'none')
      .map(path),
    certificateFiles: files('certificatefile', []),
    identitiesOnly: flag('identitiesonly', false),
    identityAgent: agentPath(one('identityagent'), path, env),
    userKnownHostsFiles: files('userknownhostsfile', ['~/.ssh/known_hosts', '~/.ssh/known_hosts2']),
    globalKnownHostsFiles: files('globalknownhostsfile', [
      '/etc/ssh/ssh_known_hosts',
      '/etc/ssh/ssh_known_hosts2',
    ]),
    revokedHostKeysFiles: files('revokedhostkeys', []),
    hashKnownHosts: flag('hashknownhosts', false),
    hostKeyAlias,
    strictHostKeyChecking: strictness(one('stricthostkeychecking')),
    proxyJump: proxyJump === 'none' ? [] : proxyJump.split(',').map((hop) => hop.trim()),
    proxyCommand:
      proxyCommand === undefined || proxyCommand === 'none' ? undefined : expandTokens(proxyCommand, tokens),
    algorithms: {
      ciphers: one('ciphers'),
      macs: one('macs'),
      kexalgorithms: one('kexalgorithms'),
      hostkeyalgorithms: one('hostkeyalgorithms'),
    },
    connectTimeoutMs: seconds('connecttimeout'),
    serverAliveIntervalMs: seconds('serveraliveinterval'),
    serverAliveCountMax: whole('serveralivecountmax', one('serveralivecountmax')),
    preferredAuthentications: (one('preferredauthentications')?.split(',') ?? defaultMethods).filter(
      (method) => switches.get(method) !== false,
    ),
    batchMode: flag('batchmode', false),
    passwordPrompts: whole('numberofpasswordprompts', one('numberofpasswordprompts')) ?? 3,
  }
}

function wrong(keyword: string, value: string, expected: string): SshError {
  return new SshError('ERR_SSH_CONFIG', `${keyword} ${quote(value)}: expected ${expected}`)
}

function portNumber(text: string): number {
  const port = /^\d+$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw wrong('Port', text, 'a number from 1 to 65535')
  return port
}

function yesNo(keyword: string, value: string | undefined, otherwise: boolean): boolean {
  if (value === undefined) return otherwise
  if (/^(yes|true)$/i.test(value)) return true
  if (/^(no|false)$/i.test(value)) return false
  throw wrong(keyword, value, 'yes or no')
}

function whole(keyword: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (!/^\d+$/.test(value)) throw wrong(keyword, value, 'a number')
  return Number(value)
}

/** Times of sshd_config(5), "TIME FORMATS": seconds, or numbers with s, m, h, d, w. */
function milliseconds(keyword: string, value: string | undefined): number | undefined {
  if (value === undefined || value === 'none') return undefined
  if (!/^(\d+[smhdw]?)+$/i.test(value)) throw wrong(keyword, value, 'a time')
  const units = new Map([
    ['', 1],
    ['s', 1],
    ['m', 60],
    ['h', 3600],
    ['d', 86_400],
    ['w', 604_800],
  ])
  let total = 0
  for (const [, count, unit = ''] of value.matchAll(/(\d+)([smhdw]?)/gi))
    total += Number(count) * units.get(unit.toLowerCase())!
  return total * 1000
}

function strictness(value: string | undefined): HostSettings['strictHostKeyChecking'] {
  switch (value?.toLowerCase()) {
    case undefined:
    case 'ask':
      return 'ask'
    case 'yes':
    case 'true':
      return 'yes'
    case 'no':
    case 'false':
    case 'off':
      return 'no'
    case 'accept-new':
      return 'accept-new'
    default:
      throw wrong('StrictHostKeyChecking', value ?? '', 'yes, no, ask or accept-new')
  }
}

function agentPath(
  value: string | undefined,
  path: (text: string) => string,
  env: Readonly<Record<string, string | undefined>>,
): string | false | undefined {
  if (value === undefined || value === 'SSH_AUTH_SOCK') return undefined
  if (value === 'none') return false
  return value.startsWith('$') && !value.startsWith('${') ? (env[value.slice(1)] ?? false) : path(value)
}
