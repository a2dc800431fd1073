// Which names that a server chose may become names of local files. Pure; the platform is told, so that every rule is
// tested everywhere.

import { utf8Bytes } from '@sshblock/transport/wire'
import { isOneComponent } from './directory.ts'
import { needsBytes } from './path-text.ts'

/** Names that Windows gives to devices, with any extension. */
const windowsDevice = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)/i
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what the rule is about
const windowsForbidden = /[\u0000-\u001f<>:"|?*\\]/

/** Longest name that local file systems take, in UTF-8 bytes. */
const maxNameBytes = 255

/** Why a name from a server cannot be the name of a local file, or undefined where it can. `platform` as in process. */
export function localNameProblem(name: string, platform: string): string | undefined {
  if (!isOneComponent(name)) return 'not one path component'
  if (needsBytes(name)) return 'not UTF-8'
  if (utf8Bytes(name).length > maxNameBytes) return `longer than ${maxNameBytes} bytes`
  if (platform !== 'win32') return undefined
  if (windowsForbidden.test(name)) return 'a character that Windows does not allow'
  if (/[. ]$/.test(name)) return 'ends in a dot or space, which Windows drops'
  if (windowsDevice.test(name)) return 'the name of a device on Windows'
  return undefined
}
