import { hookLimits, hookRefusal, type Hook, type HookMoment, type HookPolicy } from '../src/domain/hook.ts'
import { builder } from './builder.ts'
import { describedEnum } from './described-enum.ts'
import { invalidInput, within } from './invalid-input.ts'
import { MigrationPhaseEnum } from './migration-enums.ts'

const HookMomentEnum = describedEnum<HookMoment>('HookMoment', 'On which side of its phase a hook runs.', {
  BEFORE: 'Before the phase begins; it waits for the hook.',
  AFTER: 'Once the phase is done; the next one waits for the hook.',
})

const HookPolicyEnum = describedEnum<HookPolicy>('HookPolicy', 'What happens when a hook has failed, and has no retries left.', {
  FAIL: 'The migration fails, and what was done is undone. Before the commit only.',
  IGNORE: 'The migration goes on; an event says what happened.',
})

const WebhookInput = builder.inputType('WebhookInput', {
  description:
    'An HTTP POST with a JSON body that names migration, attempt, phase and moment. The header `Portolan-Signature: t=<seconds>,v1=<hex>` holds the HMAC-SHA-256 of `<seconds>.<body>`; `Portolan-Delivery` is the same for every repetition. Any status but 200 to 299 is a failure, a redirect too.',
  fields: (t) => ({
    url: t.string({
      required: true,
      description:
        'An http or https address of at most 2,048 characters, without user name and password. Visible to every viewer. The machine of the control plane itself and link-local addresses are refused unless its configuration allows them.',
    }),
    secretName: t.string({ required: true, description: 'The secret that it is signed with: see `setWebhookSecret`.' }),
  }),
})

export const HookInput = builder.inputType('HookInput', {
  description:
    'Something of yours to run around a phase. Give exactly one of `command` and `webhook`. None can be where the source is frozen under a lease: AFTER FREEZE, SEND_REMAINDER, COMPARE_ROOTS, BEFORE SUSPEND_SOURCE. It runs at least once: a phase that is repeated sends it again under the same id.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Yours, unique within the migration: 1 to 63 lower-case letters, digits and hyphens.' }),
    phase: t.field({ type: MigrationPhaseEnum, required: true, description: 'Around which phase.' }),
    when: t.field({ type: HookMomentEnum, required: true, description: 'On which side of it.' }),
    timeoutMs: t.int({ defaultValue: 30_000, required: true, description: 'How long one try may take, in milliseconds, 1 to 600,000.' }),
    retries: t.int({ defaultValue: 0, required: true, description: 'How often it is tried again after a failure, 0 to 10.' }),
    onFailure: t.field({ type: HookPolicyEnum, defaultValue: 'FAIL', required: true, description: 'What its failure means.' }),
    command: t.stringList({
      description:
        'A program and its arguments, run as root in the source guest by the migration agent, without a shell: from AFTER CONNECT_AGENTS to BEFORE FREEZE. The end of its output is kept as an event.',
    }),
    webhook: t.field({ type: WebhookInput, description: 'A request to a server of yours.' }),
  }),
})

/**
 * @param of where the input stands that has them
 * @throws PortolanError INVALID_INPUT with the path of the first part that breaks a rule
 */
export function toHooks(inputs: (typeof HookInput.$inferInput)[], of: readonly string[] = ['input']): Hook[] {
  if (inputs.length > hookLimits.hooks) throw invalidInput(`must have at most ${hookLimits.hooks} entries`, [...of, 'hooks'])
  const names = new Set<string>()
  return inputs.map((input, index) => {
    const path = [...of, 'hooks', `${index}`]
    const { name, phase, when, onFailure } = input
    if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name))
      throw invalidInput('must have 1 to 63 lower-case letters, digits and hyphens', [...path, 'name'])
    if (names.has(name)) throw invalidInput(`names ${name} a second time`, [...path, 'name'])
    names.add(name)
    const hook: Hook = {
      name,
      phase,
      when,
      onFailure,
      timeoutMs: within(input.timeoutMs, 1, hookLimits.timeoutMs, [...path, 'timeoutMs']),
      retries: within(input.retries, 0, hookLimits.retries, [...path, 'retries']),
      action: toAction(input, path),
    }
    const refusal = hookRefusal(hook)
    if (refusal) throw invalidInput(refusal, path)
    return hook
  })
}

function toAction({ command, webhook }: typeof HookInput.$inferInput, path: string[]): Hook['action'] {
  if (Boolean(command) === Boolean(webhook)) throw invalidInput('must have exactly one of `command` and `webhook`', path)
  if (command) {
    const bytes = command.reduce((sum, argument) => sum + Buffer.byteLength(argument), 0)
    if (command.length < 1 || command.length > hookLimits.arguments || command[0] === '' || bytes > hookLimits.commandBytes)
      throw invalidInput('must be a program and its arguments, at most 64 of 16 KiB in all', [...path, 'command'])
    if (command.some((argument) => argument.includes('\0'))) throw invalidInput('must not hold a NUL', [...path, 'command'])
    return { kind: 'COMMAND', command }
  }
  const { url, secretName } = webhook!
  const parsed = url.length <= hookLimits.urlBytes && URL.canParse(url) ? new URL(url) : null
  if (!parsed || !/^https?:$/.test(parsed.protocol))
    throw invalidInput('must be an http or https URL of at most 2,048 characters', [...path, 'webhook', 'url'])
  if (parsed.username !== '' || parsed.password !== '')
    throw invalidInput('must not hold a user name or password, which every viewer could read', [...path, 'webhook', 'url'])
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(secretName))
    throw invalidInput('must be the name of a webhook secret', [...path, 'webhook', 'secretName'])
  return { kind: 'WEBHOOK', url: parsed.href, secretName }
}
