/**
 * The connection: when to connect, how long to wait between attempts, when to give up, and whether the
 * server still responds. It knows nothing of rooms.
 */

import { BrowserEvents } from './browser.js';
import { startTimer } from './timer.js';

/** A connection that stays open this long counts as stable: the backoff starts again from its minimum. */
const STABLE_AFTER_MS = 5_000;
/** The last part of the heartbeat's timeout, see `#awaitLateFrames`. */
const LATE_FRAMES_MS = 1_000;
/** The defaults of the times that a program may set. */
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const CONNECT_TIMEOUT_MS = 15_000;
const HEARTBEAT_INTERVAL_MS = 25_000;
const HEARTBEAT_TIMEOUT_MS = 10_000;
/** Time from an open socket to the welcome. After it the client checks whether the server wants a token. */
const WELCOME_WITHIN_MS = 1_000;
/** Time for the closing handshake. After it the socket is terminated, if the WebSocket class supports that. */
const CLOSE_TIMEOUT_MS = 1_000;
/**
 * A request that a server refuses while it waits for a token. Such a server sends nothing for ten seconds after
 * a client connects without a token, so that the client can send the token in a frame.
 */
const TOKEN_CHECK_ID = 'wscast-client-token-check';
const TOKEN_CHECK = JSON.stringify({ type: 'presence', room: 'lobby', id: TOKEN_CHECK_ID });
/** Further doublings would change nothing and would overflow. */
const DOUBLINGS_MAX = 30;
/** The close code for a wrong address, for example one with too many rooms. */
const BAD_ADDRESS = 4000;
/** After this many failed attempts in a row, every second attempt asks for one room only, see `narrow`. */
const NARROW_AFTER_FAILURES = 4;

/**
 * Why a connection ended: a WebSocket close code, or one of the client's own codes. `silent`: nothing was
 * received in time. `no_token`: the token function failed. `cached`: the page went into the browser's
 * back/forward cache. `failed`: the browser refused to connect at all. `closed`: `close()` was called.
 * @typedef {number | 'silent' | 'no_token' | 'cached' | 'failed' | 'closed'} EndCode
 *
 * @typedef {{ name: 'connecting' }
 *   | { name: 'open' }
 *   | { name: 'waiting', delay: number, at: number, code: EndCode, reason: string }
 *   | { name: 'closed', code: EndCode, reason: string }} State
 *   `delay` is the wait in milliseconds, `at` the time of the next attempt in Unix milliseconds.
 *
 * @typedef {{ readyState: number, onopen: any, onmessage: any, onclose: any, onerror: any, send(text: string): void,
 *   close(code?: number): void, terminate?: () => void }} Socket
 *
 * @typedef {{ url: string, subprotocols?: string[] }} Address
 *
 * @typedef {object} ConnectionOptions
 * @property {new (url: string, subprotocols?: string[]) => any} WebSocket
 * @property {(narrow: boolean) => Promise<Address>} address called before every attempt; a narrow address
 *   is as short as possible
 * @property {import('./browser.js').Probe} probe
 * @property {boolean} canRenewToken whether another attempt may use another token
 * @property {(text: string) => any} parse
 * @property {() => number} random
 * @property {number} backoffMin
 * @property {number} backoffMax
 * @property {number} connectTimeout
 * @property {number} heartbeatInterval
 * @property {number} heartbeatTimeout
 * @property {(state: State, welcome?: any) => void} onState the state `open` comes with the welcome
 * @property {(frame: any) => void} onFrame called for every frame after the welcome
 */

/**
 * Returns what a client does after a connection has ended.
 * @param {EndCode} code
 * @returns {'stop' | 'reconnect' | 'back-off'}
 */
export function afterClose(code) {
  if (code === 'failed' || code === 'closed') return 'stop';
  if (typeof code === 'number' && code >= 4000 && code <= 4099) return 'stop';
  if (typeof code === 'number' && code >= 4200 && code <= 4299) return 'reconnect';
  return 'back-off';
}

/** Returns the times of a connection that a program has set, or their defaults. @param {import('./types.js').Options} options */
export function connectionTimes(options) {
  return {
    backoffMin: options.backoffMin ?? BACKOFF_MIN_MS,
    backoffMax: options.backoffMax ?? BACKOFF_MAX_MS,
    connectTimeout: options.connectTimeout ?? CONNECT_TIMEOUT_MS,
    heartbeatInterval: options.heartbeatInterval ?? HEARTBEAT_INTERVAL_MS,
    heartbeatTimeout: options.heartbeatTimeout ?? HEARTBEAT_TIMEOUT_MS,
  };
}

