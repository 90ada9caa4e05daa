/** Requests that wait for an answer: each has an id and a time, and is answered once. */

import { WscastError, later } from './base.js';

/** Requests that wait at once. */
const REQUESTS_MAX = 1_000;

/**
 * @typedef {import('./rooms.js').Position} Position
 *
 * @typedef {object} Question
 * @property {'join' | 'leave' | 'history' | 'presence' | 'auth'} type
 * @property {string} [room]
 * @property {() => object} [fields] what else is in its frame, asked when it is sent
 * @property {Join} [join] only for a join
 *
 * @typedef {object} Join
 * @property {'user' | 'rejoin' | 'watch' | 'mend'} why who wants it: the user, or the client after a
 *   reconnect, for `presence` events, because of a hole
 * @property {Position} [since] where it is to start, whatever is known
 * @property {boolean} [inAddress] whether the address asks for it too
 * @property {boolean} [resumes] whether it was sent with `since`
 *
 * @typedef {Question & { id: string, sent: boolean, timer: any, resolve: (answer: any) => void,
 *   reject: (error: WscastError) => void }} Request
 */

export class Requests {
  #options;
  /** @type {Map<string, Request>} */
  #waiting = new Map();

  /**
   * @param {{ timeout: number, nextId: () => string, send: (text: string) => boolean,
   *   onFailed: (request: Request, error: WscastError) => void }} options
   */
  constructor(options) {
    this.#options = options;
  }

  /** @param {Question} question */
  ask(question) {
    const { timeout, nextId } = this.#options;
    const { room } = question;
    if (this.#waiting.size >= REQUESTS_MAX) {
      return Promise.reject(new WscastError('queue_full', `${REQUESTS_MAX} requests wait already`, { room }));
    }
    return new Promise((resolve, reject) => {
      const id = nextId();
      const timer = later(() => this.fail(id, new WscastError('timeout', 'no answer in time', { room })), timeout);
      const request = { ...question, id, sent: false, timer, resolve, reject };
      this.#waiting.set(id, request);
      this.#send(request);
    });
  }

  /** Sends what this connection has not sent yet. */
  sendAll() {
    for (const request of this.#waiting.values()) this.#send(request);
  }

  /** @param {Request} request */
  #send(request) {
    if (request.sent) return;
    const { type, room, id, fields } = request;
    request.sent = this.#options.send(JSON.stringify({ type, room, id, ...fields?.() }));
  }

  /** @param {string} id */
  get(id) {
    return this.#waiting.get(id);
  }

  all() {
    return [...this.#waiting.values()];
  }

  /** The joins that wait, of one room or of all. @param {string} [name] */
  joins(name) {
    return this.all().flatMap((request) => {
      const { join, room = '' } = request;
      return join && (name === undefined || room === name) ? [{ ...request, room, join }] : [];
    });
  }

  /** The request with that id, which waits no longer. @param {string} id */
  take(id) {
    const request = this.#waiting.get(id);
    this.#waiting.delete(id);
    clearTimeout(request?.timer);
    return request;
  }

  /** @type {(id: string, answer: any) => void} */
  settle(id, answer) {
    this.take(id)?.resolve(answer);
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
   * Questions are asked again on the next connection. A room is left by not asking for it any more.
   * What the client itself wanted it will want anew.
   */
  disconnected() {
    for (const request of this.#waiting.values()) {
      const { id, type, room, join } = request;
      request.sent = false;
      if (type === 'leave') this.settle(id, { room });
      if (type === 'auth') this.fail(id, new WscastError('disconnected', 'the connection ended before the answer'));
      if (join && join.why !== 'user') this.take(id);
    }
  }

  /** @param {WscastError} error */
  close(error) {
    for (const id of this.#waiting.keys()) this.fail(id, error);
  }
}
