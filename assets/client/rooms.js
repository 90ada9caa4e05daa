/**
 * The rooms that a client wants to be in, and the last message received of each. This file detects duplicate
 * and missing messages, and builds the address that resumes every room. It sends nothing.
 */

import { parameter, withParameters } from './address.js';

/** Many proxies refuse addresses longer than 4 or 8 KiB. */
const ADDRESS_CHARS_MAX = 4_000;
/** A server accepts this many rooms in an address by default. The other rooms are joined afterwards. */
const ADDRESS_ROOMS_MAX = 32;
/** Requests for missing messages without any new message, after which the messages are reported as lost. */
const REFETCHES_MAX = 3;

/**
 * Returns a room's name in Unicode's normal form C, in which the server compares and sends names.
 * @template Name
 * @param {Name} name
 * @returns {Name}
 */
export function normalRoomName(name) {
  return typeof name === 'string' ? /** @type {any} */ (name.normalize('NFC')) : name;
}

/** The server has the same rule. @param {unknown} name */
export function isRoomName(name) {
  if (typeof name !== 'string' || !ROOM_NAME) return typeof name === 'string' && /^[^\s/]+$/.test(name);
  if (name.startsWith('@:')) return ENCODED_USER.test(name);
  const normal = normalRoomName(name);
  const word = normal.startsWith('@') ? normal.slice(1).replace(/@/g, '.') : normal;
  return [...word].length <= ROOM_NAME_CHARS_MAX && ROOM_NAME.test(word.replace(JOINER, '$1'));
}

/** The room of a user whose name is no room name. Only the server checks which user it is. */
const ENCODED_USER = /^@:[\w-]{2,171}$/;

const ROOM_NAME_CHARS_MAX = 64;
const ROOM_NAME = roomNamePattern();
/** A joiner inside a word of Arabic, Syriac, Mongolian, or a script of the Indic family, which spell with joiners. */
const JOINER = joinerPattern();

/**
 * Matches separators, and letters and digits of any script, each with its marks and a sign that its script spells
 * with. `null` in old versions of Hermes, the engine of React Native, which do not know `\p`. There only the server
 * checks names.
 */
function roomNamePattern() {
  try {
    // Marks that show nothing alone, of Brahmi, Egyptian, Khitan, Duployan and SignWriting.
    const hidden = '\\u{1107f}\\u{13440}\\u{16fe4}\\u{1bc9d}\\u{1da9b}-\\u{1daaf}';
    const letter = '(?!\\p{M}|\\p{DI})[\\p{Alphabetic}\\p{N}]';
    const mark = `(?![\\p{DI}${hidden}])\\p{M}`;
    return new RegExp(`^(?:[._:-]|${letter}(?:${mark})*[\\u00b7\\u05f3\\u05f4\\u0f0b\\u30fb]?)+$`, 'u');
  } catch {
    return null;
  }
}

function joinerPattern() {
  const letter = '[\\u0600-\\u109f\\u1780-\\u18af\\u1a00-\\u1cff\\ua800-\\uabff\\ufb50-\\ufdff\\ufe70-\\ufefc\\u{10a00}-\\u{11fff}]';
  return new RegExp(`(${letter})[\\u200c\\u200d](?=${letter})`, 'gu');
}

/**
 * A position in a room: offsets grow by one, and a new epoch means that the numbering restarted. Without
 * `epoch` it is a position in the current numbering.
 * @typedef {{ epoch?: string, offset: number }} Position
 *
 * The server's description of a room. With `live_after`, the newest stored messages follow up to this offset.
 * Messages that the store no longer has are left out.
 * @typedef {{ room: string, epoch: string, offset: number, recovered: boolean, members: number,
 *   live_after?: number }} RoomState
 *
 * The messages after `from` up to `to` are lost. If the epochs differ, their number is not known, and `to`
 * is the start of the new numbering.
 * @typedef {{ room: string, from: Position, to: Position }} Gap
 *
 * The result of joining a room. `new`: the client did not know the room. `unchanged`: nothing was missed.
 * `recovered`: the missed messages follow. `gap`: messages are lost. `missing`: messages must be refetched.
 * @typedef {{ name: 'new' } | { name: 'unchanged' } | { name: 'recovered' } | { name: 'gap', gap: Gap }
 *   | { name: 'missing' }} Outcome
 */

class Room {
  /** Whether the program wants `presence` events. */
  presence = false;
  /** The number of stored messages that the program wants on joining. @type {number | undefined} */
  last = undefined;
  /** Up to this offset messages may be left out. */
  liveAfter = 0;
  /** The state that this client shows to the members, as JSON; `undefined` for nothing. @type {unknown} */
  state = undefined;
  /** The last message that was received, or the start. @type {Position | null} */
  position = null;
  /** Whether this client is a member on the current connection. */
  isMember = false;
  /** Whether this client was a member on any connection. */
  wasMember = false;
  /** Whether the room is being joined again to get missing messages. */
  refetching = false;
  /** Refetches since a new message was received. */
  refetches = 0;
  /** The highest offset that was dropped because messages before it are missing. */
  highestDropped = 0;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }
}

