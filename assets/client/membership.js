/** Joins the wanted rooms on every connection, and refetches missing messages. */

import { asksForOwnRoom } from './address.js';
import { WscastError } from './error.js';
import { Rooms, isRoomName, normalRoomName } from './rooms.js';

/** A server accepts 32 rooms for each connection by default. */
const ROOMS_MAX = 1_000;
/** A server sends this many stored messages of a room on joining. */
const LAST_MAX = 1_000;
/** The wait before the next attempt to join a room that the server has refused. */
const REJOIN_AFTER_MS = 5_000;

/**
 * @typedef {import('./rooms.js').Position} Position
 * @typedef {import('./rooms.js').RoomState} RoomState
 * @typedef {import('./requests.js').Requests} Requests
 * @typedef {import('./requests.js').Request} Request
 * @typedef {import('./requests.js').Join} Join
 * @typedef {import('./types.js').Events} Events
 * @typedef {import('./types.js').WantedRoom} WantedRoom
 * @typedef {<Name extends keyof Events>(name: Name, event: Events[Name]) => void} Emit
 */

export class Membership {
  rooms = new Rooms();
  #requests;
  #emit;
  #onForgotten;
  /** @type {any} */ #rejoinTimer = undefined;
  /** Whether the next welcome may name a room that the client does not know: that of the token's user. */
  #awaitsOwnRoom = false;
  /** Whether a welcome has named it. From then on it is a room like any other, which the program may leave. */
  #knowsOwnRoom = false;

  /** @param {{ requests: Requests, emit: Emit, onForgotten: (room: string) => void }} options */
  constructor({ requests, emit, onForgotten }) {
    this.#requests = requests;
    this.#emit = emit;
    this.#onForgotten = onForgotten;
  }

  // The rooms that the program wants

  /** Adds a room to those that every connection joins. @param {WantedRoom} wanted */
  want(wanted) {
    const { room: given, since, epoch, last, presence, state } = typeof wanted === 'string' ? { room: wanted } : wanted;
    const name = normalRoomName(given);
    if (!isRoomName(name)) {
      throw new WscastError('invalid_room', `${name} is not a room name; use 1 to 64 letters, digits or . _ - :`);
    }
    if (this.rooms.size >= ROOMS_MAX && !this.rooms.get(name)) {
      throw new WscastError('too_many_rooms', `leave a room first; a client may be in ${ROOMS_MAX}`, { room: name });
    }
    checkOffset(since, name);
    checkLast(last, name);
    const room = this.rooms.want(name);
    room.presence = presence ?? room.presence;
    room.last = last ?? room.last;
    if (state !== undefined) room.state = state ?? undefined;
    if (since !== undefined && !room.isMember) room.position = { offset: since, epoch };
  }

  /**
   * @param {WantedRoom & object} wanted
   * @returns {Promise<RoomState>}
   */
  join(wanted) {
    try {
      this.want(wanted);
    } catch (error) {
      return Promise.reject(error);
    }
    const { since, epoch } = wanted;
    const room = normalRoomName(wanted.room);
    return this.#join(room, { reason: 'program', since: since === undefined ? undefined : { offset: since, epoch } });
  }

  /**
   * Shows a state to the members of a room, on this connection and all later ones.
   * @type {(name: string, state: unknown) => Promise<any>}
   */
  show(name, state) {
    const room = this.rooms.get(name);
    if (!room) return Promise.reject(new WscastError('not_in_room', `this client is not in ${name}`, { room: name }));
    room.state = state ?? undefined;
    // A client that is not connected shows the state when it joins.
    if (!room.isMember) return Promise.resolve({ room: name });
    return this.#requests.add({ type: 'state', room: name, fields: () => ({ state: room.state ?? null }) });
  }

  /** Removes a room from those that every connection joins. @param {string} name */
  forget(name) {
    this.rooms.forget(name);
    for (const { id, join } of this.#requests.joins(name)) {
      if (join.reason === 'program') this.#requests.fail(id, new WscastError('left', 'the room was left', { room: name }));
      else this.#requests.take(id);
    }
    this.#onForgotten(name);
  }

