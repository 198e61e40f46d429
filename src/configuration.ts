import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'

const listenAddress = z.strictObject({ host: z.string().min(1), port: z.number().int().min(0).max(65_535) })

/** What portolan.config.ts (or a .json of the same shape) may say. Unknown keys are refused, so that a typing error is not a silent default. */
const configurationSchema = z.strictObject({
  /** Where the embedded database, the engine's journal and keys live. */
  dataDirectory: z.string().default('data'),
  /** Where the API listens. Port 0 takes a free one. Off loopback only when told so here. */
  api: z.strictObject({ host: z.string().default('127.0.0.1'), port: z.number().int().min(0).max(65_535).default(4000) }).prefault({}),
  agents: z
    .strictObject({
      /** Where migration agents dial in. A guest must reach one of these: add the address that your guests' networks know this machine by. */
      listen: z
        .array(listenAddress)
        .min(1)
        .default([{ host: '127.0.0.1', port: 0 }]),
      /** Addresses told to agents before those that the providers suggest, such as this machine's public name. */
      advertise: z.array(z.string()).default([]),
      /** A migration whose agents are away, or whose rounds fail, for so many milliseconds on end fails, and is undone. A round without progress is given up after so long too, but no earlier than 20 s and no later than 90 s. */
      lostAfterMs: z.number().int().min(1_000).max(86_400_000).default(900_000),
    })
    .prefault({}),
  /** Address ranges (CIDR) that webhooks may reach though they are refused by default: this machine itself, and link-local and other addresses where clouds answer about a machine. */
  webhooks: z.strictObject({ allow: z.array(z.string()).default([]) }).prefault({}),
  /** `embedded` runs Restate's server as a child; a URL uses a server or cluster of yours. */
  engine: z
    .union([
      z.literal('embedded'),
      z.strictObject({
        ingressUrl: z.url(),
        adminUrl: z.url(),
        serviceHost: z.string(),
        servicePort: z.number().int(),
        identityKeys: z.array(z.string()).min(1),
      }),
    ])
    .default('embedded'),
  /** Package names, or paths from the configuration's directory. */
  plugins: z.array(z.string()).default([]),
})

export type Configuration = z.output<typeof configurationSchema> & { directory: string }
export type ConfigurationInput = z.input<typeof configurationSchema>

/** For portolan.config.ts: gives its argument its type. */
export function defineConfiguration(input: ConfigurationInput): ConfigurationInput {
  return input
}

/** @throws Error with one sentence that names the file and the entry at fault. */
export async function loadConfiguration(path: string): Promise<Configuration> {
  const file = resolve(path)
  const loaded = (await import(pathToFileURL(file).href, file.endsWith('.json') ? { with: { type: 'json' } } : undefined)) as {
    default?: unknown
  }
  const parsed = configurationSchema.safeParse(loaded.default)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new Error(
      `${file}: ${issue?.path.join('.') || 'the default export'}: ${issue?.message}. Nothing was started; correct the file and start again.`,
    )
  }
  const directory = resolve(file, '..')
  return { ...parsed.data, dataDirectory: resolve(directory, parsed.data.dataDirectory), directory }
}
