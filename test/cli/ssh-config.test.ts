/** What ssh_config files say about a host, checked against `ssh -G`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hostSettings } from '../../packages/cli/src/ssh-config/settings.ts'
import { needsOpensshClient } from '../support/openssh-client.ts'
import { runOrThrow } from '../support/program.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'

interface Case {
  readonly name: string
  readonly config: string
  readonly hosts: readonly string[]
  readonly overrides?: readonly string[]
  /** More files, below the folder of the configuration; FOLDER in texts stands for it. */
  readonly files?: Readonly<Record<string, string>>
}

const cases: readonly Case[] = [
  {
    name: 'the first value of a keyword wins, and what stands before the first Host is for all',
    config: 'Port 2201\nHost a\n  Port 2202\n  User anna\nHost *\n  User other\n  HostName %h.example.org\n',
    hosts: ['a', 'b'],
  },
  {
    name: 'patterns with wildcards, several on a line, and exclusions',
    config:
      'Host *.example.org !bad.example.org 10.0.0.?\n  User pattern\nHost bad*\n  User bad\nHost h?st\n Port 3\n',
    hosts: ['x.example.org', 'bad.example.org', '10.0.0.7', '10.0.0.77', 'host'],
  },
  {
    name: 'keywords in any case, "=", quotes, comments, tabs and CRLF',
    config:
      '# a comment\r\nhOsT=q\r\n\tHOSTNAME = "10.1.2.3"\r\n\tuser  "someone"\r\n\r\n  IdentityFile "~/.ssh/my key"\r\n',
    hosts: ['q'],
  },
  {
    name: 'identity files are collected in order, each once',
    config:
      'Host i\n IdentityFile ~/.ssh/one\n IdentityFile /keys/%h-%r\nHost *\n IdentityFile ~/.ssh/one\n IdentityFile ~/.ssh/two\n User u\n',
    hosts: ['i', 'other'],
  },
  {
    name: 'Match host, originalhost, user and lists with commas',
    config:
      'Host m\n HostName real.example.org\nMatch host real.example.org\n Port 71\nMatch originalhost m,n\n User mn\nMatch user mn originalhost m\n BatchMode yes\nMatch host *.example.org,!real.*\n ConnectTimeout 9\n',
    hosts: ['m', 'n', 'x.example.org'],
  },
  {
    name: 'Match exec, negations and all',
    config:
      'Match exec "test %n = run"\n Port 81\nMatch !exec "test %h = run"\n Port 82\nMatch !host run all\n User notrun\nMatch all\n HostKeyAlias everybody\n',
    hosts: ['run', 'walk'],
  },
  {
    name: 'Match final sees the name that was found',
    config:
      'Host f\n HostName f.internal\nMatch final host *.internal\n User final\nMatch host f.internal\n Port 91\n',
    hosts: ['f', 'g'],
  },
  {
    name: 'Include with wildcards, in sorted order, inside a Host, and inside one that does not match',
    config:
      'Include FOLDER/conf.d/*.conf\nHost inc\n  Include FOLDER/inner\nHost never\n  Include FOLDER/inner\nHost *\n  User last\n',
    files: {
      'conf.d/10-first.conf': 'Host one\n Port 101\n',
      'conf.d/20-second.conf': 'Host one two\n Port 102\n User second\n',
      'conf.d/ignored.txt': 'Port 9\n',
      inner: 'Port 103\nHost inc\n  User inner\nHost elsewhere\n User wrong\n',
    },
    hosts: ['one', 'two', 'inc', 'elsewhere'],
  },
  {
    name: 'ProxyJump and ProxyCommand exclude each other, whichever is first',
    config:
      'Host j\n ProxyJump a@gate:2222,other\n ProxyCommand nc %h %p\nHost c\n ProxyCommand nc -X 5 %h %p\n ProxyJump gate\nHost d\n ProxyJump none\n ProxyCommand nc %h %p\n',
    hosts: ['j', 'c', 'd'],
  },
  {
    name: 'the command of ProxyCommand is the rest of its line, with the quotes in it',
    config: [
      'Host cloud',
      `  ProxyCommand sh -c "start --target %h --document X --parameters 'portNumber=%p'"`,
      'Host eq',
      `  ProxyCommand = sh -c 'exec nc "%h"   "%p"' # still the command`,
      'Host tab',
      '\tproxycommand\t"/usr/bin/my proxy" %h:%p  ',
      '',
    ].join('\n'),
    hosts: ['cloud', 'eq', 'tab'],
  },
  {
    name: 'what is said by options comes before all files',
    config: 'Host o\n Port 1\n User file\n',
    overrides: ['Port=4444', 'User option', 'StrictHostKeyChecking=accept-new'],
    hosts: ['o'],
  },
  {
    name: 'times, switches and known hosts files',
    config:
      'ConnectTimeout 2m\nServerAliveInterval 90\nServerAliveCountMax 5\nStrictHostKeyChecking no\nHashKnownHosts yes\nUserKnownHostsFile /a/known /b/known\nGlobalKnownHostsFile none\nIdentitiesOnly yes\nBatchMode yes\nPreferredAuthentications password,publickey\nNumberOfPasswordPrompts 1\n',
    hosts: ['t'],
  },
]

