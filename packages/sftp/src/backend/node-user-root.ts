// A root folder per user, from a template such as '/srv/sftp/%u'. The user's name came over the network.

import { quote, UsageError } from '@sshblock/transport/errors'

/**
 * The template with every '%u' replaced by the user's name, '%%' by '%'.
 *
 * @throws UsageError ERR_SFTP_USER_NAME where the template uses the name and it is not exactly one harmless path component:
 *   refuse the login then. Names are refused, never cleaned up, so that two users never share a folder.
 */
export function userRoot(template: string, user: string): string {
  return template.replace(/%(.)/g, (whole, letter: string) => {
    if (letter === '%') return '%'
    if (letter !== 'u')
      throw new UsageError(`unknown ${quote(whole)} in the root template ${quote(template)}`)
    if (user.length > 255 || !/^[A-Za-z0-9_][A-Za-z0-9_.@+-]*$/.test(user)) {
      throw new UsageError(`the user name ${quote(user)} cannot be part of a path`, {
        code: 'ERR_SFTP_USER_NAME',
      })
    }
    return user
  })
}
