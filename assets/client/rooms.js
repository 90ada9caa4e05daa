/**
 * The rooms a client is to be in and how far it knows each: what has been seen already, what is missing,
 * and the address that continues there. It sends nothing.
 */

/** An address longer than this may be refused on the way: many proxies take 4 or 8 KiB. */
const ADDRESS_CHARS_MAX = 4_000;
/** Rooms in an address: as many as a server takes by default. The others are joined afterwards. */
const ADDRESS_ROOMS_MAX = 32;
/** How often a hole is mended without anything new before it is reported. */
const MENDS_MAX = 3;

/** The server's alphabet for room names. */
const ROOM_NAME = /^[\p{Alphabetic}\p{N}._:-]{1,64}$/u;

/** @param {unknown} name */
export function isRoomName(name) {
  return typeof name === 'string' && ROOM_NAME.test(name);
}

/**
 * A place in a room's stream: offsets grow by one, a new epoch means that numbering restarted. Without
 * `epoch` the one in force is meant.
 * @typedef {{ epoch?: string, offset: number }} Position
 *
 * A room as the server describes it.
 * @typedef {{ room: string, epoch: string, offset: number, recovered: boolean, members: number }} RoomState
 *
 * Messages after `from`, up to `to`, that will not come. If the epochs differ, how many is not known, and
 * `to` is the beginning of the new one.
 * @typedef {{ room: string, from: Position, to: Position }} Gap
 *
 * What became of a room: `begun`, it was not known before; `same`, nothing was missed; `recovered`, what
 * was missed follows; `gap`; `hole`. If `mending` is set then, it must be joined again from its position.
 * @typedef {{ name: 'begun' } | { name: 'same' } | { name: 'recovered' } | { name: 'gap', gap: Gap }
 *   | { name: 'hole' }} Outcome
 */

class Room {
  /** Whether changes of its membership are wanted. */
  presence = false;
  /** Up to where it is known. @type {Position | null} */
  position = null;
  /** Whether the present connection is a member. */
  live = false;
  /** Whether any connection was. */
  wasLive = false;
  /** Whether it is being joined again because of a hole. */
  mending = false;
  /** How often, since something new came. */
  mends = 0;
  /** The last offset that came behind the hole. */
  highest = 0;

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

  /** The room, wanted from now on. @param {string} name */
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
      room.live = false;
      room.mending = false;
      room.mends = 0;
    }
  }

  /**
   * The address that continues where every room is known, as far as it holds them.
   * @param {URL} base
   * @param {Record<string, string | undefined>} others the other parameters
   * @param {boolean} narrow one room only
   */
  address(base, others, narrow) {
    const url = new URL(base);
    for (const [name, value] of Object.entries(others)) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    // `since` and `epoch` are paired with the rooms by their order, so those that have none come last.
    const rooms = [...this.#rooms.values()];
    const ordered = [...rooms.filter((room) => room.position), ...rooms.filter((room) => !room.position)];
    let address = url.href;
    for (const [index, { name, position }] of ordered.entries()) {
      if (index >= (narrow ? 1 : ADDRESS_ROOMS_MAX)) break;
      url.searchParams.append('room', name);
      if (position) {
        url.searchParams.append('since', String(position.offset));
        url.searchParams.append('epoch', position.epoch ?? '');
      }
      // One there must be: an address without a room means the lobby.
      if (index > 0 && url.href.length > ADDRESS_CHARS_MAX) break;
      address = url.href;
    }
    return address;
  }

  /**
   * A message of a room: to be delivered, to be dropped, or the first behind a hole.
   * @param {string} name
   * @param {number} offset
   * @returns {'deliver' | 'drop' | 'hole'}
   */
  take(name, offset) {
    const room = this.#rooms.get(name);
    if (!room?.live || !room.position) return 'drop';
    const next = room.position.offset + 1;
    if (offset < next) return 'drop';
    if (offset === next) {
      room.position.offset = offset;
      if (!room.mending) room.mends = 0;
      return 'deliver';
    }
    // What lies behind the hole comes again once it is mended.
    room.highest = room.mending ? Math.max(room.highest, offset) : offset;
    if (room.mending) return 'drop';
    room.mending = true;
    room.mends += 1;
    return 'hole';
  }

  /** Whether a hole is worth another attempt. @param {Room} room */
  mendable(room) {
    return room.mends <= MENDS_MAX;
  }

  /**
   * A hole that cannot be mended: what lies behind it was dropped, so it is missing too.
   * @param {Room} room
   * @returns {Gap}
   */
  giveUp(room) {
    const { epoch, offset } = /** @type {Position} */ (room.position);
    room.mending = false;
    room.mends = 0;
    room.position = { epoch, offset: Math.max(offset, room.highest) };
    return { room: room.name, from: { epoch, offset }, to: { ...room.position } };
  }

  /**
   * The server says where a room's stream starts for us.
   * @param {Room} room
   * @param {RoomState} state
   * @param {'resumed' | 'joined' | Position} how whether it was told where our knowledge ends; a position
   *   is what somebody asked for, whatever we know
   * @returns {Outcome}
   */
  settle(room, state, how) {
    const { live } = room;
    const known = typeof how === 'object' ? how : room.position;
    room.live = true;
    room.wasLive = true;
    if (how === 'joined' && live && room.mending) return { name: 'same' };
    const same = known && (known.epoch ?? state.epoch) === state.epoch;
    if (how === 'joined' && live && same) {
      if (state.offset <= known.offset) return { name: 'same' };
      room.highest = state.offset;
      room.mending = true;
      room.mends += 1;
      return { name: 'hole' };
    }
    room.mending = false;
    if (same && state.recovered && state.offset <= known.offset) {
      if (typeof how === 'object') room.position = { epoch: state.epoch, offset: state.offset };
      else known.epoch = state.epoch;
      return { name: 'recovered' };
    }
    room.position = { epoch: state.epoch, offset: state.offset };
    if (!known) return { name: 'begun' };
    if (same && state.offset === known.offset) return { name: 'same' };
    if (!same && state.offset > 0) {
      // All of the new numbering was missed, and what the server has of it can still be had.
      room.position.offset = 0;
      room.highest = state.offset;
      room.mending = true;
      room.mends += 1;
    }
    return { name: 'gap', gap: { room: room.name, from: { ...known }, to: { ...room.position } } };
  }
}
