import { bottleneckRemedies, type BottleneckName } from '../src/domain/bottleneck.ts'
import { builder } from './builder.ts'
import { Migration } from './migration.ts'

builder.objectFields(Migration, (t) => ({
  bottleneckRemedy: t.string({
    nullable: true,
    description: 'What can be done about the `bottleneck`: one sentence; null where there is none.',
    resolve: ({ bottleneck }) => (bottleneck === null ? null : (bottleneckRemedies[bottleneck as BottleneckName] ?? null)),
  }),
  changeRateBytesPerSecond: t.exposeFloat('changeRateBytesPerSecond', {
    nullable: true,
    description:
      'How fast the guest changes its disks, in bytes a second at a grain of 64 KiB. The copy converges while it is below `rateBytesPerSecond`. Null where changes are not tracked, or nothing was measured yet.',
  }),
  excludedDirectories: t.field({
    type: ['String'],
    description: "Directories of the guest whose files' data is not copied.",
    resolve: ({ request }) => request.excludedDirectories ?? [],
  }),
}))
