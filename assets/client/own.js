/**
 * Recognises the messages that this client published. `from` is not enough: with a token it is the user, and
 * all clients of a user share it. The id of a publish also counts: the server sends it with the message.
 */

/** Publishes that are remembered besides the pending ones. */
const REMEMBERED_MAX = 5_000;
/** Client ids of earlier connections that are remembered. */
const CLIENT_IDS_MAX = 64;
/** A client id, which is the `from` of a client without a user. */
const CLIENT_ID = /^c[\da-f]{8}-\d+$/;

/**
 * @typedef {{ epoch?: string, offset: number }} Position
 *
 * @typedef {object} Publish
 * @property {boolean} isIdRandom whether the client has made up the id, so that nobody else can know it
 * @property {boolean} isStored whether the position is that of the acknowledgement
 * @property {Position | null} position the position of its message, once it is known
 */

export class OwnMessages {
  /** By room and id. @type {Map<string, Publish>} */
  #publishes = new Map();
  /** The client ids of this connection and the earlier ones. @type {string[]} */
  #clientIds = [];
  /** This client's user, or null for none, once a message has shown it. @type {string | null | undefined} */
  #user;
  #max;

  /** @param {number} pendingMax publishes that may be pending at once */
  constructor(pendingMax) {
    this.#max = REMEMBERED_MAX + pendingMax;
  }

  /** To be called on every connection, which may have another user. @param {string} clientId */
  connected(clientId) {
    this.#user = undefined;
    this.#clientIds.push(clientId);
    if (this.#clientIds.length > CLIENT_IDS_MAX) this.#clientIds.shift();
  }

  /** To be called before a publish is sent. @type {(room: string, id: string, isIdRandom: boolean) => void} */
  add(room, id, isIdRandom) {
    this.#publishes.set(key(room, id), { isIdRandom, isStored: false, position: null });
    for (const oldest of this.#publishes.keys()) {
      if (this.#publishes.size <= this.#max) break;
      this.#publishes.delete(oldest);
    }
  }

  /** To be called if a publish was not published. @type {(room: string, id: string) => void} */
  remove(room, id) {
    this.#publishes.delete(key(room, id));
  }

  /** To be called when a publish was stored. @type {(id: string, stored: Position & { room: string }) => void} */
  stored(id, { room, epoch, offset }) {
    const publish = this.#publishes.get(key(room, id));
    if (publish) Object.assign(publish, { isStored: true, position: { epoch, offset } });
  }

  /**
   * Returns whether this client published a message. The position in the acknowledgement decides, but a message may
   * arrive before it. Then the first message with a random id is this client's, because nobody else knew the
   * id before. An id that the program chose may be in use by another client, of another user or of none:
   * the server compares ids only within a user or a session. For such an id `from` must match too.
   * @type {(message: { room?: string, id?: string, offset: number, from?: string }, epoch?: string) => boolean}
   */
  includes({ room, id, offset, from }, epoch) {
    if (room === undefined || id === undefined || from === undefined) return false;
    const publish = this.#publishes.get(key(room, id));
    if (!publish) return false;
    const { position, isIdRandom } = publish;
    const isOwn = position
      ? position.epoch === epoch && position.offset === offset
      : isIdRandom || this.#mayBeFrom(from);
    if (!isOwn) return false;
    publish.position = { epoch, offset };
    if (isIdRandom || publish.isStored) this.#user = CLIENT_ID.test(from) ? null : from;
    return true;
  }

  /** Returns whether `from` can be this client. @param {string} from */
  #mayBeFrom(from) {
    if (CLIENT_ID.test(from)) return this.#clientIds.includes(from);
    return this.#user === undefined || this.#user === from;
  }
}

/** Room names have no spaces. @type {(room: string, id: string) => string} */
function key(room, id) {
  return `${room} ${id}`;
}
