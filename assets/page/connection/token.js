/** The token in the page's address, after the #. The browser sends that part to no server, and the page stores it nowhere. */

/**
 * @typedef {{ user?: string, subscribe: string[], publish: string[], admin: boolean, expires?: number }} Grant
 *   what a token grants by its own words; the server checks them. `expires` is in Unix seconds
 */

export function currentToken() {
  return new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
}

/** Puts a token into the page's address. An empty one removes it. @param {string} token */
export function setToken(token) {
  const url = new URL(location.href);
  url.hash = token === '' ? '' : `token=${encodeURIComponent(token)}`;
  history.replaceState(null, '', url);
}

/** Returns what people paste around a token: a header, an address, quotes. @param {string} text */
export function tokenIn(text) {
  const inAddress = /[?#&]token=([^&\s]+)/.exec(text);
  return (inAddress ? decodeURIComponent(inAddress[1]) : text).trim().replace(/^(authorization:\s*)?bearer\s+/i, '').replace(/^["']|["']$/g, '');
}

/** Reads a token. Returns null if it is none. @type {(token: string) => Grant | null} */
export function readToken(token) {
  try {
    const base64 = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    const user = claims.sub ?? undefined;
    const expires = Number(claims.exp);
    return {
      user: user === undefined ? undefined : String(user),
      subscribe: patterns(claims.subscribe),
      publish: patterns(claims.publish),
      admin: claims.admin === true,
      expires: Number.isFinite(expires) ? expires : undefined,
    };
  } catch {
    return null;
  }
}

/** @param {unknown} claim */
function patterns(claim) {
  return (Array.isArray(claim) ? claim : claim === undefined || claim === null ? [] : [claim]).map(String);
}

/** Sends a request to the server with the reader's token. @type {(path: string, options?: RequestInit) => Promise<Response>} */
export function request(path, options = {}) {
  const token = currentToken();
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  // Relative to the page's address, so that the page also works below a path such as /chat/.
  return fetch(path, { ...options, headers, cache: 'no-store', credentials: 'same-origin' });
}

/** Like `request`, and throws the server's error. @type {(path: string, options?: RequestInit) => Promise<any>} */
export async function requestJson(path, options) {
  const response = await request(path, options);
  const text = await response.text();
  const body = text ? JSON.parse(text) : {};
  if (!response.ok) throw new Error(body.error?.message ?? `HTTP ${response.status}`);
  return body;
}
