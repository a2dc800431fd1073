/** Runs in every test file's process, before its tests: ends at the end of the file what its tests left running. */
import { afterAll } from 'vitest'
import { runCleanups } from './cleanup.ts'

afterAll(runCleanups)
