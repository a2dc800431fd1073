export * from './boot-scenarios.ts'
export * from './device-scenarios.ts'
export * from './sftp-scenarios.ts'
export * from './trust-scenarios.ts'
