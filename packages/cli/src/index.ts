/** The `sshblock` command for whoever wants to run it inside a process of their own. */
export { exitStatus } from './failure.ts'
export { run } from './run.ts'
