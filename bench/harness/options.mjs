// The command line of `npm run bench`.

export const usage = `npm run bench -- [options]
  --only ROW[,ROW]  rows whose name begins so (see --list)
  --pairs N         rounds; in each every contestant runs once (default 5)
  --size BYTES      of the large transfers, with K, M or G (default 1G); distance rows take a quarter
  --quick           one small round of every row that is not marked slow: checks the harness, in under three minutes
  --list            names the rows
  --out DIR         where results go (default bench/results)`

/** @param {string} text */
export function parseBytes(text) {
  const match = /^(\d+)([KMG]?)$/i.exec(text)
  if (match === null) throw new Error(`a size is a number with K, M or G, not ${JSON.stringify(text)}`)
  return Number(match[1]) * 1024 ** ['', 'K', 'M', 'G'].indexOf((match[2] ?? '').toUpperCase())
}

/** @param {string[]} args */
export function parseOptions(args) {
  const options = {
    only: /** @type {string[]} */ ([]),
    pairs: 5,
    size: 1024 ** 3,
    quick: false,
    list: false,
    out: '',
  }
  const rest = [...args]
  const value = (/** @type {string} */ name) => {
    const given = rest.shift()
    if (given === undefined) throw new Error(`${name} needs a value\n${usage}`)
    return given
  }
  let sized = false
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    if (name === '--only') options.only = value(name).split(',')
    else if (name === '--pairs') options.pairs = Number(value(name))
    else if (name === '--size') {
      options.size = parseBytes(value(name))
      sized = true
    } else if (name === '--quick') options.quick = true
    else if (name === '--list') options.list = true
    else if (name === '--out') options.out = value(name)
    else throw new Error(`unknown option ${name}\n${usage}`)
  }
  if (!(options.pairs >= 1)) throw new Error('--pairs is at least 1')
  if (options.quick) {
    options.pairs = 1
    if (!sized) options.size = 64 * 1024 ** 2
  }
  return options
}
