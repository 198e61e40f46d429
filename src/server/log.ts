/** What the server needs of a log; pino fits. Neither variables nor tokens are ever handed to it. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
