import { eq } from 'drizzle-orm'
import { clouds } from '../src/database/tables/cloud.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { rowIdOf } from './global-id.ts'
import { watch } from './watch.ts'

interface Topology {
  readAt: Date
  clouds: (typeof clouds.$inferSelect)[]
}

const TopologyType = builder.objectRef<Topology>('Topology').implement({
  description: 'The clouds and, through them, what they have.',
  fields: (t) => ({
    readAt: t.expose('readAt', { type: 'DateTime', description: 'When the database was read for this.' }),
    clouds: t.expose('clouds', { type: [Cloud], description: 'The clouds asked for, by name.' }),
  }),
})

builder.subscriptionField('topologyChanges', (t) =>
  t.field({
    type: TopologyType,
    authScopes: { viewer: true },
    description: 'What the clouds have as it is known now, and again whenever a cloud is connected, disconnected, lost or read anew.',
    args: { cloudId: t.arg.id({ description: 'Only this cloud; leave away for all.' }) },
    subscribe: (_, args, { db, changes }) => {
      const cloudId = args.cloudId ? rowIdOf('Cloud', args.cloudId, ['cloudId']) : undefined
      const which = cloudId ? eq(clouds.id, cloudId) : undefined
      return watch(changes, { topics: ['CLOUD'], ...(cloudId && { subject: cloudId }) }, async () => {
        const topology: Topology = { readAt: new Date(), clouds: await db.select().from(clouds).where(which).orderBy(clouds.name) }
        return { events: [topology], last: false }
      })
    },
    resolve: (topology) => topology,
  }),
)
