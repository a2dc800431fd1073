#!/usr/bin/env node
import { main } from './node-stdio-server.ts'

await main()
