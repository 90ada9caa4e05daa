/**
 * A client of wscast that stays connected: it reconnects, continues every room where it was, publishes
 * exactly once, and says so where it cannot. For browsers, and for Node with a WebSocket of its own or
 * another one's. It needs no other package and no build.
 *
 *     import { WscastClient } from '/assets/client.js';
 *     const client = new WscastClient('/ws', { rooms: ['lobby'] });
 *     client.on('message', ({ room, payload }) => console.log(room, payload));
 *     await client.publish('hello');
 *
 * This file is what a program sees and the conversation; next to it are the connection
 * (connection.js), what was asked (requests.js), the rooms (membership.js,
 * rooms.js) and what is to be published (publishes.js).
 */

import { Connection } from './connection.js';
import { WscastError, byteLength, randomText, refuse } from './base.js';
import { Membership } from './membership.js';
import { PublishQueue } from './publishes.js';
import { Requests } from './requests.js';

export { WscastError };

const HEARTBEAT_INTERVAL_MS = 25_000;
const HEARTBEAT_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 15_000;
const PUBLISH_TIMEOUT_MS = 60_000;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const PUBLISH_QUEUE_MAX = 1_000;
/** Ids of our earlier connections that we know as our own. */
const CLIENT_IDS_MAX = 64;
/** The bounds of the server for an id. */
const ID_BYTES_MAX = 64;
const RANDOM_BYTES = 16;

/**
 * @typedef {import('./types.js').State} State
 * @typedef {import('./types.js').Position} Position
 * @typedef {import('./types.js').RoomState} RoomState
 * @typedef {import('./types.js').Place} Place
 * @typedef {import('./types.js').Options} Options
 * @typedef {import('./types.js').PublishOptions} PublishOptions
 * @typedef {import('./types.js').History} History
 * @typedef {import('./types.js').Members} Members
 * @typedef {import('./types.js').Events} Events
 */

export class WscastClient {
  /** Within what this client's publishes are compared; a secret. @type {string} @readonly */
  session;
  #base;
  #token;
  /** @type {Connection} */ #connection;
  /** @type {Requests} */ #requests;
  /** @type {Membership} */ #membership;
  /** @type {PublishQueue} */ #publishes;
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();
  /** Our ids on this connection and the ones before, the present one last. @type {string[]} */
  #clientIds = [];
  /** What begins every id of this client, so that nobody else with its session draws the same. */
  #idPrefix = randomText(RANDOM_BYTES / 2);
  #idCount = 0;
  #ended = false;
  /** Whether this connection's close for a message that is too large is dealt with. */
  #tooLarge = false;

