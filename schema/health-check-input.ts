import type { MigrationRequest } from '../src/domain/migration-request.ts'
import { builder } from './builder.ts'
import { invalidInput, within } from './invalid-input.ts'

const longestTimeoutMs = 3_600_000
const defaultTimeoutMs = 120_000

const HttpHealthCheckInput = builder.inputType('HttpHealthCheckInput', {
  description: 'Passes when a GET answers with a status from 200 to 299.',
  fields: (t) => ({
    port: t.int({ required: true, description: 'TCP port of the guest, 1 to 65535.' }),
    path: t.string({ defaultValue: '/', required: true, description: 'Path of the request, beginning with a slash.' }),
    timeoutMs: t.int({
      defaultValue: defaultTimeoutMs,
      required: true,
      description: 'How long it may take from the boot until it passes, in milliseconds, 1 to 3,600,000.',
    }),
  }),
})

const TcpHealthCheckInput = builder.inputType('TcpHealthCheckInput', {
  description: 'Passes when the guest accepts a connection.',
  fields: (t) => ({
    port: t.int({ required: true, description: 'TCP port of the guest, 1 to 65535.' }),
    timeoutMs: t.int({
      defaultValue: defaultTimeoutMs,
      required: true,
      description: 'How long it may take from the boot until it passes, in milliseconds, 1 to 3,600,000.',
    }),
  }),
})

export const HealthCheckInput = builder.inputType('HealthCheckInput', {
  description: 'How the destination proves, while it is isolated, that it works. Give exactly one.',
  isOneOf: true,
  fields: (t) => ({
    http: t.field({ type: HttpHealthCheckInput, description: 'By an HTTP request.' }),
    tcp: t.field({ type: TcpHealthCheckInput, description: 'By a connection.' }),
  }),
})

/**
 * @param of where the input stands that has it
 * @throws PortolanError INVALID_INPUT with the path of the first part that breaks a rule
 */
export function toHealthCheck(
  input: typeof HealthCheckInput.$inferInput,
  of: readonly string[] = ['input'],
): MigrationRequest['healthCheck'] {
  const kind = input.http ? 'http' : 'tcp'
  const check = input.http ?? input.tcp
  const path = [...of, 'healthCheck', kind]
  const port = within(check.port, 1, 65_535, [...path, 'port'])
  const timeoutMs = within(check.timeoutMs, 1, longestTimeoutMs, [...path, 'timeoutMs'])
  if (!input.http) return { kind: 'TCP', port, timeoutMs }
  if (!/^\/[\x21-\x7e]{0,1000}$/.test(input.http.path))
    throw invalidInput('must begin with a slash and be at most 1,001 visible ASCII characters', [...path, 'path'])
  return { kind: 'HTTP', port, path: input.http.path, timeoutMs }
}
