/** Never gets a token, a key or a line that an agent sent. */
export type GatewayLog = (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>) => void
