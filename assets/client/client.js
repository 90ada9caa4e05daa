/**
 * A client of wscast that stays connected: it reconnects, resumes every room, publishes each message once,
 * and reports what it could not deliver. It runs in browsers and in Node, where it takes the WebSocket class
 * of a package if there is no global one. It needs no other package and no build step.
 *
 *     import { WscastClient } from '/assets/client.js';
 *     const client = new WscastClient('/ws', { rooms: ['lobby'] });
 *     client.on('message', ({ room, payload }) => console.log(room, payload));
 *     await client.publish('hello');
 *
 * This file has the interface for programs and handles the frames. The connection (connection.js), the
 * requests (requests.js), the rooms (membership.js, rooms.js) and the publishes (publishes.js) have files
 * of their own.
 */

import { healthAddress, parameter, refusalParameters, webSocketAddress, withParameters } from './address.js';
import { Probe } from './browser.js';
import { Connection, connectionTimes } from './connection.js';
import { WscastError } from './error.js';
import { checkDepth, checkJson, toJson } from './json.js';
import { Listeners } from './listeners.js';
import { Membership } from './membership.js';
import { OwnMessages } from './own.js';
import { PublishQueue, publishFrame } from './publishes.js';
import { Requests } from './requests.js';
import { normalRoomName } from './rooms.js';
import { ID_BYTES_MAX, byteLength, isId, randomText } from './text.js';

export { WscastError };

const REQUEST_TIMEOUT_MS = 15_000;
const PUBLISH_TIMEOUT_MS = 60_000;
const PUBLISH_QUEUE_MAX = 1_000;
const RANDOM_BYTES = 16;
const CLOSED_FOR_GOOD = 'the server closed the connection for good';

/**
 * @typedef {import('./types.js').State} State
 * @typedef {import('./types.js').Position} Position
 * @typedef {import('./types.js').RoomState} RoomState
 * @typedef {import('./types.js').Stored} Stored
 * @typedef {import('./types.js').Options} Options
 * @typedef {import('./types.js').PublishOptions} PublishOptions
 * @typedef {import('./types.js').History} History
 * @typedef {import('./types.js').Members} Members
 * @typedef {import('./types.js').Events} Events
 */

export class WscastClient {
  /** The scope in which the server compares the ids of publishes. It is a secret. @type {string} @readonly */
  session;
  #base;
  #token;
  #tokenIn;
  /** @type {Connection} */ #connection;
  /** @type {Requests} */ #requests;
  /** @type {Membership} */ #membership;
  /** @type {PublishQueue} */ #publishes;
  #listeners = new Listeners();
  /** @type {OwnMessages} */ #own;
  /** @type {string | undefined} */ #clientId;
  /** The start of the ids of requests. A program may give its publishes any other ids. */
  #requestPrefix = randomText(RANDOM_BYTES / 2);
  #requestCount = 0;
  #closedByProgram = false;
  /** Whether a publish was already rejected for the coming close because of a message that is too large. */
  #rejectedTooLarge = false;

