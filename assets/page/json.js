/**
 * JSON as people write it and as it is shown to them: where a text stops being JSON, in the page's
 * language, which browsers word differently, some without a place; and numbers with all their digits.
 */

import { words } from './words.js';

/** JSON up to this length stays on one line. */
const JSON_LINE_CHARS_MAX = 60;

/**
 * Reads a frame. Payloads are relayed digit for digit: shows 12345678901234567890 as that, where the
 * browser can.
 * @param {string} text
 */
export function parseFrame(text) {
  return JSON.parse(text, keepDigits);
}

/** @type {(key: string, value: unknown, context?: { source?: string }) => unknown} */
function keepDigits(_key, value, context) {
  const rounded = typeof value === 'number' && context?.source !== String(value);
  const { rawJSON } = /** @type {any} */ (JSON);
  return rounded && context?.source && rawJSON ? rawJSON(context.source) : value;
}

/** @param {unknown} value */
export function formatJson(value) {
  const line = JSON.stringify(value) ?? '';
  return line.length <= JSON_LINE_CHARS_MAX ? line : JSON.stringify(value, null, 2);
}

/**
 * What is wrong with a text as JSON, and where; null if nothing is.
 * @type {(text: string) => { text: string, at?: number } | null}
 */
export function checkJson(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    const fault = findJsonFault(text);
    return fault ? { text: describeFault(text, fault), at: fault.at } : { text: String(error) };
  }
}

/** @typedef {{ what: string, at: number }} JsonFault `what` is a key of the words */

/**
 * Where `text` stops being JSON (RFC 8259).
 * @param {string} text
 * @returns {JsonFault | null}
 */
function findJsonFault(text) {
  let at = 0;

  const fail = (what, where = at) => {
    throw { what, at: where };
  };
  /** Moves past `pattern`, a sticky one, if it stands here. */
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    at += found?.[0].length ?? 0;
    return found !== null;
  };
  /** The next character that is not white space. */
  const peek = () => {
    match(/[ \t\n\r]*/y);
    return text[at];
  };
  const take = (character) => {
    const there = peek() === character;
    if (there) at += 1;
    return there;
  };

  const value = () => {
    const next = peek();
    if (next === '{') list('}', 'commaOrBrace', member);
    else if (next === '[') list(']', 'commaOrBracket', value);
    else if (next === '"') string();
    else if (/[-\d]/.test(next ?? '')) number();
    else if (!match(/(true|false|null)\b/y)) fail('value');
  };
  const list = (closing, expected, item) => {
    at += 1;
    if (take(closing)) return;
    do item(); while (take(','));
    if (!take(closing)) fail(expected);
  };
  const member = () => {
    if (peek() !== '"') fail('key');
    string();
    if (!take(':')) fail('colon');
    value();
  };
  const string = () => {
    const start = at;
    at += 1;
    for (;;) {
      match(/[^"\\\u0000-\u001f]*/y);
      if (match(/"/y)) return;
      if (at === text.length) fail('unclosed', start);
      if (text[at] !== '\\') fail('control');
      if (!match(/\\(["\\/bfnrt]|u[\da-fA-F]{4})/y)) fail('escape');
    }
  };
  const number = () => {
    const start = at;
    const matched = match(/-?(0|[1-9]\d*)(\.\d+)?(e[-+]?\d+)?/iy);
    if (!matched || match(/[\w.+-]/y)) fail('number', start);
  };

  try {
    value();
    if (peek() !== undefined) fail('end');
    return null;
  } catch (fault) {
    // Anything else is text nested too deep for us; the browser's own words have to do then.
    return fault.what ? fault : null;
  }
}

/** @type {(text: string, fault: JsonFault) => string} */
function describeFault(text, fault) {
  const before = text.slice(0, fault.at).split('\n');
  const place = words.faultAt(before.length, [...(before.at(-1) ?? '')].length + 1);
  const expected = words.expectations[fault.what];
  if (!expected) return place + words.faults[fault.what];
  const point = text.codePointAt(fault.at);
  return place + words.expected(expected, point === undefined ? undefined : String.fromCodePoint(point));
}
