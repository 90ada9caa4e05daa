/** Numbers, sizes and times as texts in the reader's language. */

import { words } from '../words/words.js';

const KIB = 1024;

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (bytes < KIB) return `${bytes} B`;
  if (bytes < KIB * KIB) return `${round(bytes / KIB)} KiB`;
  return `${round(bytes / KIB / KIB)} MiB`;
}

/** Returns a number with a few digits: 0.4, 12, 3.4k. @param {number} value */
export function formatNumber(value) {
  if (value >= 1e6) return `${round(value / 1e6)}M`;
  if (value >= 1e4) return `${round(value / 1e3)}k`;
  return value >= 1000 ? String(Math.round(value)) : round(value);
}

/** @param {number} value */
function round(value) {
  return String(value >= 10 ? Math.round(value) : Math.round(value * 10) / 10);
}

/** @param {number} ms */
export function formatMs(ms) {
  return ms < 1000 ? `${ms < 10 ? round(ms) : Math.round(ms)} ms` : `${round(ms / 1000)} s`;
}

/** Returns a duration with its two largest units: 1 h 5 min. @param {number} seconds */
export function formatDuration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86_400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']].map(([unit, name]) => {
    const count = Math.floor(whole / Number(unit));
    return { name: String(name), count: unit === 86_400 ? count : count % (Number(unit) * (unit === 3600 ? 24 : 60) / Number(unit)) };
  });
  const first = parts.findIndex(({ count }) => count > 0);
  if (first < 0) return words.durations.second(0);
  return parts.slice(first, first + 2).filter(({ count }) => count > 0).map(({ name, count }) => words.durations[name](count)).join(' ');
}

/** Formatters are expensive to make, so each language has one of each. @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/** @type {(kind: string, options: Intl.DateTimeFormatOptions) => Intl.DateTimeFormat} */
function dateFormat(kind, options) {
  const key = `${words.lang} ${kind}`;
  const format = formats.get(key) ?? new Intl.DateTimeFormat(words.lang, options);
  formats.set(key, format);
  return format;
}

/** @param {number} ts */
export function formatClock(ts) {
  return dateFormat('clock', { timeStyle: 'medium', hourCycle: 'h23' }).format(ts);
}

/** @param {number} ts */
export function formatDay(ts) {
  return dateFormat('day', { dateStyle: 'full' }).format(ts);
}

/** @param {number} ts */
export function formatDateTime(ts) {
  return dateFormat('both', { dateStyle: 'full', timeStyle: 'medium', hourCycle: 'h23' }).format(ts);
}

/** Returns a number for the local day of a time. @param {number} ts */
export function dayOf(ts) {
  return Math.floor((ts - new Date(ts).getTimezoneOffset() * 60_000) / 86_400_000);
}
