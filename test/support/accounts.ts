/** The users of a private server: the one who runs the tests, with a private home folder, and one who has a password. */
import { chownSync, copyFileSync, mkdirSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { type Account, hasNamespaces, needsNamespaces } from './namespace.ts'
import { runOrThrow } from './program.ts'
import { requirePeers } from './requirements.ts'

export interface PasswordUser {
  readonly name: string
  readonly password: string
}

// An ordinary user's id that no package and no person has.
const PASSWORD_USER_ID = 54_321

/** The user who runs the tests: the one user that a server without a namespace can let in. */
export function thisUser(): { name: string; uid: number; gid: number; home: string } {
  const { username, uid, gid, homedir } = userInfo()
  return { name: username, uid, gid, home: homedir }
}

/** The hash of a password as /etc/shadow keeps it: SHA-512 with few rounds, as a test need not wait. */
async function hashPassword(password: string): Promise<string> {
  // Perl is essential in Debian and calls the same crypt(3) as the servers do.
  const script = 'chomp(my $p = <STDIN>); print crypt($p, q{$6$rounds=1000$sshblocktest$})'
  return (await runOrThrow('perl', ['-e', script], { input: password })).stdout
}

/**
 * The private accounts of a server whose folder is `dir`, with `home` as the home folder of the user who runs the tests.
 * Empty where there are no namespaces; then a password user skips the test.
 */
export async function privateAccounts(
  folder: { readonly dir: string; readonly home: string; readonly authorizedKeys: string },
  passwordUser: PasswordUser | undefined,
): Promise<Account[]> {
  if (passwordUser !== undefined) requirePeers([needsNamespaces()])
  if (!hasNamespaces()) return []
  const accounts: Account[] = [{ ...thisUser(), home: folder.home, passwordHash: undefined }]
  if (passwordUser !== undefined) {
    const home = join(folder.dir, 'home-of-password-user')
    const ssh = join(home, '.ssh')
    const authorizedKeys = join(ssh, 'authorized_keys')
    mkdirSync(ssh, { recursive: true, mode: 0o755 })
    copyFileSync(folder.authorizedKeys, authorizedKeys)
    for (const path of [home, ssh, authorizedKeys]) chownSync(path, PASSWORD_USER_ID, PASSWORD_USER_ID)
    const passwordHash = await hashPassword(passwordUser.password)
    accounts.push({
      name: passwordUser.name,
      uid: PASSWORD_USER_ID,
      gid: PASSWORD_USER_ID,
      home,
      passwordHash,
    })
  }
  return accounts
}
