/**
 * `node --import` of this file runs the program as it was before phase list version 2: every import of its phase lists gets the older file beside this one. (A real older commit would
 * bring its own protocol with the agents, which is not released and changes freely; the phase lists are what this is about.)
 */
import { registerHooks } from 'node:module'

const older = new URL('phase-lists.ts', import.meta.url).href
const present = new URL('../../../src/workflows/phase-lists.ts', import.meta.url).href

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context)
    return found.url === present && context.parentURL !== older ? { ...found, url: older } : found
  },
})
