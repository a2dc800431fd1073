/**
 * Protocol tests for SFTP servers: a scripted client over any byte channel, and a suite of named checks. The form of checks
 * and reports is that of `@sshblock/transport/conformance`. See docs/conformance.md.
 */
import type { Check } from '@sshblock/transport/conformance'
import { sftpExtensionChecks } from './conformance/extension-checks.ts'
import { sftpFileChecks } from './conformance/file-checks.ts'
import { sftpAttributeChecks, sftpNameChecks } from './conformance/name-checks.ts'
import { sftpHandleChecks, sftpPacketChecks } from './conformance/protocol-checks.ts'
import type { SftpTrial } from './conformance/sftp-trial.ts'

export {
  decodeReply,
  describeReply,
  framed,
  handleIn,
  nameIn,
  ScriptedSftp,
  type SftpArrival,
  type SftpReply,
  statusIn,
} from './conformance/scripted-sftp.ts'
export { runSftpTrials, type SftpTarget, SftpTrial } from './conformance/sftp-trial.ts'

/** Checks that run against an SFTP server. */
export const sftpChecks: readonly Check<SftpTrial>[] = [
  ...sftpPacketChecks,
  ...sftpHandleChecks,
  ...sftpFileChecks,
  ...sftpNameChecks,
  ...sftpAttributeChecks,
  ...sftpExtensionChecks,
]
