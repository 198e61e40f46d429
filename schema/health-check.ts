import type { MigrationRequest } from '../src/domain/migration-request.ts'
import { builder } from './builder.ts'

type Check = MigrationRequest['healthCheck']
type HttpCheck = Extract<Check, { kind: 'HTTP' }>
type TcpCheck = Extract<Check, { kind: 'TCP' }>

export const HealthCheck = builder.interfaceRef<Check>('HealthCheck').implement({
  description: 'How the destination proves, while it is isolated, that it works.',
  resolveType: (check) => (check.kind === 'HTTP' ? 'HttpHealthCheck' : 'TcpHealthCheck'),
  fields: (t) => ({
    port: t.exposeInt('port', { description: 'TCP port of the guest.' }),
    timeoutMs: t.exposeInt('timeoutMs', { description: 'How long it may take from the boot until it passes, in milliseconds.' }),
  }),
})

builder.objectRef<HttpCheck>('HttpHealthCheck').implement({
  description: 'Passes when a GET answers with a status from 200 to 299.',
  interfaces: [HealthCheck],
  fields: (t) => ({ path: t.exposeString('path', { description: 'Path of the request, such as `/health`.' }) }),
})

builder.objectRef<TcpCheck>('TcpHealthCheck').implement({
  description: 'Passes when the guest accepts a connection.',
  interfaces: [HealthCheck],
})
