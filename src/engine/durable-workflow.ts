/** What a workflow sees of the engine: few enough words that tests can stand in for it. */
export interface DurableSteps {
  /**
   * Runs the action and remembers its answer: after a crash the answer is given again without running it, unless the crash came first; then it
   * runs again. It must end within minutes: longer work answers "not yet" and is asked again in a further step.
   */
  run<Answer>(name: string, action: () => Promise<Answer>): Promise<Answer>
  sleep(durationMs: number): Promise<void>
}

export interface DurableWorkflow {
  /** Under this name the engine keeps its journals: never change it. */
  name: string
  /** Started once for an id, and again after each crash until it returns. An error that it throws is retried for ever. */
  run(id: string, steps: DurableSteps): Promise<void>
}