  /** @type {(room: string, join: Join) => Promise<RoomState>} */
  #join(room, join) {
    return this.#requests.add({ type: 'join', room, join, fields: () => this.#joinFields(room, join) });
  }

  /** Joins a room for the client's own purposes. @type {(room: string, reason: Join['reason']) => void} */
  #joinAgain(room, reason) {
    this.#join(room, { reason }).catch(() => {}); // `joinFailed` handles the error.
  }

  /** @type {(name: string, join: Join) => object} */
  #joinFields(name, join) {
    const room = this.rooms.get(name);
    const since = join.since ?? (room?.isMember && !room.refetching ? undefined : room?.position);
    join.resumes = Boolean(since);
    const last = room?.isMember ? undefined : room?.last;
    return { since: since?.offset, epoch: since?.epoch, last, presence: room?.presence || undefined, state: room?.state };
  }

  // Connections

  /** @type {(base: string, narrow: boolean) => string} */
  address(base, narrow) {
    this.#awaitsOwnRoom = !this.#knowsOwnRoom && asksForOwnRoom(base);
    for (const { join } of this.#requests.joins()) join.inAddress = true;
    return this.rooms.address(base, narrow);
  }

  /** To be called before `Requests.disconnected`, which forgets whether a request was sent. */
  disconnected() {
    clearTimeout(this.#rejoinTimer);
    this.rooms.disconnected();
    for (const { room, sent, join } of this.#requests.joins()) {
      const known = this.rooms.get(room);
      if (join.since && known && sent) known.position = { ...join.since };
      join.inAddress = false;
    }
  }

  /** Handles the rooms in the welcome, which this client is a member of now. @param {RoomState[]} states */
  welcomed(states) {
    for (const state of states) {
      const room = this.rooms.get(state.room) ?? this.#wantOwn(state.room);
      const joins = this.#requests.joins(state.room);
      if (!room) {
        this.#leave(state.room);
      } else if (!joins.some(({ join }) => join.since && !join.inAddress)) {
        this.#entered(state, 'resumed');
        for (const { id } of joins) this.#requests.resolve(id, state);
        if (room.presence || room.state !== undefined) this.#joinAgain(state.room, 'presence');
      }
    }
    this.#knowsOwnRoom ||= this.#awaitsOwnRoom;
    this.#requests.sendAll();
    this.#rejoin();
  }

  /** Adds the room of the token's user, when the first welcome names it. @param {string} name */
  #wantOwn(name) {
    return this.#awaitsOwnRoom && name.startsWith('@') ? this.rooms.want(name) : undefined;
  }

  /** Joins the wanted rooms that this connection has not asked for yet. */
  #rejoin() {
    const requested = new Set(this.#requests.joins().map(({ room }) => room));
    for (const name of this.rooms.names()) {
      if (!this.rooms.get(name)?.isMember && !requested.has(name)) this.#joinAgain(name, 'rejoin');
    }
  }

  /** @param {string} room */
  #leave(room) {
    this.#requests.add({ type: 'leave', room }).catch(() => {});
  }

  // Replies

  /** @type {(id: string, state: RoomState) => void} */
  joined(id, state) {
    const request = this.#requests.take(id);
    if (!request?.join) {
      // The join timed out before this reply, and the room is no longer wanted.
      if (!this.rooms.get(state.room)) this.#leave(state.room);
      return;
    }
    const { since, resumes } = request.join;
    this.#entered(state, since ?? (resumes ? 'resumed' : 'joined'));
    request.resolve(state);
  }

  /** @type {(state: RoomState, how: 'resumed' | 'joined' | Position) => void} */
  #entered(state, how) {
    const room = this.rooms.get(state.room);
    if (!room) return;
    const { isMember, refetches } = room;
    const outcome = this.rooms.joined(room, state, how);
    if (room.refetches > refetches) this.refetch(state.room);
    if (!isMember) this.#emit('joined', state);
    if (outcome.name === 'gap') this.#emit('gap', outcome.gap);
    if (outcome.name === 'recovered') this.#emit('recovered', state);
  }

  /** Joins a room again from before the missing messages. @param {string} name */
  refetch(name) {
    const room = this.rooms.get(name);
    if (!room) return;
    if (this.rooms.canRefetch(room)) this.#joinAgain(name, 'refetch');
    else this.#emit('gap', this.rooms.giveUp(room));
  }

  /** Handles a join that was refused or timed out. @type {(request: Request, error: WscastError) => void} */
  joinFailed({ room: name = '', join }, error) {
    const room = this.rooms.get(name);
    if (!room || !join) return;
    if (join.reason === 'refetch' && room.refetching) this.#emit('gap', this.rooms.giveUp(room));
    if (join.reason === 'presence') this.#emit('error', error);
    if (room.isMember) return;
    if (!room.wasMember) {
      this.forget(name);
      this.#emit('left', { room: name, error });
      return;
    }
    // The server accepted this client in the room before, so the refusal may be temporary and the program relies on it.
    if (join.reason !== 'program') this.#emit('error', error);
    clearTimeout(this.#rejoinTimer);
    this.#rejoinTimer = setTimeout(() => this.#rejoin(), error.retryAfterMs ?? REJOIN_AFTER_MS);
  }
}

/**
 * @type {(last: unknown, room: string) => void}
 * @throws {WscastError} if it is neither undefined nor a number that the server accepts
 */
function checkLast(last, room) {
  if (last === undefined || (Number.isInteger(last) && Number(last) >= 0 && Number(last) <= LAST_MAX)) return;
  throw new WscastError('invalid_field', `last must be a whole number from 0 to ${LAST_MAX}; it is ${String(last)}`, { room });
}

/**
 * @type {(since: unknown, room: string) => void}
 * @throws {WscastError} if it is neither undefined nor an offset
 */
function checkOffset(since, room) {
  if (since === undefined || (Number.isSafeInteger(since) && Number(since) >= 0)) return;
  throw new WscastError('invalid_field', `since must be a whole number, 0 or more; it is ${String(since)}`, { room });
}
