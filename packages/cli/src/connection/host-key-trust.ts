// Whom we take for the server: known_hosts, and where a host is not in it, the question that ssh asks. A key that has
// changed is never asked about.

import type { HostKeyCheck } from '@sshblock/blockdev'
import {
  addKnownHost,
  type HostKeyPolicy,
  insecureAcceptAnyHostKey,
  knownHostsFilesPolicy,
  nodeCrypto,
  type PresentedHostKey,
  pinnedFingerprint,
  quote,
} from '@sshblock/transport/node'
import { type Invocation, tell } from '../invocation.ts'
import type { HostSettings } from '../ssh-config/settings.ts'
import { refuseRevoked } from './revoked-host-keys.ts'

/**
 * The policy for a host; `check` is what its location says about host keys. Revoked keys are refused whatever it says.
 * @throws SshError 'ERR_SSH_CONFIG' where RevokedHostKeys cannot be used
 */
export async function hostKeyTrust(
  invocation: Invocation,
  settings: HostSettings,
  check: HostKeyCheck | undefined,
): Promise<HostKeyPolicy> {
  return refuseRevoked(await trust(invocation, settings, check), settings.revokedHostKeysFiles)
}

async function trust(
  invocation: Invocation,
  settings: HostSettings,
  check: HostKeyCheck | undefined,
): Promise<HostKeyPolicy> {
  if (check?.mode === 'none') return insecureAcceptAnyHostKey()
  if (check?.mode === 'hash') {
    const type = check.hash.startsWith('SHA256:') ? 'openssh' : check.type
    return pinnedFingerprint(nodeCrypto, type, check.hash.replace(/=$/, ''))
  }
  const { hostName, port, hostKeyAlias, userKnownHostsFiles, globalKnownHostsFiles } = settings
  return knownHostsFilesPolicy({
    host: hostName,
    port,
    ...(hostKeyAlias === undefined ? {} : { alias: hostKeyAlias }),
    files: [...userKnownHostsFiles, ...globalKnownHostsFiles],
    onUnknown: (presented) => acceptUnknown(invocation, settings, presented),
  })
}

async function acceptUnknown(
  invocation: Invocation,
  settings: HostSettings,
  presented: PresentedHostKey,
): Promise<boolean> {
  const { strictHostKeyChecking: strict, batchMode } = settings
  if (
    strict === 'yes' ||
    (strict === 'ask' && (batchMode || !(await confirm(invocation, settings, presented))))
  )
    return false
  await remember(invocation, settings, presented)
  return true
}

async function confirm(
  { questions }: Invocation,
  settings: HostSettings,
  { publicKey, fingerprint }: PresentedHostKey,
): Promise<boolean> {
  const name = serverName(settings)
  const question = [
    `The authenticity of host '${name}' can't be established.`,
    `${keyName(publicKey.type)} key fingerprint is ${fingerprint}.`,
    'Are you sure you want to continue connecting (yes/no/[fingerprint])? ',
  ].join('\n')
  let answer = await questions.ask(question, { echo: true })
  for (;;) {
    const given = answer?.trim()
    if (given === undefined || given.toLowerCase() === 'no') return false
    if (given.toLowerCase() === 'yes' || given === fingerprint) return true
    answer = await questions.ask("Please type 'yes', 'no' or the fingerprint: ", { echo: true })
  }
}

async function remember(
  invocation: Invocation,
  settings: HostSettings,
  { publicKey }: PresentedHostKey,
): Promise<void> {
  const { hostName: host, port, hostKeyAlias, hashKnownHosts } = settings
  const [file] = settings.userKnownHostsFiles
  if (file === undefined || file === '/dev/null') return
  try {
    await addKnownHost(nodeCrypto, file, {
      host,
      port,
      key: publicKey,
      hash: hashKnownHosts,
      ...(hostKeyAlias === undefined ? {} : { alias: hostKeyAlias }),
    })
    tell(invocation, `added '${serverName(settings)}' (${keyName(publicKey.type)}) to ${quote(file, 1024)}`)
  } catch (error) {
    // Trusted this time; ssh goes on too where it cannot write the file.
    tell(
      invocation,
      `warning: '${host}' was not added: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}

function serverName({ hostName, port, hostKeyAlias }: HostSettings): string {
  return hostKeyAlias ?? (port === 22 ? hostName : `[${hostName}]:${port}`)
}

/** 'ED25519' for 'ssh-ed25519', as ssh calls it. */
function keyName(type: string): string {
  if (type.startsWith('ecdsa')) return 'ECDSA'
  return type.includes('ed25519') ? 'ED25519' : 'RSA'
}
