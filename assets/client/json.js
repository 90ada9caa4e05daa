/**
 * The JSON of a frame, checked as the server checks it before it reads anything else. A frame that fails
 * there is refused without its id.
 */

import { WscastError } from './error.js';

/** The server's limit for nested arrays and objects in a frame, the frame itself included. */
const DEPTH_MAX = 64;

/**
 * Returns a value as JSON.
 * @param {unknown} value
 * @throws {WscastError} if JSON cannot represent it
 */
export function toJson(value) {
  try {
    const text = JSON.stringify(value);
    if (text !== undefined) return text;
  } catch (cause) {
    // Browsers have different errors for a value that is nested too deep for them.
    if (/call stack|recursion/i.test(String(cause))) throw tooDeep();
    throw new WscastError('invalid_field', `JSON cannot represent this value: ${cause}`, { cause });
  }
  throw new WscastError('invalid_field', 'JSON cannot represent this value');
}

/**
 * @param {string} text
 * @throws {WscastError} if it is not JSON
 */
export function checkJson(text) {
  try {
    JSON.parse(text);
  } catch (cause) {
    throw new WscastError('invalid_json', String(cause), { cause });
  }
}

/**
 * @param {string} frame
 * @throws {WscastError} if the server would refuse it
 */
export function checkDepth(frame) {
  if (depth(frame) > DEPTH_MAX) throw tooDeep();
}

function tooDeep() {
  return new WscastError('too_deep', `arrays and objects may be nested ${DEPTH_MAX} deep, the frame included`);
}

/** Returns how deep a JSON text is nested. Brackets in strings do not count. @param {string} text */
function depth(text) {
  let depth = 0;
  let deepest = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/gs)) {
    if (token === '[' || token === '{') deepest = Math.max(deepest, (depth += 1));
    else if (token === ']' || token === '}') depth -= 1;
  }
  return deepest;
}