export class Connection {
  #options;
  /** @type {State} */
  #state = { name: 'connecting' };
  /** @type {Socket | null} */
  #socket = null;
  /** Grows with every attempt, so that the late result of an earlier attempt is recognised. */
  #attemptNumber = 0;
  /** Ended connections and failed attempts since the last stable connection. */
  #failures = 0;
  /** Attempts in a row that ended before the welcome. */
  #failedAttempts = 0;
  /** Whether a rejected token was replaced already. */
  #tokenRenewed = false;
  #pingPending = false;
  /** Whether the server has responded to the present attempt's probe. */
  #probeResponded = false;
  /** Whether the browser has reported that there is no network. */
  #offline = false;
  /** @type {any} */ #retryTimer = undefined;
  /** @type {any} */ #silenceTimer = undefined;
  /** @type {any} */ #stableTimer = undefined;
  /** @type {any} */ #tokenCheckTimer = undefined;
  /** Whether the server has refused an address with several rooms. It may accept fewer than the client asks for. */
  #narrowOnly = false;
  /** Whether the address of the present attempt has several rooms. */
  #isWide = false;
  #browser = new BrowserEvents({
    online: () => this.#online(),
    offline: () => this.#goneOffline(),
    visible: () => this.#checkNow(),
    cached: () => this.#cached(),
    restored: () => this.#restored(),
  });

  /** @param {ConnectionOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get state() {
    return this.#state;
  }

  /** Connects now, in any state of the connection. */
  open() {
    this.#browser.observe(true);
    this.#discardSocket();
    this.#startSilenceTimer(() => this.#ended('silent'), this.#options.connectTimeout);
    const attempt = this.#attemptNumber;
    this.#setState({ name: 'connecting' });
    if (attempt === this.#attemptNumber) this.#connect(attempt);
  }

  /** @param {number} attempt */
  async #connect(attempt) {
    const { address, probe } = this.#options;
    this.#probeResponded = false;
    if (this.#failures > 0 && probe.isNeeded) {
      const responds = await probe.responds();
      if (attempt !== this.#attemptNumber) return;
      this.#probeResponded = responds;
      // The same code as that of a WebSocket that cannot reach its server.
      if (!responds) return this.#ended(1006);
    } else {
      probe.reset();
    }
    const narrow = this.#narrowOnly || (this.#failedAttempts >= NARROW_AFTER_FAILURES && this.#failedAttempts % 2 === 0);
    address(narrow).then(
      (address) => { if (attempt === this.#attemptNumber) this.#openSocket(address); },
      (error) => { if (attempt === this.#attemptNumber) this.#ended('no_token', String(error?.message ?? error)); },
    );
  }

  /**
   * Sends a frame. Returns false if there is no open connection.
   * @param {string} text
   */
  send(text) {
    if (this.#state.name !== 'open' || this.#socket?.readyState !== 1) return false;
    this.#socket.send(text);
    return true;
  }

  /** Closes the connection and does not reconnect. */
  close() {
    this.#stop('closed', 'closed by the client');
  }

  /** @param {Address} address */
  #openSocket({ url, subprotocols }) {
    const { WebSocket } = this.#options;
    this.#isWide = url.split(/[?&]room=/).length > 2;
    /** @type {Socket} */
    let socket;
    try {
      socket = subprotocols ? new WebSocket(url, subprotocols) : new WebSocket(url);
    } catch (error) {
      // The browser allows no WebSocket to this address or from this page, and a retry would not change that.
      this.#stop('failed', String(error));
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      this.#tokenCheckTimer = startTimer(() => socket.send(TOKEN_CHECK), WELCOME_WITHIN_MS);
    };
    socket.onmessage = (/** @type {{ data: unknown }} */ event) => this.#received(event.data);
    socket.onclose = (/** @type {{ code: number, reason: string }} */ event) => this.#ended(event.code, event.reason);
    // A close event with the details follows every error event.
    socket.onerror = () => {};
  }

  /** @param {unknown} data */
  #received(data) {
    const frame = typeof data === 'string' ? parseFrame(this.#options.parse, data) : null;
    if (this.#state.name === 'open') {
      this.#resetHeartbeat();
      if (frame && frame.id !== TOKEN_CHECK_ID) this.#options.onFrame(frame);
    } else if (frame && isWelcome(frame)) {
      this.#failedAttempts = 0;
      this.#probeResponded = false;
      clearTimeout(this.#tokenCheckTimer);
      this.#stableTimer = startTimer(() => this.#resetFailures(), STABLE_AFTER_MS);
      this.#resetHeartbeat();
      this.#setState({ name: 'open' }, frame);
    } else if (frame?.type === 'error' && frame.payload?.code === 'unauthorized') {
      this.#ended(4001, 'the server requires a token');
    }
  }

  #resetFailures() {
    this.#failures = 0;
    this.#tokenRenewed = false;
  }

  // The heartbeat

  /** Every received frame proves that the connection works. Only silence needs a ping. */
  #resetHeartbeat() {
    this.#pingPending = false;
    this.#startSilenceTimer(() => this.#ping(), this.#options.heartbeatInterval);
  }

  /** Closes the connection if no frame arrives in time. Call it before a request that the server answers at once. */
  expectFrame() {
    if (this.#state.name === 'open' && !this.#pingPending) this.#awaitReply();
  }

  #ping() {
    this.send('{"type":"ping"}');
    this.#awaitReply();
  }

  #awaitReply() {
    this.#pingPending = true;
    const { heartbeatTimeout } = this.#options;
    const lastPart = Math.min(LATE_FRAMES_MS, heartbeatTimeout / 2);
    this.#startSilenceTimer(() => this.#awaitLateFrames(lastPart), heartbeatTimeout - lastPart);
  }

  /**
   * A computer that wakes from sleep runs an overdue timer before it delivers frames that have already
   * arrived. The last part of the timeout starts only now, so those frames are delivered first.
   * @param {number} ms
   */
  #awaitLateFrames(ms) {
    this.#startSilenceTimer(() => this.#ended('silent'), ms);
  }

  /** @type {(act: () => void, ms: number) => void} */
  #startSilenceTimer(act, ms) {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = startTimer(act, ms);
  }

  // The end of a connection

  /** @type {(code: EndCode, reason?: string) => void} */
  #ended(code, reason = '') {
    if (this.#state.name === 'connecting') this.#failedAttempts += 1;
    let policy = afterClose(code);
    if (code === 4001 && this.#options.canRenewToken && !this.#tokenRenewed) {
      this.#tokenRenewed = true;
      policy = 'reconnect';
    }
    if (code === BAD_ADDRESS && this.#isWide && !this.#narrowOnly) {
      this.#narrowOnly = true;
      policy = 'reconnect';
    }
    if (policy === 'stop') {
      this.#stop(code, reason);
      return;
    }
    this.#discardSocket(code === 'silent');
    this.#failures += 1;
    // Only the first reconnect is immediate, because a server may ask for it again and again. If the server
    // responds to probes, Firefox has delayed the WebSocket, and a longer wait does not help.
    const now = (policy === 'reconnect' && this.#failures === 1) || (code === 'silent' && this.#probeResponded);
    this.#probeResponded = false;
    this.#reconnectAfter(now ? 0 : this.#backoff(), code, reason);
  }

  /** Full jitter spreads the clients of a restarted server over the whole wait. */
  #backoff() {
    const { backoffMin, backoffMax, random } = this.#options;
    if (this.#offline) return backoffMax;
    const longest = Math.min(backoffMax, backoffMin * 2 ** Math.min(this.#failures, DOUBLINGS_MAX));
    return backoffMin + random() * (longest - backoffMin);
  }

  /** @type {(delay: number, code: EndCode, reason: string) => void} */
  #reconnectAfter(delay, code, reason) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = startTimer(() => this.open(), delay);
    this.#setState({ name: 'waiting', delay, at: Date.now() + delay, code, reason });
  }

  /** @type {(code: EndCode, reason: string) => void} */
  #stop(code, reason) {
    this.#browser.observe(false);
    this.#offline = false;
    this.#discardSocket();
    this.#resetFailures();
    this.#failedAttempts = 0;
    this.#setState({ name: 'closed', code, reason });
  }

  /**
   * Ignores the socket from now on and closes it, without waiting for the closing handshake, which takes
   * minutes on a broken connection.
   * @param {boolean} [broken]
   */
  #discardSocket(broken = false) {
    this.#attemptNumber += 1;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    clearTimeout(this.#stableTimer);
    clearTimeout(this.#tokenCheckTimer);
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = null;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    // The package `ws` can terminate a socket, browsers cannot. An open socket would keep a Node process alive.
    if (socket.terminate && broken) {
      socket.terminate();
      return;
    }
    if (socket.terminate) {
      const cut = startTimer(() => socket.terminate?.(), CLOSE_TIMEOUT_MS);
      socket.onclose = () => clearTimeout(cut);
    }
    if (socket.readyState < 2) socket.close(1000);
    else socket.onclose?.();
  }

  /** @type {(state: State, welcome?: any) => void} */
  #setState(state, welcome) {
    this.#state = state;
    this.#options.onState(state, welcome);
  }

  // Events of the browser

  #online() {
    this.#offline = false;
    this.#checkNow();
  }

  /** Attempts become rare but continue: a browser without a network may still reach its own computer. */
  #goneOffline() {
    this.#offline = true;
    const state = this.#state;
    if (state.name === 'waiting') this.#reconnectAfter(this.#options.backoffMax, state.code, state.reason);
    else this.#checkNow();
  }

  /**
   * Closes the connection, because Chrome and Firefox do not cache a page that has one. Timers stand still
   * in the cache, so the wait matters only if the page is not cached after all.
   */
  #cached() {
    this.#discardSocket();
    this.#reconnectAfter(this.#options.backoffMax, 'cached', '');
  }

  /** The browser may have closed an open connection in the cache, and may not report that. */
  #restored() {
    if (this.#state.name !== 'connecting') this.open();
  }

  /** The network may have changed: reconnects now, or sends a ping to check the open connection. */
  #checkNow() {
    if (this.#state.name === 'waiting') this.open();
    else if (this.#state.name === 'open' && !this.#pingPending) this.#ping();
  }
}

/** @type {(parse: (text: string) => any, text: string) => any} null if it is no frame of the protocol */
function parseFrame(parse, text) {
  try {
    const frame = parse(text);
    return typeof frame?.type === 'string' ? frame : null;
  } catch {
    return null;
  }
}

/** @param {any} frame */
function isWelcome(frame) {
  return frame.type === 'message' && frame.room === undefined && Array.isArray(frame.rooms);
}
