/** Calls that are wrong, word by word, and the help. */
import { expect, test } from 'vitest'
import { buildsCommand, sshblock } from './command.ts'

buildsCommand()

const wrong: readonly (readonly [args: readonly string[], stderr: string])[] = [
  [[], "sshblock: no command was given\nTry 'sshblock --help'.\n"],
  [['inf'], "sshblock: unknown command 'inf' (Did you mean info?)\nTry 'sshblock --help'.\n"],
  [['info'], "sshblock: missing required argument 'location'\nTry 'sshblock info --help'.\n"],
  [
    ['info', 'disk.img'],
    "sshblock: 'disk.img' names no server; expected host:path or ssh://user@host/path\nTry 'sshblock info --help'.\n",
  ],
  [
    ['ls', '--lnog', 'h:'],
    "sshblock: unknown option '--lnog' (Did you mean --long?)\nTry 'sshblock ls --help'.\n",
  ],
  [
    ['create', 'h:x'],
    "sshblock: required option '-s, --size <bytes>' not specified\nTry 'sshblock create --help'.\n",
  ],
  [
    ['create', '--size', '10X', 'h:x'],
    "sshblock: option '-s, --size <bytes>' argument '10X' is invalid. Expected bytes, or a number with K, M, G or T, such as 10G.\nTry 'sshblock create --help'.\n",
  ],
  [
    ['serve', '--port', '70000', 'h:x'],
    "sshblock: option '--port <port>' argument '70000' is invalid. Expected a number from 0 to 65535.\nTry 'sshblock serve --help'.\n",
  ],
  [
    ['serve', 'h:/a/x.img', 'g:/b/x.raw'],
    "sshblock: two images would be called 'x'; name them, as in NAME=host:path\nTry 'sshblock serve --help'.\n",
  ],
  [
    ['cp', 'a', 'b'],
    "sshblock: neither 'a' nor 'b' is on a server; use cp for local files\nTry 'sshblock cp --help'.\n",
  ],
  [['mv', 'h:a', 'g:b'], "sshblock: 'h:a' and 'g:b' are not on the same server\nTry 'sshblock mv --help'.\n"],
  [
    ['resize', 'h:a', 'big'],
    "sshblock: 'big' is no size; expected bytes, or a number with K, M, G or T, such as 10G\nTry 'sshblock resize --help'.\n",
  ],
  [['ls', 'ssh://h:0/'], 'sshblock: port: expected a number from 1 to 65535, got "0"\n'],
  [
    ['ls', '--', '-oProxyCommand=x:y'],
    "sshblock: '-oProxyCommand=x:y': a host name must not begin with '-'\nTry 'sshblock ls --help'.\n",
  ],
]

test.each(wrong)('%j is refused with 2', async (args, stderr) => {
  expect(await sshblock(args)).toMatchObject({ code: 2, stdout: '', stderr })
})

test('failures of the connection are one line and 255', async () => {
  const refused = await sshblock(['ls', '-F', 'none', 'ssh://127.0.0.1:1/'])
  expect(refused).toMatchObject({
    code: 255,
    stderr:
      "sshblock: cannot connect to 'ssh://127.0.0.1:1/': 127.0.0.1:1 refused the connection: nothing listens there\n",
  })
})

test('every command has help with examples of itself, on stdout', async () => {
  const help = await sshblock(['--help'])
  expect(help).toMatchObject({ code: 0, stderr: '' })
  const commands = [...help.stdout.matchAll(/^ {2}([a-z]+) .*[[<]/gm)].map((match) => match[1] ?? '')
  expect(commands.filter((name) => name !== 'help').sort()).toEqual(
    'bench cp create get info keyscan ls mkdir mv put read resize rm serve server write'.split(' '),
  )
  expect(help.stdout).toContain('255 no connection')
  for (const name of ['info', 'cp', 'serve', 'keyscan']) {
    const { code, stdout } = await sshblock(['help', name])
    expect(code).toBe(0)
    expect(stdout).toMatch(new RegExp(`Examples:\n(?: {2}.*\n)*  .*sshblock ${name} `))
  }
})

test('--version prints the version of the package', async () => {
  expect((await sshblock(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})