  /**
   * Starts to connect. Listeners that are added before the next `await` miss no event.
   * @param {string | URL} url the server's `/ws`, as `ws:`, `wss:`, `http:` or `https:`; in a browser it may
   *   be relative to the document
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    this.session = options.session ?? randomText(RANDOM_BYTES);
    this.#base = webSocketAddress(url, options.me);
    this.#token = options.token;
    this.#tokenIn = options.tokenIn ?? 'parameter';
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof WebSocket !== 'function') throw new TypeError('there is no global WebSocket; pass the option WebSocket');
    if (byteLength(this.session) < 16 || byteLength(this.session) > 128) throw new RangeError('a session must have 16 to 128 bytes');
    /** @param {string} text */
    const send = (text) => this.#connection.send(text);
    this.#requests = new Requests({
      timeout: options.requestTimeout ?? REQUEST_TIMEOUT_MS,
      nextId: () => `${this.#requestPrefix}-${(this.#requestCount += 1)}`,
      send,
      onFailed: (request, error) => { if (this.state.name !== 'closed') this.#membership.joinFailed(request, error); },
    });
    this.#membership = new Membership({
      requests: this.#requests,
      emit: (name, event) => this.#emit(name, event),
      onForgotten: (room) => this.#publishes.left(room),
    });
    const pendingMax = options.publishQueueMax ?? PUBLISH_QUEUE_MAX;
    this.#own = new OwnMessages(pendingMax);
    this.#publishes = new PublishQueue({
      max: pendingMax,
      own: this.#own,
      timeout: options.publishTimeout ?? PUBLISH_TIMEOUT_MS,
      now: options.now ?? Date.now,
      send,
      room: (name) => {
        const room = this.#rooms.get(name);
        return room && { isMember: room.isMember, epoch: room.position?.epoch };
      },
    });
    this.#connection = new Connection({
      WebSocket,
      address: (narrow) => this.#address(narrow),
      probe: new Probe(healthAddress(this.#base)),
      canRenewToken: typeof options.token === 'function',
      parse: options.parse ?? JSON.parse,
      random: options.random ?? Math.random,
      ...connectionTimes(options),
      onState: (state, welcome) => this.#stateChanged(state, welcome),
      onFrame: (frame) => this.#received(frame),
    });
    for (const wanted of options.rooms ?? (options.me ? [] : ['lobby'])) this.#membership.want(wanted);
    queueMicrotask(() => { if (!this.#closedByProgram) this.#connection.open(); });
  }

  get #rooms() {
    return this.#membership.rooms;
  }

  // The interface for programs

  get state() {
    return this.#connection.state;
  }

  /** The client id of the current or last connection. Without a token it is the `from` of this client's messages. */
  get clientId() {
    return this.#clientId;
  }

  /** The rooms that this client is in, or will be in once it is connected. */
  get rooms() {
    return this.#rooms.names();
  }

  /** Publishes that are not acknowledged yet. */
  get waiting() {
    return this.#publishes.size;
  }

  /**
   * Returns the position of the last message received of a room. `join`, or a new client, resumes from there.
   * @param {string} room
   * @returns {Position | undefined}
   */
  position(room) {
    const position = this.#rooms.get(normalRoomName(room))?.position;
    return position ? { ...position } : undefined;
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} listener
   */
  on(name, listener) {
    this.#listeners.add(name, listener);
    return this;
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} listener
   */
  off(name, listener) {
    this.#listeners.remove(name, listener);
    return this;
  }

  /**
   * Publishes a message. The promise resolves once the message is stored. A publish survives reconnects and
   * is published once. Publishes to one room keep their order, except that a publish which the server
   * refuses for the moment is stored later.
   * @param {unknown} payload any value that JSON can represent
   * @param {PublishOptions} [options]
   * @returns {Promise<Stored>}
   */
  async publish(payload, options) {
    return this.#publish(toJson(payload), options);
  }

  /**
   * Publishes a payload that is JSON text already. The text is relayed unchanged, numbers included.
   * @param {string} text
   * @param {PublishOptions} [options]
   * @returns {Promise<Stored>}
   */
  async publishJson(text, options) {
    checkJson(text);
    return this.#publish(text, options);
  }

  /**
   * Joins a room, on this connection and all later ones. With `since`, the messages after that
   * offset come first. Without it, the room resumes after the last message received, or starts now. If it cannot
   * resume, the newest `last` stored messages come first.
   * @param {string} room
   * @param {{ since?: number, epoch?: string, last?: number, presence?: boolean, state?: unknown }} [options] `presence`
   *   turns on `presence` events, `state` is shown to the members
   * @returns {Promise<RoomState>}
   */
  async join(room, { since, epoch, last, presence, state } = {}) {
    this.#checkNotClosed();
    return this.#membership.join({ room, since: since ?? undefined, epoch: epoch ?? undefined, last, presence, state });
  }

  /** Shows a state such as `{ typing: true }` to the members of a room. @type {(room: string, state: any) => Promise<any>} */
  async setState(room, state) {
    this.#checkNotClosed();
    return this.#membership.show(normalRoomName(room), state);
  }

  /**
   * Leaves a room. No more of its messages are delivered.
   * @param {string} name
   * @returns {Promise<{ room: string }>}
   */
  async leave(name) {
    const room = normalRoomName(name);
    if (!this.#rooms.get(room)) throw new WscastError('not_in_room', `this client is not in ${room}`, { room });
    this.#membership.forget(room);
    // A client that is not connected is a member of no room, and its next connection will not join this one.
    const reply = this.state.name === 'open' ? this.#requests.add({ type: 'leave', room }) : Promise.resolve({ room });
    this.#emit('left', { room });
    return reply;
  }

  /**
   * Returns stored messages of a room: those after `since`, or the newest.
   * @param {string} room
   * @param {{ since?: number, limit?: number }} [options]
   * @returns {Promise<History>}
   */
  async history(room, { since, limit } = {}) {
    return this.#request({ type: 'history', room: normalRoomName(room), fields: () => ({ since, limit }) });
  }

  /**
   * Returns the present members of a room.
   * @param {string} room
   * @returns {Promise<Members>}
   */
  async presence(room) {
    return this.#request({ type: 'presence', room: normalRoomName(room) });
  }

  /**
   * Sends the current token on the open connection.
   * @returns {Promise<any>}
   */
  async authenticate() {
    const token = await this.#currentToken();
    if (!token) throw new WscastError('no_token', 'there is no token to send');
    return this.#request({ type: 'auth', fields: () => ({ token }) });
  }

  /**
   * Returns the milliseconds until the server's reply. If no frame arrives within `heartbeatTimeout`, the client
   * gives the connection up and reconnects.
   */
  async ping() {
    this.#checkNotClosed();
    if (this.state.name !== 'open') throw new WscastError('disconnected', 'there is no connection');
    const sent = performance.now();
    this.#connection.expectFrame();
    await this.#request({ type: 'ping' });
    return performance.now() - sent;
  }

  /** Connects now, without the wait, and even if the server has closed the connection for good. */
  reconnect() {
    if (this.#closedByProgram) throw new WscastError('closed', 'this client was closed; create a new one');
    this.#connection.open();
  }

  /** Closes the client for good: pending promises are rejected, and no timer or socket keeps a process alive. */
  close() {
    if (this.#closedByProgram) return;
    this.#closedByProgram = true;
    this.#connection.close();
    this.#listeners.clear();
  }

  // The connection

  /**
   * @param {boolean} narrow
   * @returns {Promise<import('./connection.js').Address>}
   */
  async #address(narrow) {
    const token = await this.#currentToken();
    const inSubprotocol = this.#tokenIn === 'subprotocol';
    const parameters = [parameter('session', this.session), ...refusalParameters()];
    if (token && !inSubprotocol) parameters.push(parameter('token', String(token)));
    this.#own.willSend(token);
    const url = this.#membership.address(withParameters(this.#base, parameters), narrow);
    // The server chooses the first, because its response must not repeat the token.
    return token && inSubprotocol ? { url, subprotocols: ['wscast', `wscast.token.${token}`] } : { url };
  }

  async #currentToken() {
    return typeof this.#token === 'function' ? this.#token() : this.#token;
  }

  /** @type {(state: State, welcome?: any) => void} */
  #stateChanged(state, welcome) {
    if (state.name !== 'open') this.#disconnected(state);
    if (state.name === 'closed') this.#closed(state);
    this.#emit('state', state);
    if (welcome && this.state === state) this.#welcomed(welcome);
  }

  /** @param {State} state */
  #disconnected(state) {
    if ('code' in state && state.code === 1009 && !this.#rejectedTooLarge) {
      this.#publishes.tooLarge(new WscastError('message_too_large', 'the server accepts no message of this size'));
    }
    this.#rejectedTooLarge = false;
    this.#membership.disconnected();
    this.#requests.disconnected();
    this.#publishes.disconnected();
  }

  /** @param {{ reason: string }} state */
  #closed({ reason }) {
    const error = new WscastError('closed', reason || CLOSED_FOR_GOOD);
    this.#publishes.close(error);
    this.#requests.close(error);
  }

  /** @param {{ client: string, payload: any, rooms: RoomState[] }} welcome */
  #welcomed({ client, payload, rooms }) {
    this.#clientId = client;
    this.#own.connected(client);
    this.#emit('welcome', { client, payload, rooms });
    this.#membership.welcomed(rooms);
    this.#publishes.flush();
  }

  /** @throws {WscastError} */
  #checkNotClosed() {
    if (this.state.name !== 'closed') return;
    throw new WscastError('closed', this.#closedByProgram ? 'this client was closed' : this.state.reason || CLOSED_FOR_GOOD);
  }

  /** @type {(request: import('./requests.js').NewRequest) => Promise<any>} */
  #request(request) {
    this.#checkNotClosed();
    return this.#requests.add(request);
  }

  /** @type {(text: string, options?: PublishOptions) => Promise<Stored>} */
  async #publish(text, { type = 'message', room: name = this.rooms[0], id: chosenId, ttl, echo = true } = {}) {
    const room = normalRoomName(name);
    const id = chosenId === undefined ? randomText(RANDOM_BYTES) : chosenId;
    this.#checkNotClosed();
    if (type !== 'message' && type !== 'custom_event') throw new WscastError('unknown_type', `${type} cannot be published`, { room });
    if (room === undefined || !this.#rooms.get(room)) throw new WscastError('not_in_room', 'join the room first', { room });
    if (!isId(id)) throw new WscastError('invalid_id', `an id must be a text of 1 to ${ID_BYTES_MAX} bytes`, { room });
    const frame = publishFrame({ type, room, id, ttl, echo, payload: text });
    checkDepth(frame);
    return this.#publishes.add({ id, isIdRandom: chosenId === undefined, echo: echo !== false, room, text: frame });
  }

  // Frames from the server

  /** @param {any} frame */
  #received(frame) {
    const { type, id, room, payload } = frame;
    switch (type) {
      case 'message':
      case 'custom_event':
        this.#relayed(frame);
        break;
      case 'ack':
        this.#acknowledged(id, payload);
        break;
      case 'joined':
        this.#membership.joined(id, payload);
        this.#publishes.flush();
        break;
      case 'presence':
        this.#requests.resolve(id, payload);
        this.#emit('presence', { room, ...payload });
        break;
      case 'left':
      case 'state':
      case 'history':
      case 'authenticated':
      case 'pong':
        this.#requests.resolve(id, payload);
        break;
      case 'error':
        this.#refused(frame);
        break;
      case 'token_expiring': // Without a newer token the server closes the connection when the old one expires.
        if (typeof this.#token === 'function') this.authenticate().catch(() => {});
        break;
      default:
        this.#emit('other', frame);
    }
  }

  /** @type {(id: string, payload: any) => void} */
  #acknowledged(id, { echo, ...stored }) {
    // It comes in place of the message.
    if (echo === false && this.#rooms.accept(stored.room, stored.offset) === 'missing') this.#membership.refetch(stored.room);
    if (this.#publishes.acknowledged(id, stored)) this.#emit('ack', { id, ...stored });
  }

  /** @param {any} frame */
  #relayed(frame) {
    const { type, room, offset } = frame;
    const action = room === undefined ? 'deliver' : this.#rooms.accept(room, offset);
    if (action === 'missing') this.#membership.refetch(room);
    if (action !== 'deliver') return;
    const own = this.#own.includes(frame, this.#rooms.get(room)?.position?.epoch);
    if (own && this.#own.isSilent(frame)) return; // It comes from history, after a reconnect.
    this.#emit(/** @type {'message' | 'custom_event'} */ (type), { ...frame, own });
  }

  /** @param {any} frame */
  #refused({ id, payload }) {
    const error = WscastError.fromPayload(payload, this.#requests.get(id)?.room);
    if (id !== undefined && (this.#publishes.refused(id, error) || this.#requests.fail(id, error))) return;
    if (id === undefined && this.#publishes.refusedUnread(error)) return;
    if (id === undefined && error.code === 'message_too_large') this.#rejectedTooLarge = this.#publishes.tooLarge(error);
    if (!this.#rejectedTooLarge) this.#emit('error', error);
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} event
   */
  #emit(name, event) {
    this.#listeners.emit(name, event);
  }
}
