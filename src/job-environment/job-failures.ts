/** Why a job ends before its tasks have, in the words of whoever submitted it. */
import { PortolanError } from '../domain/errors.ts'

export function taskFailed(index: number, why: string): PortolanError {
  return new PortolanError('TASK_FAILED', why, {
    retryable: false,
    remedy: `See the log of task ${index}; correct the program or its input, or submit the job with the policy SKIP. Results of the other tasks are kept.`,
  })
}

export function programRefused(message: string): PortolanError {
  return new PortolanError('PROGRAM_FAILED', `The program could not be loaded in a child: ${message}`, {
    retryable: false,
    remedy: 'Correct the program and submit the job again. No task was run.',
  })
}

export function stuck(message: string): PortolanError {
  return new PortolanError('BARRIERS_STUCK', message, {
    retryable: false,
    remedy:
      'Let tasks that wait for each other interact, so that they run at one time, and give each barrier the number of those that come to it.',
  })
}

export function barrierMisused(problem: string): PortolanError {
  return new PortolanError('PROGRAM_FAILED', problem, { retryable: false, remedy: 'Correct the program and submit the job again.' })
}

export function mayNotTalk(from: number, to: number): PortolanError {
  return new PortolanError('PROGRAM_FAILED', `Task ${from} sent a message to task ${to}, with which it may not talk.`, {
    retryable: false,
    remedy: 'Name the tasks that talk with each other in `interactsWith`, or give the job the privilege to let all talk with all.',
  })
}

export function tooManyMessages(error: unknown): PortolanError {
  return new PortolanError('PROGRAM_FAILED', error instanceof Error ? error.message : String(error), {
    retryable: false,
    remedy: 'Send less between tasks: pass large data as shared inputs, or as outputs.',
  })
}
