/**
 * Recognises the messages that this client published. `from` cannot tell: with a token it is the user, and
 * all clients of a user have it in common. But the server sends the id of a publish with its message.
 */

/** Publishes that are remembered besides the pending ones. */
const REMEMBERED_MAX = 5_000;

/** @typedef {{ epoch?: string, offset: number }} Position */

export class OwnMessages {
  /** By room and id: the position of the message, once it is known. @type {Map<string, Position | null>} */
  #positions = new Map();
  #max;

  /** @param {number} pendingMax publishes that may be pending at once */
  constructor(pendingMax) {
    this.#max = REMEMBERED_MAX + pendingMax;
  }

  /** To be called before a publish is sent. @type {(room: string, id: string) => void} */
  add(room, id) {
    this.#positions.set(key(room, id), null);
    for (const oldest of this.#positions.keys()) {
      if (this.#positions.size <= this.#max) break;
      this.#positions.delete(oldest);
    }
  }

  /** To be called if a publish was not published. @type {(room: string, id: string) => void} */
  remove(room, id) {
    this.#positions.delete(key(room, id));
  }

  /** To be called when a publish was stored. @type {(id: string, stored: Position & { room: string }) => void} */
  stored(id, { room, epoch, offset }) {
    if (this.#positions.has(key(room, id))) this.#positions.set(key(room, id), { epoch, offset });
  }

  /**
   * Whether this client published a message. A message may arrive before its acknowledgement. The first one
   * with the id is this client's, because the id is random and nobody else knew it before. Others can copy
   * the id from it, but their messages have other positions.
   * @type {(message: { room?: string, id?: string, offset: number }, epoch?: string) => boolean}
   */
  includes({ room, id, offset }, epoch) {
    if (room === undefined || id === undefined) return false;
    const position = this.#positions.get(key(room, id));
    if (position === undefined) return false;
    if (position === null) this.#positions.set(key(room, id), { epoch, offset });
    return position === null || (position.epoch === epoch && position.offset === offset);
  }
}

/** Room names have no spaces. @type {(room: string, id: string) => string} */
function key(room, id) {
  return `${room} ${id}`;
}
