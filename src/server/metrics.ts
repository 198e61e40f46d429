import { getOperationAST, type ExecutionArgs } from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { isAsyncIterable } from 'graphql-yoga'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

const mostOperationNames = 200

export interface Metrics {
  plugin: Plugin
  /** Counts an HTTP answer by its status. */
  countResponse(status: number): void
  text(): Promise<string>
  contentType: string
}

/** Figures for Prometheus, labelled by the operation's name. Clients choose the names, so those after the first 200 share the label `other`. */
export function createMetrics(): Metrics {
  const registers = [new Registry()]
  const [registry] = registers as [Registry]
  collectDefaultMetrics({ register: registry })
  const durations = new Histogram({
    name: 'portolan_graphql_operation_seconds',
    help: 'Time to execute a query or mutation, by operation name.',
    labelNames: ['operation', 'type', 'outcome'],
    buckets: [0.005, 0.025, 0.1, 0.5, 2, 10, 60],
    registers,
  })
  const subscriptions = new Gauge({
    name: 'portolan_graphql_subscriptions',
    help: 'Subscriptions that are open.',
    labelNames: ['operation'],
    registers,
  })
  const responses = new Counter({
    name: 'portolan_http_responses_total',
    help: 'HTTP answers by status.',
    labelNames: ['status'],
    registers,
  })

  const names = new Set<string>()
  const labels = ({ document, operationName }: ExecutionArgs) => {
    const operation = getOperationAST(document, operationName)
    const name = operation?.name?.value ?? 'anonymous'
    if (names.size < mostOperationNames) names.add(name)
    return { operation: names.has(name) ? name : 'other', type: operation?.operation ?? 'query' }
  }

  return {
    plugin: {
      onExecute({ args }) {
        const done = durations.startTimer(labels(args))
        return {
          onExecuteDone: ({ result }) => {
            done({ outcome: !isAsyncIterable(result) && result.errors?.length ? 'error' : 'ok' })
          },
        }
      },
      onSubscribe({ args }) {
        const { operation } = labels(args)
        return {
          onSubscribeResult: ({ result }) => {
            if (!isAsyncIterable(result)) return
            subscriptions.inc({ operation })
            return { onEnd: () => subscriptions.dec({ operation }) }
          },
        }
      },
    },
    countResponse: (status) => responses.inc({ status }),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
