export interface Demo {
  /** Undone in reverse, whether the demo ends, fails or is interrupted. */
  undo: (() => Promise<unknown>)[]
  /** What `--json` shows as the last line, with how long this process has lived, clean-up included, as `elapsedMs`. */
  result: object | null
}

/** Ends the process: with 0 only where the story was told to its end and all was cleaned up. */
export async function runDemo(story: (demo: Demo) => Promise<void>, { json }: { json: boolean }): Promise<never> {
  const demo: Demo = { undo: [], result: null }
  const interrupted = Promise.withResolvers<never>()
  interrupted.promise.catch(() => {})
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.reject(new Error(`Stopped by ${signal}.`)))
  try {
    await Promise.race([story(demo), interrupted.promise])
  } catch (error) {
    process.exitCode = 1
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`)
  } finally {
    process.stdout.write('cleaning up\n')
    for (const step of demo.undo.toReversed())
      await step().catch((error: unknown) => {
        process.exitCode = 1
        process.stderr.write(`demo: clean-up: ${String(error)}\n`)
      })
  }
  const elapsedMs = Math.round(performance.now())
  if (demo.result !== null && json) process.stdout.write(`${JSON.stringify({ ...demo.result, elapsedMs })}\n`)
  process.exit()
}
