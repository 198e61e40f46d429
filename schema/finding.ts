import type { Finding, FindingSeverity } from '../src/domain/finding.ts'
import { builder } from './builder.ts'
import { describedEnum } from './described-enum.ts'

const Severity = describedEnum<FindingSeverity>('FindingSeverity', 'How much a finding matters.', {
  BLOCKER: 'The migration is refused before anything changed.',
  WARNING: 'The migration goes on; read the remedy first.',
  INFORMATION: 'Good to know.',
})

export const FindingType = builder.objectRef<Finding>('Finding').implement({
  description: 'One result of pre-flight.',
  fields: (t) => ({
    code: t.exposeString('code', { description: 'For programs; stable, such as `DESTINATION_TOO_SMALL`.' }),
    severity: t.expose('severity', { type: Severity, description: 'How much it matters.' }),
    message: t.exposeString('message', { description: 'What was found, and where: one sentence.' }),
    remedy: t.exposeString('remedy', { description: 'What to do about it: one sentence.' }),
  }),
})
