/** The length of texts in bytes, and random texts. */

/**
 * Returns the length of a text in UTF-8.
 * @param {string} text
 */
export function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/**
 * Returns random bytes as hexadecimal digits.
 * @param {number} bytes
 */
export function randomText(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
