/**
 * The addresses of the server. They are built as text, because React Native has only parts of the classes
 * URL and URLSearchParams: `set` and `protocol` throw there, and `href` gets another slash at its end.
 */

/** The parameters that the client sets itself. */
const CLIENT_PARAMETERS = ['room', 'since', 'epoch', 'last', 'session', 'token'];

/**
 * Returns the address of the server's WebSocket, without the parameters that the client sets itself.
 * @param {string | URL} url absolute, or relative to the document
 * @param {boolean} [me] asks for the room of the token's user
 */
export function webSocketAddress(url, me) {
  const [address, query = ''] = splitAt(absoluteAddress(String(url)).replace(/#.*$/, ''), '?');
  const parameters = query.split('&').filter((parameter) => {
    return parameter !== '' && !CLIENT_PARAMETERS.includes(splitAt(parameter, '=')[0]);
  });
  if (me && !asksForOwnRoom(`?${parameters.join('&')}`)) parameters.push('me=1');
  return withParameters(address.replace(/^(?:http|ws)(s?)/i, (_, s) => `ws${s.toLowerCase()}`), parameters);
}

/**
 * Returns the address of the server's health check, which is next to its WebSocket.
 * @param {string} webSocket
 */
export function healthAddress(webSocket) {
  const [address] = splitAt(webSocket.replace(/^ws/, 'http'), '?');
  const [, origin, path] = /** @type {RegExpExecArray} */ (/^(\w+:\/\/[^/]*)(.*?)\/*$/.exec(address));
  return `${origin}${path.replace(/[^/]*$/, '') || '/'}health`;
}

/**
 * Returns the parameters by which a program outside of a page learns why it is refused. The server would respond to it
 * with a status, which the class WebSocket does not show.
 */
export function refusalParameters() {
  return 'location' in globalThis ? [] : ['refusal=close'];
}

/** @param {string} address */
export function asksForOwnRoom(address) {
  return /[?&]me=(1|true)(&|$)/.test(address);
}

/** @type {(address: string, parameters: string[]) => string} */
export function withParameters(address, parameters) {
  if (parameters.length === 0) return address;
  return `${address}${address.includes('?') ? '&' : '?'}${parameters.join('&')}`;
}

/** @type {(name: string, value: string) => string} */
export function parameter(name, value) {
  // `encodeURIComponent` throws on half a surrogate pair.
  return `${name}=${encodeURIComponent(value.replace(/[\ud800-\udfff]/gu, '\ufffd'))}`;
}

/** @param {string} url */
function absoluteAddress(url) {
  if (/^(ws|http)s?:\/\/[^/?#\s]/i.test(url)) return url;
  const { document, location } = /** @type {any} */ (globalThis);
  const base = document?.baseURI ?? location?.href;
  if (base === undefined) throw new TypeError(`${url} is not an absolute address such as wss://example.com/ws`);
  return new URL(url, base).href;
}

/** @type {(text: string, separator: string) => string[]} one or two parts */
function splitAt(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
