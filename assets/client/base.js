/** What the other parts of the client share: its errors, its timers, texts. */

/**
 * A failure a program can act on.
 *
 * `code` is one of the server's error codes (README, "Error codes") or one of the client's own:
 *
 * - `unknown_outcome`: a publish that may have been published and may not. Every other code on a publish
 *   means that it was not.
 * - `queue_full`: as many publishes or requests wait as may wait.
 * - `timeout`: no answer in time.
 * - `closed`: the client was closed, or the server told it to stay away.
 * - `left`: the room was left meanwhile.
 * - `disconnected`: the connection ended before the answer.
 * - `no_token`: the token function failed.
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
    /** When it is worth trying again, where the server said so. */
    this.retryAfterMs = retryAfterMs;
    /** Which room it is about, where it is about one. */
    this.room = room;
  }

  /**
   * The payload of an `error` frame.
   * @param {any} payload
   * @param {string} [room]
   */
  static refused(payload, room) {
    const { code = 'error', message = '', retry_after_ms: retryAfterMs } = payload ?? {};
    return new WscastError(String(code), String(message), { retryAfterMs, room });
  }
}

/** Longer waits overflow the timers of every engine, which then fire at once. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * A timer that takes any time, `Infinity` too.
 * @param {() => void} act
 * @param {number} ms
 */
export function later(act, ms) {
  return setTimeout(act, Math.min(ms, TIMER_MS_MAX));
}

/** @param {string} text */
export function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/**
 * Random bytes as hexadecimal digits.
 * @param {number} bytes
 */
export function randomText(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * @param {string} code
 * @param {string} message
 * @param {{ room?: string, cause?: unknown }} [details]
 * @returns {Promise<never>}
 */
export function refuse(code, message, details) {
  return Promise.reject(new WscastError(code, message, details));
}
