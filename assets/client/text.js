/** The length of texts in bytes, ids and random texts. */

/** The server's limit. */
export const ID_BYTES_MAX = 64;

/**
 * Returns the length of a text in UTF-8. Hermes, the engine of React Native, had no `TextEncoder` for years.
 * @param {string} text
 */
export function byteLength(text) {
  let bytes = 0;
  for (const character of text) {
    const point = /** @type {number} */ (character.codePointAt(0));
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/**
 * Returns whether the server accepts a text as an id. The server must decode the id to send it back.
 * @param {unknown} id
 */
export function isId(id) {
  if (typeof id !== 'string' || id === '' || byteLength(id) > ID_BYTES_MAX) return false;
  return !/[\ud800-\udfff]/u.test(id); // Half a surrogate pair is not Unicode.
}

/**
 * Returns random bytes as hexadecimal digits.
 * @param {number} count
 */
export function randomText(count) {
  return Array.from(randomBytes(count), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @type {(count: number) => Uint8Array} */
function randomBytes(count) {
  const { crypto } = /** @type {any} */ (globalThis);
  const bytes = new Uint8Array(count);
  if (crypto?.getRandomValues) return crypto.getRandomValues(bytes);
  for (let at = 0; at < count; at += UUID_RANDOM_BYTES) bytes.set(uuidBytes().slice(0, count - at), at);
  return bytes;
}

/** The bytes of a UUID (version 4) that are all random. */
const UUID_RANDOM_BYTES = 14;

/**
 * Random bytes for Node 18, which has no global `crypto`. A static import of `node:crypto` would break
 * browsers, and a dynamic one comes too late for the constructor. But the address of a Blob has a UUID from
 * the same secure source. React Native has neither. Without the package react-native-get-random-values,
 * the bytes can be guessed there.
 */
function uuidBytes() {
  const uuid = /([\da-f]{8})-([\da-f]{4})-4([\da-f]{3})-[\da-f]([\da-f]{3})-([\da-f]{12})/.exec(blobAddress());
  if (!uuid) return Array.from({ length: UUID_RANDOM_BYTES }, () => Math.floor(Math.random() * 256));
  const digits = uuid.slice(1).join('');
  return Array.from({ length: UUID_RANDOM_BYTES }, (_, n) => parseInt(digits.slice(2 * n, 2 * n + 2), 16));
}

function blobAddress() {
  try {
    const address = URL.createObjectURL(new Blob([]));
    URL.revokeObjectURL(address);
    return address;
  } catch {
    return '';
  }
}
