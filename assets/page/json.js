/** JSON on the page: shown with every digit of its numbers, and checked before it is sent. */

/** JSON up to this length stays on one line. */
const JSON_LINE_CHARS_MAX = 60;

/**
 * Parses a frame. The server relays numbers digit for digit, so 12345678901234567890 is shown with every
 * digit, if the browser keeps them.
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

/** Returns the browser's message if a text is not JSON. @type {(text: string) => string | null} */
export function jsonError(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return /** @type {Error} */ (error).message;
  }
}
