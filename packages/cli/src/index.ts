/** The `sshblock` command for whoever wants to run it inside a process of their own. */
export { run } from './run.ts'
export { exitStatus } from './usage-problem.ts'