function write(folder: string, each: Case): string {
  const filled = (text: string): string => text.replaceAll('FOLDER', folder)
  for (const [name, text] of Object.entries(each.files ?? {})) {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), filled(text))
  }
  const file = join(folder, 'config')
  writeFileSync(file, filled(each.config))
  return file
}

const home = userInfo().homedir

function ours(file: string, host: string, overrides: readonly string[]) {
  return hostSettings(
    {
      overrides,
      userFile: file,
      userFileNamed: true,
      systemFile: undefined,
      home,
      localUser: userInfo().username,
      shell: '/bin/sh',
    },
    { host, user: undefined, port: undefined },
    process.env,
  )
}

/** Our settings in the words of `ssh -G`; undefined where ssh prints a default of its own. */
function inTheirWords(settings: ReturnType<typeof ours>): Map<string, string | undefined> {
  const { proxyJump, proxyCommand, identityFiles, connectTimeoutMs } = settings
  const seconds = (ms: number | undefined): string | undefined =>
    ms === undefined ? undefined : String(ms / 1000)
  const yes = (value: boolean): string => (value ? 'yes' : 'no')
  return new Map([
    ['hostname', settings.hostName],
    ['port', String(settings.port)],
    ['user', settings.user],
    ['identityfile', identityFiles?.join('\n')],
    ['identitiesonly', yes(settings.identitiesOnly)],
    ['batchmode', yes(settings.batchMode)],
    ['hashknownhosts', yes(settings.hashKnownHosts)],
    ['userknownhostsfile', settings.userKnownHostsFiles.join(' ')],
    ['globalknownhostsfile', settings.globalKnownHostsFiles.join(' ') || 'none'],
    ['hostkeyalias', settings.hostKeyAlias],
    ['proxyjump', proxyJump.length === 0 ? undefined : proxyJump.join(',')],
    ['proxycommand', proxyCommand],
    ['connecttimeout', connectTimeoutMs === undefined ? 'none' : String(connectTimeoutMs / 1000)],
    // Debian's ssh has a default of its own with BatchMode.
    ['serveraliveinterval', seconds(settings.serverAliveIntervalMs)],
    ['serveralivecountmax', String(settings.serverAliveCountMax ?? 3)],
    ['numberofpasswordprompts', String(settings.passwordPrompts)],
  ])
}

describeWith([needsOpensshClient()], 'settings for a host are those of ssh -G', () => {
  test.each(cases)('$name', async (each) => {
    const folder = tempDir('config')
    const file = write(folder, each)
    const overrides = each.overrides ?? []
    for (const host of each.hosts) {
      const settings = ours(file, host, overrides)
      const options = overrides.flatMap((option) => ['-o', option])
      const { stdout } = await runOrThrow('ssh', ['-G', '-F', file, ...options, host])
      const theirs = new Map<string, string>()
      for (const line of stdout.split('\n')) {
        const space = line.indexOf(' ')
        const keyword = line.slice(0, space)
        // ssh prints paths of keys as written, with '~' and tokens in them.
        const value = line
          .slice(space + 1)
          .replace(/^~/, home)
          .replaceAll('%h', settings.hostName)
        const shown = keyword === 'identityfile' ? value.replaceAll('%r', settings.user) : value
        theirs.set(keyword, theirs.has(keyword) ? `${theirs.get(keyword)}\n${shown}` : shown)
      }
      theirs.set('proxycommand', (theirs.get('proxycommand') ?? '').replaceAll('%p', String(settings.port)))
      for (const [keyword, value] of inTheirWords(settings)) {
        if (value !== undefined)
          expect(`${host} ${keyword} ${value}`).toBe(`${host} ${keyword} ${theirs.get(keyword)}`)
      }
      const strict = new Map([
        ['yes', 'true'],
        ['no', 'false'],
        ['ask', 'ask'],
        ['accept-new', 'accept-new'],
      ])
      expect(strict.get(settings.strictHostKeyChecking)).toBe(theirs.get('stricthostkeychecking'))
    }
  })
})

describe('configurations that cannot be used', () => {
  test.each([
    ['Port 70000\n', /Port "70000": expected a number from 1 to 65535/],
    ['BatchMode perhaps\n', /batchmode "perhaps": expected yes or no/],
    ['Match weather sunny\n Port 1\n', /Match "weather" is not supported/],
    ['HostName "unfinished\n', /cannot understand/],
    ['Include FOLDER/config\n', /is included too deeply/],
    ['IdentityFile ~/.ssh/%Z\n', /%Z in .* means nothing here/],
  ])('%j is refused with the reason', (config, reason) => {
    const file = write(tempDir('config'), { name: '', config, hosts: [] })
    expect(() => ours(file, 'h', [])).toThrow(reason)
  })

  test('a file that was named must be there', () => {
    expect(() => ours('/nonexistent/config', 'h', [])).toThrow(/there is no such file/)
  })
})
