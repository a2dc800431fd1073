#!/usr/bin/env node
// The command `sshblock`.

import { run } from './run.ts'

const status = await run(process.argv.slice(2))
// Not before what was written has left; and not later because somebody's stdin is still open.
process.stdout.write('', () => process.exit(status))
