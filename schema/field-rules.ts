/**
 * A Pothos plugin for what holds for every field of Query, Mutation and Subscription: each declares the role that may use it, in its own `authScopes`, or the schema does not build;
 * and each mutation that is sent, allowed or not, is in the audit trail before it is answered. Fields of other types may declare one too; which texts need none is listed in test/schema/viewer-texts.test.ts.
 */
import SchemaBuilder, { BasePlugin, type PothosOutputFieldConfig, type SchemaTypes } from '@pothos/core'
import type { GraphQLFieldResolver } from 'graphql'
import type { Context } from './context.ts'
import { subjectIn } from './subject-in.ts'

const roles = { viewer: 'VIEWER', operator: 'OPERATOR', admin: 'ADMIN' } as const

class FieldRules<Types extends SchemaTypes> extends BasePlugin<Types> {
  override onOutputFieldConfig(field: PothosOutputFieldConfig<Types>): PothosOutputFieldConfig<Types> {
    const isRoot = field.kind === 'Query' || field.kind === 'Mutation' || field.kind === 'Subscription'
    if (!isRoot && !('authScopes' in field.pothosOptions)) return field
    return { ...field, extensions: { ...field.extensions, role: declaredRole(field) } }
  }

  /** Inside the errors plugin and outside the check of roles, so that both kinds of refusal are seen as what was thrown. */
  override wrapResolve(
    resolve: GraphQLFieldResolver<unknown, Types['Context'], object>,
    field: PothosOutputFieldConfig<Types>,
  ): GraphQLFieldResolver<unknown, Types['Context'], object> {
    if (field.kind !== 'Mutation') return resolve
    return (parent, args, context, info) => {
      const { audit, actor, begun } = context as unknown as Context
      begun.add(info.path.key)
      const { input } = args as { input: Record<string, unknown> }
      return audit.attempt({ actor, mutation: field.name, input, subject: subjectIn(input) }, async () =>
        resolve(parent, args, context, info),
      )
    }
  }
}

function declaredRole(field: { parentType: string; name: string; pothosOptions: object }): string {
  const { authScopes } = field.pothosOptions as { authScopes?: unknown }
  const [scope, ...others] = typeof authScopes === 'object' && authScopes !== null ? Object.entries(authScopes) : []
  const role = scope?.[1] === true ? roles[scope[0] as keyof typeof roles] : undefined
  if (role && others.length === 0) return role
  throw new Error(
    `${field.parentType}.${field.name} does not say who may use it: give it authScopes: { viewer: true }, or operator or admin.`,
  )
}

declare global {
  export namespace PothosSchemaTypes {
    export interface Plugins<Types extends SchemaTypes> {
      fieldRules: FieldRules<Types>
    }
  }
}

export const fieldRules = 'fieldRules' as const
SchemaBuilder.registerPlugin(fieldRules, FieldRules)
