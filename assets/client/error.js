/** The errors of the client. */

/**
 * An error that a program can act on.
 *
 * `code` is one of the server's error codes (see the protocol's documentation) or one of the client's own:
 *
 * - `unknown_outcome`: the publish may or may not have been published. Every other code on a publish means
 *   that it was not published.
 * - `queue_full`: too many publishes or requests are pending.
 * - `timeout`: no reply in time.
 * - `closed`: the client was closed, or the server closed the connection for good.
 * - `left`: the room was left in the meantime.
 * - `disconnected`: the connection ended before the reply.
 * - `no_token`: the token function failed, or there is no token to send.
 */
export class WscastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ retryAfterMs?: number, room?: string, cause?: unknown }} [details]
   */
  constructor(code, message, { retryAfterMs, room, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'WscastError';
    this.code = code;
    /** The wait after which the server suggests a retry, if it suggests one. */
    this.retryAfterMs = retryAfterMs;
    /** The room that the error concerns, if it concerns one. */
    this.room = room;
  }

  /**
   * Reads the payload of an `error` frame.
   * @param {any} payload
   * @param {string} [room]
   */
  static fromPayload(payload, room) {
    const { code = 'error', message = '', retry_after_ms: retryAfterMs } = payload ?? {};
    return new WscastError(String(code), String(message), { retryAfterMs, room });
  }
}

/**
 * Returns a promise that is rejected with a `WscastError`.
 * @param {string} code
 * @param {string} message
 * @param {{ room?: string, cause?: unknown }} [details]
 * @returns {Promise<never>}
 */
export function rejected(code, message, details) {
  return Promise.reject(new WscastError(code, message, details));
}
