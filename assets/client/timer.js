/** Timers for any length of time. */

/** A longer delay overflows the timers of every engine, and an overflowed timer fires at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * Starts a timer. `Infinity` is allowed.
 * @param {() => void} act
 * @param {number} ms
 */
export function startTimer(act, ms) {
  return setTimeout(act, Math.min(ms, TIMER_MS_MAX));
}