  /**
   * Begins to connect at once; handlers that are added before the next `await` miss nothing.
   * @param {string | URL} url of the server's `/ws`; `http` does for `ws`, and in a browser a path will do
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    this.session = options.session ?? randomText(RANDOM_BYTES);
    this.#base = socketUrl(url);
    this.#token = options.token;
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof WebSocket !== 'function') throw new TypeError('there is no WebSocket here; give one as an option');
    if (byteLength(this.session) < 16 || byteLength(this.session) > 128) throw new RangeError('a session has 16 to 128 bytes');
    /** @param {string} text */
    const send = (text) => this.#connection.send(text);
    this.#requests = new Requests({
      timeout: options.requestTimeout ?? REQUEST_TIMEOUT_MS,
      nextId: () => this.#nextId(),
      send,
      onFailed: (request, error) => { if (!this.#closed()) this.#membership.failed(request, error); },
    });
    this.#membership = new Membership({
      requests: this.#requests,
      emit: (name, event) => this.#emit(name, event),
      onForgotten: (room) => this.#publishes.left(room),
    });
    this.#publishes = new PublishQueue({
      max: options.publishQueueMax ?? PUBLISH_QUEUE_MAX,
      timeout: options.publishTimeout ?? PUBLISH_TIMEOUT_MS,
      now: options.now ?? Date.now,
      send,
      room: (name) => {
        const room = this.#rooms.get(name);
        return room && { live: room.live, epoch: room.position?.epoch };
      },
    });
    this.#connection = new Connection({
      WebSocket,
      address: (narrow) => this.#address(narrow),
      renewsToken: typeof options.token === 'function',
      parse: options.parse ?? JSON.parse,
      random: options.random ?? Math.random,
      backoffMin: options.backoffMin ?? BACKOFF_MIN_MS,
      backoffMax: options.backoffMax ?? BACKOFF_MAX_MS,
      connectTimeout: options.connectTimeout ?? CONNECT_TIMEOUT_MS,
      heartbeatInterval: options.heartbeatInterval ?? HEARTBEAT_INTERVAL_MS,
      heartbeatTimeout: options.heartbeatTimeout ?? HEARTBEAT_TIMEOUT_MS,
      onState: (state, welcome) => this.#stateChanged(state, welcome),
      onFrame: (frame) => this.#received(frame),
    });
    for (const wanted of options.rooms ?? ['lobby']) this.#membership.want(wanted);
    queueMicrotask(() => { if (!this.#ended) this.#connection.open(); });
  }

  get #rooms() {
    return this.#membership.rooms;
  }

  // What a program asks

  get state() {
    return this.#connection.state;
  }

  /** This client's id on the present or last connection: the `from` of what it publishes. */
  get clientId() {
    return this.#clientIds.at(-1);
  }

  /** The rooms it is in or will be once it is connected. */
  get rooms() {
    return this.#rooms.names();
  }

  /** Publishes that are not acknowledged yet. */
  get waiting() {
    return this.#publishes.size;
  }

  /**
   * Up to where a room is known: what to give to `join`, or as a room to another client, to continue there.
   * @param {string} room
   * @returns {Position | undefined}
   */
  position(room) {
    const position = this.#rooms.get(room)?.position;
    return position ? { ...position } : undefined;
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} listener
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return this;
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} listener
   */
  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
    return this;
  }

  /**
   * Resolves once the message is stored. It survives reconnections and is published once; the order of a
   * room's publishes is kept, except that one which the server cannot take for the moment comes later.
   * @param {unknown} payload anything that JSON can say
   * @param {PublishOptions} [options]
   * @returns {Promise<Place>}
   */
  publish(payload, options) {
    const text = JSON.stringify(payload);
    if (text === undefined) return refuse('invalid_field', 'the payload is nothing that JSON can say');
    return this.#publish(text, options);
  }

  /**
   * The same with a payload that is JSON already: it is relayed as it stands, digit for digit.
   * @param {string} text
   * @param {PublishOptions} [options]
   * @returns {Promise<Place>}
   */
  publishJson(text, options) {
    try {
      JSON.parse(text);
    } catch (error) {
      return refuse('invalid_json', String(error), { cause: error });
    }
    return this.#publish(text, options);
  }

  /**
   * Joins a room, for this connection and those to come. `since` asks for what follows that offset;
   * without it the room starts now, or where this client knows it.
   * @param {string} room
   * @param {{ since?: number, epoch?: string, presence?: boolean }} [options] `presence` asks for
   *   `presence` events
   * @returns {Promise<RoomState>}
   */
  join(room, { since, epoch, presence } = {}) {
    const closed = this.#closed();
    return closed ? Promise.reject(closed) : this.#membership.join({ room, since, epoch, presence });
  }

  /**
   * Leaves a room; nothing more of it is delivered from now on.
   * @param {string} room
   * @returns {Promise<{ room: string }>}
   */
  leave(room) {
    if (!this.#rooms.get(room)) return refuse('not_in_room', `this client is not in ${room}`, { room });
    this.#membership.forget(room);
    // Whoever is not connected is in no room: the next connection will not ask for this one.
    const answer = this.state.name === 'open' ? this.#requests.ask({ type: 'leave', room }) : Promise.resolve({ room });
    this.#emit('left', { room });
    return answer;
  }

  /**
   * Messages of a room's past: those after `since`, or the newest.
   * @param {string} room
   * @param {{ since?: number, limit?: number }} [options]
   * @returns {Promise<History>}
   */
  history(room, { since, limit } = {}) {
    return this.#ask({ type: 'history', room, fields: () => ({ since, limit }) });
  }

  /**
   * Who is in a room now.
   * @param {string} room
   * @returns {Promise<Members>}
   */
  presence(room) {
    return this.#ask({ type: 'presence', room });
  }

  /**
   * Gives the server the token of this moment on the connection there is.
   * @returns {Promise<any>}
   */
  async authenticate() {
    const token = await this.#currentToken();
    return this.#ask({ type: 'auth', fields: () => ({ token }) });
  }

  /** Connects at once, instead of after the wait, or although the server said to stay away. */
  reconnect() {
    if (this.#ended) throw new WscastError('closed', 'this client was closed; make another one');
    this.#connection.open();
  }

  /** Ends for good: what waits is rejected, and nothing keeps a process alive. */
  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#connection.close();
    this.#listeners.clear();
  }

  // The connection

  /** @param {boolean} narrow */
  async #address(narrow) {
    const token = await this.#currentToken();
    return this.#membership.address(this.#base, { session: this.session, token }, narrow);
  }

  async #currentToken() {
    return typeof this.#token === 'function' ? this.#token() : this.#token;
  }

  /** @type {(state: State, welcome?: any) => void} */
  #stateChanged(state, welcome) {
    if (state.name !== 'open') this.#disconnected(state);
    if (state.name === 'closed') this.#stopped(state);
    this.#emit('state', state);
    if (welcome && this.state === state) this.#welcomed(welcome);
  }

  /** @param {State} state */
  #disconnected(state) {
    if ('code' in state && state.code === 1009 && !this.#tooLarge) {
      this.#publishes.tooLarge(new WscastError('message_too_large', 'the server takes no message of this size'));
    }
    this.#tooLarge = false;
    this.#membership.disconnected();
    this.#requests.disconnected();
    this.#publishes.disconnected();
  }

  /** @param {{ reason: string }} state */
  #stopped({ reason }) {
    const error = new WscastError('closed', reason || 'the server told this client to stay away');
    this.#publishes.close(error);
    this.#requests.close(error);
  }

  /** @param {{ client: string, payload: any, rooms: RoomState[] }} welcome */
  #welcomed({ client, payload, rooms }) {
    this.#clientIds.push(client);
    if (this.#clientIds.length > CLIENT_IDS_MAX) this.#clientIds.shift();
    this.#emit('welcome', { client, payload, rooms });
    this.#membership.welcomed(rooms);
    this.#publishes.flush();
  }

  #nextId() {
    this.#idCount += 1;
    return `${this.#idPrefix}-${this.#idCount.toString(36)}`;
  }

  /** Why nothing can be asked any more, if so. */
  #closed() {
    if (this.state.name !== 'closed') return null;
    const message = this.#ended ? 'this client was closed' : 'the server told this client to stay away';
    return new WscastError('closed', message);
  }

  /** @type {(question: import('./requests.js').Question) => Promise<any>} */
  #ask(question) {
    const closed = this.#closed();
    return closed ? Promise.reject(closed) : this.#requests.ask(question);
  }

  /** @type {(text: string, options?: PublishOptions) => Promise<Place>} */
  #publish(text, { type = 'message', room = this.rooms[0], id = this.#nextId() } = {}) {
    const closed = this.#closed();
    if (closed) return Promise.reject(closed);
    if (type !== 'message' && type !== 'custom_event') return refuse('unknown_type', `${type} cannot be published`, { room });
    if (room === undefined || !this.#rooms.get(room)) return refuse('not_in_room', 'join the room first', { room });
    if (id === '' || byteLength(id) > ID_BYTES_MAX) return refuse('invalid_id', `an id has 1 to ${ID_BYTES_MAX} bytes`, { room });
    const frame = `{"type":"${type}","room":${JSON.stringify(room)},"id":${JSON.stringify(id)},"payload":${text}}`;
    return this.#publishes.add({ id, room, text: frame });
  }

  // What the server says

  /** @param {any} frame */
  #received(frame) {
    const { type, id, room, payload } = frame;
    switch (type) {
      case 'message':
      case 'custom_event':
        this.#relayed(frame);
        break;
      case 'ack':
        if (this.#publishes.acknowledged(id, payload)) this.#emit('ack', { id, ...payload });
        break;
      case 'joined':
        this.#membership.joined(id, payload);
        this.#publishes.flush();
        break;
      case 'presence':
        this.#requests.settle(id, payload);
        this.#emit('presence', { room, ...payload });
        break;
      case 'left':
      case 'history':
      case 'authenticated':
        this.#requests.settle(id, payload);
        break;
      case 'error':
        this.#refused(frame);
        break;
      case 'token_expiring':
        // Without a newer one, or if it is refused, the server closes in its own time.
        if (typeof this.#token === 'function') this.authenticate().catch(() => {});
        break;
      case 'pong':
        break;
      default:
        this.#emit('other', frame);
    }
  }

  /** @param {any} frame */
  #relayed(frame) {
    const { type, room, offset, from } = frame;
    const verdict = room === undefined ? 'deliver' : this.#rooms.take(room, offset);
    if (verdict === 'hole') this.#membership.mend(room);
    if (verdict !== 'deliver') return;
    const own = from !== undefined && this.#clientIds.includes(from);
    this.#emit(/** @type {'message' | 'custom_event'} */ (type), { ...frame, own });
  }

  /** @param {any} frame */
  #refused({ id, payload }) {
    const error = WscastError.refused(payload, this.#requests.get(id)?.room);
    if (id !== undefined && (this.#publishes.refused(id, error) || this.#requests.fail(id, error))) return;
    if (id === undefined && error.code === 'message_too_large') this.#tooLarge = this.#publishes.tooLarge(error);
    if (!this.#tooLarge) this.#emit('error', error);
  }

  /**
   * A listener that throws harms neither the client nor the other listeners, and is not silent either.
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} event
   */
  #emit(name, event) {
    for (const listener of [...this.#listeners.get(name) ?? []]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}

/** @param {string | URL} url */
function socketUrl(url) {
  const base = new URL(url, /** @type {any} */ (globalThis).location?.href);
  base.protocol = base.protocol.replace(/^http/, 'ws');
  base.hash = '';
  for (const name of ['room', 'since', 'epoch', 'session', 'token']) base.searchParams.delete(name);
  return base;
}
