/** Calls that are wrong, word by word, and the help. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bundlesPackages } from '../support/bundles.ts'
import { tempDir } from '../support/temp-dir.ts'
import { sshblock, sshblockSeries } from './command.ts'

bundlesPackages()

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
  [
    ['bridge'],
    "sshblock: who may connect? name the pages with --origin https://...\nTry 'sshblock bridge --help'.\n",
  ],
  [
    ['bridge', '--origin', 'https://a.example'],
    "sshblock: to which servers? name them with --allow HOST:PORT or --target HOST:PORT\nTry 'sshblock bridge --help'.\n",
  ],
  [
    ['bridge', '--origin', 'https://a.example', '--target', 'a:22', '--allow', 'b:22'],
    "sshblock: --allow and --target exclude each other\nTry 'sshblock bridge --help'.\n",
  ],
  [
    ['bridge', '--origin', 'https://a.example', '--target', 'nowhere'],
    "sshblock: target: expected 'host:port', got \"nowhere\"\nTry 'sshblock bridge --help'.\n",
  ],
  [
    ['serve', '--on-loss', 'cry', 'h:x'],
    "sshblock: option '--on-loss <what>' argument 'cry' is invalid. Allowed choices are fail, replay.\nTry 'sshblock serve --help'.\n",
  ],
  [
    ['serve', '--reconnect-delay', 'soon', 'h:x'],
    "sshblock: option '--reconnect-delay <seconds>' argument 'soon' is invalid. Expected seconds, at most 86400.\nTry 'sshblock serve --help'.\n",
  ],
  [
    ['serve', '--socket', '/s', '--port', '1', 'h:x'],
    "sshblock: --socket and --port exclude each other\nTry 'sshblock serve --help'.\n",
  ],
  [
    ['get', 'h:a', 'b', 'c'],
    "sshblock: too many arguments for 'get'. Expected 2 arguments but got 3.\nTry 'sshblock get --help'.\n",
  ],
  [['help', 'inf'], "sshblock: unknown command 'inf' (Did you mean info?)\nTry 'sshblock --help'.\n"],
  [['--lnog'], "sshblock: unknown option '--lnog'\nTry 'sshblock --help'.\n"],
  [['ls', 'ssh://h:0/'], 'sshblock: port: expected a number from 1 to 65535, got "0"\n'],
  [
    ['ls', '--', '-oProxyCommand=x:y'],
    "sshblock: '-oProxyCommand=x:y': a host name must not begin with '-'\nTry 'sshblock ls --help'.\n",
  ],
]

test('what is called wrongly is refused with 2, and told what is wrong', async () => {
  const outcomes = await sshblockSeries(wrong.map(([args]) => args))
  expect(outcomes.map((outcome, i) => ({ args: wrong[i]?.[0], ...outcome }))).toEqual(
    wrong.map(([args, stderr]) => ({ args, code: 2, stdout: '', stderr })),
  )
})

test('as a program too', async () => {
  expect(await sshblock(['inf'])).toMatchObject({
    code: 2,
    stdout: '',
    stderr: wrong[1]?.[1],
  })
})

test('failures of the connection are one line and 255', async () => {
  const [refused, byOption] = await sshblockSeries([
    ['ls', '-F', 'none', 'ssh://127.0.0.1:1/'],
    ['ls', '-F', 'none', '-P', '1', '-o', 'Ciphers=+rot13', '127.0.0.1:'],
  ])
  expect(byOption?.stderr).toMatch("cannot connect to '127.0.0.1:': 127.0.0.1:1 refused the connection")
  expect(refused).toMatchObject({
    code: 255,
    stderr:
      "sshblock: cannot connect to 'ssh://127.0.0.1:1/': 127.0.0.1:1 refused the connection: nothing listens there\n",
  })
})

test('settings that cannot be used are one line and 255, as with ssh', async () => {
  const missing = join(tempDir(), 'config')
  const [port, file, cipher] = await sshblockSeries([
    ['ls', '-F', 'none', '-o', 'Port=x', 'h:'],
    ['ls', '-F', missing, 'h:'],
    ['ls', '-F', 'none', '-P', '1', '-o', 'Ciphers=rot13', '127.0.0.1:'],
  ])
  expect(port).toMatchObject({
    code: 255,
    stderr: 'sshblock: cannot connect to \'h:\': Port "x": expected a number from 1 to 65535\n',
  })
  expect(file).toMatchObject({
    code: 255,
    stderr: `sshblock: cannot connect to 'h:': cannot read "${missing}": there is no such file\n`,
  })
  expect(cipher).toMatchObject({
    code: 255,
    stderr: expect.stringMatching(/ciphers "rot13" leaves nothing of what there is: \S+, /),
  })
})

test('every command has help with examples of itself, on stdout', async () => {
  const names =
    'bench bridge cp create get info keyscan ls mkdir mv put read resize rm serve server write'.split(' ')
  const [help, ...each] = await sshblockSeries([['--help'], ...names.map((name) => ['help', name])])
  expect(help).toMatchObject({ code: 0, stderr: '' })
  const listed = [...(help?.stdout ?? '').matchAll(/^ {2}([a-z]+) {2,}/gm)].map((match) => match[1] ?? '')
  expect(listed.filter((name) => name !== 'help').sort()).toEqual(names)
  expect(help?.stdout).toContain('255 no connection')
  for (const [i, name] of names.entries()) {
    expect(each[i]).toMatchObject({ code: 0, stderr: '' })
    expect(each[i]?.stdout).toMatch(new RegExp(`Examples:\n(?: {2}.*\n)*  .*sshblock ${name} `))
  }
})

test('--version prints the version of the package', async () => {
  expect((await sshblock(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})
