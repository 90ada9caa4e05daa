/** Facts that only the browser knows: the state of the network and of the tab, and Firefox's own backoff. */

/**
 * Calls back when the network or the visibility of the page changes, or when the page enters or leaves the
 * back/forward cache. Outside browsers it never calls back.
 */
export class BrowserEvents {
  /** @type {[any, string, (event: any) => void][]} */
  #listeners;
  #on = false;

  /**
   * @param {{ online: () => void, offline: () => void, visible: () => void, cached: () => void,
   *   restored: () => void }} callbacks `cached`: the page may enter the back/forward cache. `restored`: the
   *   page has left it
   */
  constructor({ online, offline, visible, cached, restored }) {
    const window = /** @type {any} */ (globalThis);
    const { document } = window;
    this.#listeners = [
      [window, 'online', online],
      [window, 'offline', offline],
      [window, 'pagehide', (event) => { if (event.persisted) cached(); }],
      [window, 'pageshow', (event) => { if (event.persisted) restored(); }],
      [document, 'visibilitychange', () => { if (document.visibilityState === 'visible') visible(); }],
    ];
  }

  /** @param {boolean} on */
  observe(on) {
    if (on === this.#on) return;
    this.#on = on;
    for (const [target, name, listener] of this.#listeners) {
      if (on) target?.addEventListener?.(name, listener);
      else target?.removeEventListener?.(name, listener);
    }
  }
}

/**
 * Failed probes in a row that are believed if none has succeeded yet. A page's security policy may forbid
 * the probe, and then every probe fails.
 */
const FAILED_PROBES_MAX = 3;

/**
 * Requests the server's health check over HTTP before a WebSocket is opened in Firefox.
 *
 * After a WebSocket has failed, Firefox delays the next WebSocket to the same server: by up to a minute if
 * several have failed, even if the server is reachable again. Firefox neither delays HTTP requests nor counts
 * their failures. While the server is down, the probe fails instead of a WebSocket.
 */
export class Probe {
  #address;
  #failed = 0;
  #hasSucceeded = false;

  /** @param {string} address of the server's health check */
  constructor(address) {
    this.#address = address;
  }

  get isNeeded() {
    const { navigator, fetch } = /** @type {any} */ (globalThis);
    if (!/\bFirefox\//.test(navigator?.userAgent) || typeof fetch !== 'function') return false;
    return this.#hasSucceeded || this.#failed < FAILED_PROBES_MAX;
  }

  reset() {
    this.#failed = 0;
  }

  /** Resolves with whether the server responds. */
  async responds() {
    try {
      // Any response will do, and `no-cors` allows one from a server that is not the page's own.
      const { status } = await fetch(this.#address, { mode: 'no-cors', cache: 'no-store', credentials: 'omit' });
      // A proxy responds with these if the server does not.
      if (status === 502 || status === 504) throw new Error('no server');
      this.#failed = 0;
      this.#hasSucceeded = true;
      return true;
    } catch {
      this.#failed += 1;
      return false;
    }
  }
}
