/** What a plugin's process sends, checked before anything acts on it: the plugin may be anybody's, and shares the channel with us. */
import { z } from 'zod'
import { providerErrorCodes } from '../errors.ts'
import type { ErrorRecord, FromPlugin } from './plugin-protocol.ts'

const errorRecord = z.object({
  code: z.enum(providerErrorCodes),
  message: z.string(),
  retryable: z.boolean(),
  remedy: z.string(),
  path: z.array(z.string()),
  vmOwner: z.enum(['source', 'destination', 'unknown']).or(z.undefined()),
  stack: z.string().or(z.undefined()),
}) satisfies z.ZodType<ErrorRecord>

const fromPlugin = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('pong') }),
  z.object({ kind: z.literal('settled'), id: z.int(), value: z.unknown() }),
  z.object({ kind: z.literal('failed'), id: z.int(), error: errorRecord }),
  z.object({
    // A careless log line is no reason to end a process.
    kind: z.literal('log'),
    level: z.enum(['debug', 'info', 'warn', 'error']).catch('info'),
    message: z.string().catch('(a message that is no text)'),
    fields: z.record(z.string(), z.unknown()).catch({}),
  }),
])

/** Null for what is no message of this protocol. */
export function parseFromPlugin(message: unknown): FromPlugin | null {
  const parsed = fromPlugin.safeParse(message)
  return parsed.success ? parsed.data : null
}
