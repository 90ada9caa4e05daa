/** Requests that wait for a reply. Each has an id and a timeout, and gets exactly one reply. */

import { WscastError, rejected } from './error.js';
import { checkDepth, toJson } from './json.js';
import { startTimer } from './timer.js';

const PENDING_REQUESTS_MAX = 1_000;

/**
 * @typedef {import('./rooms.js').Position} Position
 *
 * @typedef {object} NewRequest
 * @property {'join' | 'leave' | 'history' | 'presence' | 'state' | 'auth' | 'ping'} type
 * @property {string} [room]
 * @property {() => object} [fields] returns the other fields of the frame, called when it is sent
 * @property {Join} [join] only for a join
 *
 * @typedef {object} Join
 * @property {'program' | 'rejoin' | 'presence' | 'refetch'} reason the origin of the join: the program, or the
 *   client itself after a reconnect, for `presence` events, or to get missing messages
 * @property {Position} [since] the position that the program asked for
 * @property {boolean} [inAddress] whether the address asks for the room too
 * @property {boolean} [resumes] whether it was sent with `since`
 *
 * @typedef {NewRequest & { id: string, sent: boolean, timer: any, resolve: (reply: any) => void,
 *   reject: (error: WscastError) => void }} Request
 */

export class Requests {
  #options;
  /** By id. @type {Map<string, Request>} */
  #pending = new Map();

  /**
   * @param {{ timeout: number, nextId: () => string, send: (text: string) => boolean,
   *   onFailed: (request: Request, error: WscastError) => void }} options
   */
  constructor(options) {
    this.#options = options;
  }

  /** Sends a request, now or on the next connection. @param {NewRequest} request */
  add(request) {
    const { timeout, nextId } = this.#options;
    const { room } = request;
    if (this.#pending.size >= PENDING_REQUESTS_MAX) {
      return rejected('queue_full', `${PENDING_REQUESTS_MAX} requests are pending already`, { room });
    }
    return new Promise((resolve, reject) => {
      const id = nextId();
      const timer = startTimer(() => this.fail(id, new WscastError('timeout', 'no reply in time', { room })), timeout);
      const pending = { ...request, id, sent: false, timer, resolve, reject };
      this.#pending.set(id, pending);
      this.#send(pending);
    });
  }

  /** Sends every request that the current connection has not sent yet. */
  sendAll() {
    for (const request of this.#pending.values()) this.#send(request);
  }

  /** @param {Request} request */
  #send(request) {
    if (request.sent) return;
    const { type, room, id, fields } = request;
    try {
      const frame = toJson({ type, room, id, ...fields?.() });
      checkDepth(frame);
      request.sent = this.#options.send(frame);
    } catch (error) {
      this.fail(id, /** @type {WscastError} */ (error));
    }
  }

  /** @param {string} id */
  get(id) {
    return this.#pending.get(id);
  }

  /** Returns the pending joins of one room, or of all rooms. @param {string} [name] */
  joins(name) {
    return [...this.#pending.values()].flatMap((request) => {
      const { join, room = '' } = request;
      return join && (name === undefined || room === name) ? [{ ...request, room, join }] : [];
    });
  }

  /** Returns the request and removes it. @param {string} id */
  take(id) {
    const request = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(request?.timer);
    return request;
  }

  /** @type {(id: string, reply: any) => void} */
  resolve(id, reply) {
    this.take(id)?.resolve(reply);
  }

  /** @type {(id: string, error: WscastError) => boolean} */
  fail(id, error) {
    const request = this.take(id);
    if (!request) return false;
    this.#options.onFailed(request, error);
    request.reject(error);
    return true;
  }

  /**
   * Marks the requests to be sent again on the next connection, except four kinds. A `leave` is complete,
   * because the next connection does not join the room. An `auth` fails, because the next connection sends a
   * token, and a `ping`, because it was to measure this connection. The client repeats its own joins itself.
   */
  disconnected() {
    for (const request of this.#pending.values()) {
      const { id, type, room, join } = request;
      request.sent = false;
      if (type === 'leave') this.resolve(id, { room });
      if (type === 'auth' || type === 'ping') this.fail(id, new WscastError('disconnected', 'the connection ended before the reply'));
      if (join && join.reason !== 'program') this.take(id);
    }
  }

  /** @param {WscastError} error */
  close(error) {
    for (const id of this.#pending.keys()) this.fail(id, error);
  }
}
