/** What the job's demo promises. */
interface JobOutcome {
  tasks: number
  tasksDone: number
  /** Outputs of tasks that had one already. */
  duplicates: number
  parentUnchanged: boolean
}

/** @throws Error where a promise was broken, though the job has succeeded. */
export function requireSound({ tasks, tasksDone, duplicates, parentUnchanged }: JobOutcome): void {
  const broken = [
    ...(tasksDone === tasks ? [] : [`${tasksDone} of ${tasks} tasks are done`]),
    ...(duplicates === 0 ? [] : [`${duplicates} outputs came twice`]),
    ...(parentUnchanged ? [] : ["the parent VM's memory or disk has changed"]),
  ]
  if (broken.length > 0) throw new Error(`The job has succeeded, but ${broken.join(', and ')}.`)
}
