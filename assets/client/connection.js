/**
 * The connection: when to connect, when to wait and how long, when to give up; and whether anybody is
 * still there. It knows nothing of rooms.
 */

import { later } from './base.js';

/** A connection that stayed open this long was a success: the next failure starts counting anew. */
const STABLE_AFTER_MS = 5_000;
/** The last part of the wait for an answer, see `#lastCall`. */
const LAST_CALL_MS = 1_000;
/** A closing handshake may take this long before the socket is cut, where it can be. */
const CLOSE_WITHIN_MS = 1_000;
/** Doubling more often than this gains nothing and would overflow. */
const DOUBLINGS_MAX = 30;
/** Failed attempts in a row after which every second one asks for as little as it can, see `narrow`. */
const NARROW_AFTER_FAILURES = 4;

/**
 * A WebSocket close code, or what the client found out itself: `silent`, nothing came in time; `no_token`,
 * the token function failed; `failed`, the browser refused to connect at all; `closed`, `close()` was called.
 * @typedef {number | 'silent' | 'no_token' | 'failed' | 'closed'} EndCode
 *
 * @typedef {{ name: 'connecting' }
 *   | { name: 'open' }
 *   | { name: 'waiting', delay: number, at: number, code: EndCode, reason: string }
 *   | { name: 'closed', code: EndCode, reason: string }} State
 *   `delay` is in milliseconds, `at` the time in Unix milliseconds at which it is over.
 *
 * @typedef {{ readyState: number, onmessage: any, onclose: any, onerror: any, send(text: string): void,
 *   close(code?: number): void, terminate?: () => void }} Socket
 *
 * @typedef {object} ConnectionOptions
 * @property {new (url: string) => any} WebSocket
 * @property {(narrow: boolean) => Promise<string>} address asked before every attempt; `narrow` wants as
 *   little in it as possible
 * @property {boolean} renewsToken whether another attempt may bring another token
 * @property {(text: string) => any} parse
 * @property {() => number} random
 * @property {number} backoffMin
 * @property {number} backoffMax
 * @property {number} connectTimeout
 * @property {number} heartbeatInterval
 * @property {number} heartbeatTimeout
 * @property {(state: State, welcome?: any) => void} onState the welcome comes with `open`
 * @property {(frame: any) => void} onFrame every frame after the welcome
 */

/**
 * What a close code asks a client to do.
 * @param {EndCode} code
 * @returns {'stay-away' | 'at-once' | 'backoff'}
 */
export function afterClose(code) {
  if (code === 'failed' || code === 'closed') return 'stay-away';
  if (typeof code === 'number' && code >= 4000 && code <= 4099) return 'stay-away';
  if (typeof code === 'number' && code >= 4200 && code <= 4299) return 'at-once';
  return 'backoff';
}

export class Connection {
  #options;
  /** @type {State} */
  #state = { name: 'connecting' };
  /** @type {Socket | null} */
  #socket = null;
  /** Counts what was begun, so that what belongs to an earlier attempt is known when it comes late. */
  #turn = 0;
  /** Failures since a connection last proved stable. */
  #attempt = 0;
  /** Attempts in a row that brought no welcome. */
  #unopened = 0;
  /** Whether a bad token was already answered with another one. */
  #renewed = false;
  /** Whether the browser tells us of its network. */
  #watching = false;
  /** Whether a ping waits for an answer. */
  #asked = false;
  /** Whether the browser has said that there is no network. */
  #offline = false;
  /** @type {any} */ #retryTimer = undefined;
  /** @type {any} */ #pulseTimer = undefined;
  /** @type {any} */ #stableTimer = undefined;

  /** @param {ConnectionOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get state() {
    return this.#state;
  }

  /** Connects now, whatever was going on before. */
  open() {
    this.#watch(true);
    this.#drop();
    const turn = this.#turn;
    this.#pulse(() => this.#ended('silent'), this.#options.connectTimeout);
    this.#enter({ name: 'connecting' });
    const narrow = this.#unopened >= NARROW_AFTER_FAILURES && this.#unopened % 2 === 0;
    this.#options.address(narrow).then(
      (address) => { if (turn === this.#turn) this.#dial(address); },
      (error) => { if (turn === this.#turn) this.#ended('no_token', String(error?.message ?? error)); },
    );
  }

  /**
   * Gives whether the socket took it.
   * @param {string} text one frame
   */
  send(text) {
    if (this.#state.name !== 'open' || this.#socket?.readyState !== 1) return false;
    this.#socket.send(text);
    return true;
  }

  /** Ends for good; `open` begins anew. */
  close() {
    this.#stop('closed', 'closed by the client');
  }

  /** @param {string} address */
  #dial(address) {
    /** @type {Socket} */
    let socket;
    try {
      socket = new this.#options.WebSocket(address);
    } catch (error) {
      // An address or a page for which the browser allows no WebSocket: asking again changes nothing.
      this.#stop('failed', String(error));
      return;
    }
    this.#socket = socket;
    socket.onmessage = (/** @type {{ data: unknown }} */ event) => this.#received(event.data);
    socket.onclose = (/** @type {{ code: number, reason: string }} */ event) => this.#ended(event.code, event.reason);
    // The close that follows says all there is to say.
    socket.onerror = () => {};
  }

  /** @param {unknown} data */
  #received(data) {
    const frame = typeof data === 'string' ? parsed(this.#options.parse, data) : null;
    if (this.#state.name === 'open') {
      this.#listen();
      if (frame) this.#options.onFrame(frame);
    } else if (frame && isWelcome(frame)) {
      this.#unopened = 0;
      this.#stableTimer = later(() => this.#proved(), STABLE_AFTER_MS);
      this.#listen();
      this.#enter({ name: 'open' }, frame);
    }
  }

  #proved() {
    this.#attempt = 0;
    this.#renewed = false;
  }

  // Is anybody there?

  /** Every frame proves the link alive; only silence needs a ping. */
  #listen() {
    this.#asked = false;
    this.#pulse(() => this.#ping(), this.#options.heartbeatInterval);
  }

  #ping() {
    this.#asked = true;
    this.send('{"type":"ping"}');
    const { heartbeatTimeout } = this.#options;
    const lastCall = Math.min(LAST_CALL_MS, heartbeatTimeout / 2);
    this.#pulse(() => this.#lastCall(lastCall), heartbeatTimeout - lastCall);
  }

