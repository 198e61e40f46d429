const maxDirectories = 100
const maxPathBytes = 4096

/** What is wrong with a list of directories of the guest that are not to be copied, as the end of a sentence; null when nothing is. */
export function faultInExcludedDirectories(directories: readonly string[]): string | null {
  if (directories.length > maxDirectories) return `names ${directories.length} directories, more than ${maxDirectories}`
  const seen = new Set<string>()
  for (const directory of directories) {
    const shown = JSON.stringify(directory.slice(0, 100))
    if (!directory.startsWith('/')) return `names ${shown}, which is not an absolute path`
    if (Buffer.byteLength(directory) > maxPathBytes) return `names ${shown}…, which is longer than ${maxPathBytes} bytes`
    // oxlint-disable-next-line no-control-regex -- control characters are what it refuses
    if (/[\x00-\x1f\x7f]/.test(directory)) return `names ${shown}, which holds control characters`
    const parts = directory.slice(1).split('/')
    if (directory === '/') return 'names the root directory; exclude what is in it by name'
    if (parts.some((part) => part === '' || part === '.' || part === '..'))
      return `names ${shown}; write it without "." and "..", doubled slashes, and a slash at its end`
    if (seen.has(directory)) return `names ${shown} twice`
    seen.add(directory)
  }
  return null
}
