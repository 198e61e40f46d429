import type { ObjectRef } from '@pothos/core'
import { builder, type ResolvedTypes } from './builder.ts'

/** `<name>Connection` and `<name>Edge`, with `totalCount`, shared by all fields that give pages of this type. */
export function connectionType<Row>(name: string, plural: string, type: ObjectRef<ResolvedTypes, Row, unknown>) {
  return builder.connectionObject(
    {
      type: type as ObjectRef<ResolvedTypes, Row>,
      name: `${name}Connection`,
      description: `A page of ${plural}.`,
      fields: (t) => ({
        totalCount: t.int({
          description: `How many ${plural} match the filter, on all pages.`,
          resolve: (connection) => (connection as unknown as { totalCount: () => Promise<number> }).totalCount(),
        }),
      }),
    },
    { name: `${name}Edge`, description: `A ${plural.replace(/s$/, '')} at its place in a page.` },
  )
}
