import { ProviderError } from '../../../src/plugin-sdk/index.ts'

export function notThere(parentId: string): ProviderError {
  return new ProviderError('NOT_FOUND', `There is no parent with the id ${parentId} at this cloud.`, {
    retryable: false,
    remedy: 'Boot it first.',
    path: ['parentId'],
  })
}

export function endedUnsaved(parentId: string): ProviderError {
  return new ProviderError('CONFLICT', `The parent ${parentId} ended before it was saved: its guest powered off, or its hour was over.`, {
    retryable: false,
    remedy: 'Boot it again, and warm it up.',
    path: ['parentId'],
  })
}

export function alreadySaved(parentId: string): ProviderError {
  return new ProviderError('CONFLICT', `The parent ${parentId} was saved already, and doesn't boot again. It is as it was.`, {
    retryable: false,
    remedy: 'Fork from it, or delete it first.',
    path: ['parentId'],
  })
}

export function hasChildren(parentId: string, count: number): ProviderError {
  return new ProviderError('CONFLICT', `The parent ${parentId} has ${count} ${count === 1 ? 'child' : 'children'}, so it stays.`, {
    retryable: false,
    remedy: 'Delete its children first.',
    path: ['parentId'],
  })
}
