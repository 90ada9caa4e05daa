/** JSON on the page: shown with every digit of its numbers, and checked before it is sent. */

/** JSON up to this length stays on one line. */
const JSON_LINE_CHARS_MAX = 60;

/**
 * Finds numbers that may be printed with other digits than they came with: long ones, with an exponent, with a zero
 * at the end, and -0. Only they need a reviver, which makes parsing many times slower.
 */
const UNUSUAL_NUMBER = /[\d.]{16}|\d[eE][+-]?\d+[,}\]\s]|\.\d*0[,}\]\s]|-0[,}\]\s]/;

/**
 * Parses a frame. The server relays numbers digit for digit, so 12345678901234567890 is shown with every
 * digit, if the browser keeps them.
 * @param {string} text
 */
export function parseFrame(text) {
  return UNUSUAL_NUMBER.test(text) ? JSON.parse(text, keepDigits) : JSON.parse(text);
}

/** @type {(key: string, value: unknown, context?: { source?: string }) => unknown} */
function keepDigits(_key, value, context) {
  const rounded = typeof value === 'number' && context?.source !== String(value);
  const { rawJSON } = /** @type {any} */ (JSON);
  return rounded && context?.source && rawJSON ? rawJSON(context.source) : value;
}

/** Returns JSON on one line if it is short, otherwise indented. @param {string} text JSON without spaces */
export function indentJson(text) {
  return text.length <= JSON_LINE_CHARS_MAX ? text : formatJson(text);
}

/** Returns JSON indented, or a text that is not JSON unchanged. @param {string} text */
export function formatJson(text) {
  try {
    return JSON.stringify(parseFrame(text), null, 2);
  } catch {
    return text;
  }
}

/** Returns the browser's message if a text is not JSON. @type {(text: string) => string | null} */
export function jsonError(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return /** @type {Error} */ (error).message;
  }
}
