/** Makes the memberships what they are to be, on every connection anew, and mends holes. */

import { WscastError } from './base.js';
import { Rooms, isRoomName } from './rooms.js';

/** Rooms at once; a server takes 32 of one connection unless it is told otherwise. */
const ROOMS_MAX = 1_000;
/** A room that the server does not take back now is tried again after this. */
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

  /** @param {{ requests: Requests, emit: Emit, onForgotten: (room: string) => void }} options */
  constructor({ requests, emit, onForgotten }) {
    this.#requests = requests;
    this.#emit = emit;
    this.#onForgotten = onForgotten;
  }

  // What is wanted

  /** A room is to be joined, now or with the next connection. @param {WantedRoom} wanted */
  want(wanted) {
    const { room: name, since, epoch, presence } = typeof wanted === 'string' ? { room: wanted } : wanted;
    if (!isRoomName(name)) throw new WscastError('invalid_room', `${name} is no room name: 1 to 64 letters, digits or . _ - :`);
    if (this.rooms.size >= ROOMS_MAX && !this.rooms.get(name)) {
      throw new WscastError('too_many_rooms', `leave a room first; a client may be in ${ROOMS_MAX}`, { room: name });
    }
    const room = this.rooms.want(name);
    room.presence = presence ?? room.presence;
    if (since !== undefined && !room.live) room.position = { offset: since, epoch };
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
    const { room, since, epoch } = wanted;
    return this.#ask(room, { why: 'user', since: since === undefined ? undefined : { offset: since, epoch } });
  }

  /** @param {string} name */
  forget(name) {
    this.rooms.forget(name);
    for (const { id, join } of this.#requests.joins(name)) {
      if (join.why === 'user') this.#requests.fail(id, new WscastError('left', 'the room was left', { room: name }));
      else this.#requests.take(id);
    }
    this.#onForgotten(name);
  }

  /** @type {(room: string, join: Join) => Promise<RoomState>} */
  #ask(room, join) {
    return this.#requests.ask({ type: 'join', room, join, fields: () => this.#fields(room, join) });
  }

  /** A join on the client's own account. @type {(room: string, why: Join['why']) => void} */
  #joinAgain(room, why) {
    this.#ask(room, { why }).catch(() => {}); // `failed` deals with it.
  }

  /** @type {(name: string, join: Join) => object} */
  #fields(name, join) {
    const room = this.rooms.get(name);
    const since = join.since ?? (room?.live && !room.mending ? undefined : room?.position);
    join.resumes = Boolean(since);
    return { since: since?.offset, epoch: since?.epoch, presence: room?.presence || undefined };
  }

  // The connection

  /** @type {(base: URL, others: Record<string, string | undefined>, narrow: boolean) => string} */
  address(base, others, narrow) {
    for (const { join } of this.#requests.joins()) join.inAddress = true;
    return this.rooms.address(base, others, narrow);
  }

  /** Before the requests are told. */
  disconnected() {
    clearTimeout(this.#rejoinTimer);
    this.rooms.disconnected();
    for (const { room, sent, join } of this.#requests.joins()) {
      const known = this.rooms.get(room);
      if (join.since && known && sent) known.position = { ...join.since };
      join.inAddress = false;
    }
  }

  /** The rooms the welcome says that we are in. @param {RoomState[]} states */
  welcomed(states) {
    for (const state of states) {
      const room = this.rooms.get(state.room);
      const joins = this.#requests.joins(state.room);
      if (!room) {
        this.#leave(state.room);
      } else if (!joins.some(({ join }) => join.since && !join.inAddress)) {
        this.#entered(state, 'resumed');
        for (const { id } of joins) this.#requests.settle(id, state);
        if (room.presence) this.#joinAgain(state.room, 'watch');
      }
    }
    this.#requests.sendAll();
    this.#rejoin();
  }

  /** Joins the rooms that are wanted and that nothing has asked for on this connection. */
  #rejoin() {
    const asked = new Set(this.#requests.joins().map(({ room }) => room));
    for (const name of this.rooms.names()) {
      if (!this.rooms.get(name)?.live && !asked.has(name)) this.#joinAgain(name, 'rejoin');
    }
  }

  /** @param {string} room */
  #leave(room) {
    this.#requests.ask({ type: 'leave', room }).catch(() => {});
  }

  // Answers

  /** @type {(id: string, state: RoomState) => void} */
  joined(id, state) {
    const request = this.#requests.take(id);
    if (!request?.join) {
      // Given up meanwhile, and nobody wants it.
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
    const { live, mends } = room;
    const outcome = this.rooms.settle(room, state, how);
    if (room.mends > mends) this.mend(state.room);
    if (!live) this.#emit('joined', state);
    if (outcome.name === 'gap') this.#emit('gap', outcome.gap);
    if (outcome.name === 'recovered') this.#emit('recovered', state);
  }

  /** A message did not come: the room is joined again from before it. @param {string} name */
  mend(name) {
    const room = this.rooms.get(name);
    if (!room) return;
    if (this.rooms.mendable(room)) this.#joinAgain(name, 'mend');
    else this.#emit('gap', this.rooms.giveUp(room));
  }

  /** A join was refused or not answered. @type {(request: Request, error: WscastError) => void} */
  failed({ room: name = '', join }, error) {
    const room = this.rooms.get(name);
    if (!room || !join) return;
    if (join.why === 'mend' && room.mending) this.#emit('gap', this.rooms.giveUp(room));
    if (join.why === 'watch') this.#emit('error', error);
    if (room.live) return;
    if (!room.wasLive) {
      this.forget(name);
      this.#emit('left', { room: name, error });
      return;
    }
    // It was taken before, so this may pass; and somebody relies on it.
    if (join.why !== 'user') this.#emit('error', error);
    clearTimeout(this.#rejoinTimer);
    this.#rejoinTimer = setTimeout(() => this.#rejoin(), error.retryAfterMs ?? REJOIN_AFTER_MS);
  }
}
