import { defineConfig } from 'drizzle-kit'

/** `npm run upgrade` writes the next folder of src/database/upgrades from what changed in the tables. */
export default defineConfig({ dialect: 'sqlite', schema: './src/database/tables/*.ts', out: './src/database/upgrades' })