export class Rooms {
  /** In the order in which they were wanted. @type {Map<string, Room>} */
  #rooms = new Map();

  names() {
    return [...this.#rooms.keys()];
  }

  get size() {
    return this.#rooms.size;
  }

  /** @param {string} name */
  get(name) {
    return this.#rooms.get(name);
  }

  /** Returns the room, and adds it if it is new. @param {string} name */
  want(name) {
    const room = this.#rooms.get(name) ?? new Room(name);
    this.#rooms.set(name, room);
    return room;
  }

  /** @param {string} name */
  forget(name) {
    return this.#rooms.delete(name);
  }

  disconnected() {
    for (const room of this.#rooms.values()) {
      room.isMember = false;
      room.refetching = false;
      room.refetches = 0;
    }
  }

  /**
   * Returns the address that resumes every room from its position, for as many rooms as fit.
   * @param {string} base
   * @param {boolean} narrow one room only
   */
  address(base, narrow) {
    // The server pairs `since` and `epoch` with the rooms by their order, so rooms without a position come last.
    const rooms = [...this.#rooms.values()];
    const ordered = [...rooms.filter((room) => room.position), ...rooms.filter((room) => !room.position)];
    // `last` counts for all rooms in the address. Rooms with another one are joined afterwards.
    const last = ordered[0]?.last;
    const alike = ordered.filter((room) => room.last === last);
    let address = last === undefined ? base : withParameters(base, [parameter('last', String(last))]);
    for (const [index, { name, position }] of alike.entries()) {
      if (index >= (narrow ? 1 : ADDRESS_ROOMS_MAX)) break;
      const parameters = [parameter('room', name)];
      if (position) parameters.push(parameter('since', String(position.offset)), parameter('epoch', position.epoch ?? ''));
      const longer = withParameters(address, parameters);
      // The first room is always in the address, because an address without a room means the lobby.
      if (index > 0 && longer.length > ADDRESS_CHARS_MAX) break;
      address = longer;
    }
    return address;
  }

  /**
   * Returns what to do with a message of a room. `missing`: drop it, and refetch from before it.
   * @param {string} name
   * @param {number} offset
   * @returns {'deliver' | 'drop' | 'missing'}
   */
  accept(name, offset) {
    const room = this.#rooms.get(name);
    if (!room?.isMember || !room.position) return 'drop';
    const next = room.position.offset + 1;
    if (offset < next) return 'drop';
    if (offset === next || offset <= room.liveAfter + 1) {
      room.position.offset = offset;
      if (!room.refetching) room.refetches = 0;
      return 'deliver';
    }
    // The refetch delivers this message again, after the missing ones.
    room.highestDropped = room.refetching ? Math.max(room.highestDropped, offset) : offset;
    if (room.refetching) return 'drop';
    room.refetching = true;
    room.refetches += 1;
    return 'missing';
  }

  /** Returns whether another refetch may help. @param {Room} room */
  canRefetch(room) {
    return room.refetches <= REFETCHES_MAX;
  }

  /**
   * Stops refetching. Later messages were dropped in the meantime, so they are lost too.
   * @param {Room} room
   * @returns {Gap}
   */
  giveUp(room) {
    const { epoch, offset } = /** @type {Position} */ (room.position);
    room.refetching = false;
    room.refetches = 0;
    room.position = { epoch, offset: Math.max(offset, room.highestDropped) };
    return { room: room.name, from: { epoch, offset }, to: { ...room.position } };
  }

  /**
   * Applies the server's description of a room that this client has just joined.
   * @param {Room} room
   * @param {RoomState} state
   * @param {'resumed' | 'joined' | Position} how `resumed`: from the room's position. `joined`: without a
   *   position. A position: from there, because the program asked for it.
   * @returns {Outcome}
   */
  joined(room, state, how) {
    const { isMember } = room;
    const known = typeof how === 'object' ? how : room.position;
    room.isMember = true;
    room.wasMember = true;
    if (how === 'joined' && isMember && room.refetching) return { name: 'unchanged' };
    const same = known && (known.epoch ?? state.epoch) === state.epoch;
    if (how === 'joined' && isMember && same) {
      if (state.offset <= known.offset) return { name: 'unchanged' };
      room.highestDropped = state.offset;
      room.refetching = true;
      room.refetches += 1;
      return { name: 'missing' };
    }
    room.refetching = false;
    room.liveAfter = state.live_after ?? 0;
    if (same && state.recovered && state.offset <= known.offset) {
      if (typeof how === 'object') room.position = { epoch: state.epoch, offset: state.offset };
      else known.epoch = state.epoch;
      return { name: 'recovered' };
    }
    room.position = { epoch: state.epoch, offset: state.offset };
    if (!known) return { name: 'new' };
    if (same && state.offset === known.offset) return { name: 'unchanged' };
    if (!same && state.offset > 0 && state.live_after === undefined) {
      // All messages of the new numbering were missed. The server may still have them.
      room.position.offset = 0;
      room.highestDropped = state.offset;
      room.refetching = true;
      room.refetches += 1;
    }
    return { name: 'gap', gap: { room: room.name, from: { ...known }, to: { ...room.position } } };
  }
}
