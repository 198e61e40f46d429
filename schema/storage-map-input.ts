import type { MigrationRequest } from '../src/domain/migration-request.ts'
import { builder } from './builder.ts'
import { invalidInput } from './invalid-input.ts'

export const StorageMappingInput = builder.inputType('StorageMappingInput', {
  description: "Where disks on one of the source's storages go.",
  fields: (t) => ({
    sourceStorageId: t.string({
      description: "The storage's id at its provider; left away: every disk whose storage has no entry of its own.",
    }),
    destinationStorageId: t.string({ required: true, description: "The id of one of the destination's storages at its provider." }),
  }),
})

/** @throws PortolanError INVALID_INPUT for two entries of one storage, and for an id that is empty or overlong. */
export function toStorageMap(inputs: (typeof StorageMappingInput.$inferInput)[]): NonNullable<MigrationRequest['storageMap']> {
  if (inputs.length > 64) throw invalidInput(`must have at most 64 entries, and has ${inputs.length}`, ['input', 'storageMap'])
  const seen = new Set<string | null>()
  return inputs.map(({ sourceStorageId = null, destinationStorageId }, index) => {
    const path = ['input', 'storageMap', `${index}`]
    if (seen.has(sourceStorageId)) throw invalidInput('names a storage a second time', [...path, 'sourceStorageId'])
    seen.add(sourceStorageId)
    for (const [field, id] of Object.entries({ sourceStorageId, destinationStorageId }))
      if (id !== null && (id.length < 1 || id.length > 1_000)) throw invalidInput('must have 1 to 1,000 characters', [...path, field])
    return { sourceStorageId, destinationStorageId }
  })
}