  /**
   * A machine that wakes from sleep runs the overdue timer before the frames that wait behind it: the
   * last part counts from here, so those get in first.
   * @param {number} ms
   */
  #lastCall(ms) {
    this.#pulse(() => this.#ended('silent'), ms);
  }

  /** @type {(act: () => void, ms: number) => void} */
  #pulse(act, ms) {
    clearTimeout(this.#pulseTimer);
    this.#pulseTimer = later(act, ms);
  }

  // Ends

  /** @type {(code: EndCode, reason?: string) => void} */
  #ended(code, reason = '') {
    if (this.#state.name === 'connecting') this.#unopened += 1;
    let policy = afterClose(code);
    if (code === 4001 && this.#options.renewsToken && !this.#renewed) {
      this.#renewed = true;
      policy = 'at-once';
    }
    if (policy === 'stay-away') {
      this.#stop(code, reason);
      return;
    }
    this.#drop(code === 'silent');
    this.#attempt += 1;
    // A server that sends us on again and again gets the backoff too, not a tight loop.
    this.#wait(policy === 'at-once' && this.#attempt === 1 ? 0 : this.#backoff(), code, reason);
  }

  /** Full jitter: after a restart the clients come back spread over the window, not all at its end. */
  #backoff() {
    const { backoffMin, backoffMax, random } = this.#options;
    if (this.#offline) return backoffMax;
    const ceiling = Math.min(backoffMax, backoffMin * 2 ** Math.min(this.#attempt, DOUBLINGS_MAX));
    return backoffMin + random() * (ceiling - backoffMin);
  }

  /** @type {(delay: number, code: EndCode, reason: string) => void} */
  #wait(delay, code, reason) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = later(() => this.open(), delay);
    this.#enter({ name: 'waiting', delay, at: Date.now() + delay, code, reason });
  }

  /** @type {(code: EndCode, reason: string) => void} */
  #stop(code, reason) {
    this.#watch(false);
    this.#drop();
    this.#proved();
    this.#unopened = 0;
    this.#enter({ name: 'closed', code, reason });
  }

  /** Lets go of the socket without waiting: a dead link would take minutes over its closing handshake. */
  #drop(dead = false) {
    this.#turn += 1;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#pulseTimer);
    clearTimeout(this.#stableTimer);
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = null;
    socket.onmessage = null;
    socket.onclose = null;
    // `ws` can cut a socket, browsers cannot; and a socket that lingers would keep a process alive.
    if (socket.terminate && dead) {
      socket.terminate();
      return;
    }
    if (socket.terminate) {
      const cut = later(() => socket.terminate?.(), CLOSE_WITHIN_MS);
      socket.onclose = () => clearTimeout(cut);
    }
    if (socket.readyState < 2) socket.close(1000);
    else socket.onclose?.();
  }

  /** @type {(state: State, welcome?: any) => void} */
  #enter(state, welcome) {
    this.#state = state;
    this.#options.onState(state, welcome);
  }

  // What a browser knows of its network and its tab

  /** @param {boolean} on */
  #watch(on) {
    if (on === this.#watching) return;
    this.#watching = on;
    this.#offline = false;
    const { document: page, addEventListener: add, removeEventListener: remove } = /** @type {any} */ (globalThis);
    const change = on ? add : remove;
    if (typeof change !== 'function') return;
    change.call(globalThis, 'online', this.#online);
    change.call(globalThis, 'offline', this.#offlineNow);
    if (page) (on ? page.addEventListener : page.removeEventListener).call(page, 'visibilitychange', this.#seen);
  }

  #online = () => {
    this.#offline = false;
    this.#hurry();
  };

  /** Attempts become rare but do not end: a browser without a network may still reach its own machine. */
  #offlineNow = () => {
    this.#offline = true;
    if (this.#state.name === 'waiting') this.#wait(this.#options.backoffMax, this.#state.code, this.#state.reason);
    else this.#hurry();
  };

  #seen = () => {
    if (/** @type {any} */ (globalThis).document.visibilityState === 'visible') this.#hurry();
  };

  /** There is reason to believe that things have changed: tries now, or asks whether anybody is there. */
  #hurry() {
    if (this.#state.name === 'waiting') this.open();
    else if (this.#state.name === 'open' && !this.#asked) this.#ping();
  }
}

/** @type {(parse: (text: string) => any, text: string) => any} null for what is no frame of ours */
function parsed(parse, text) {
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
