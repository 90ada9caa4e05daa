/**
 * Recognises the messages that this client published. `from` is not enough: with a token it is the user, and
 * all clients of a user share it. The id of a publish also counts: the server sends it with the message.
 */

/** Publishes that are remembered besides the pending ones. */
const REMEMBERED_MAX = 5_000;
/** Client ids and users of this client that are remembered. */
const NAMES_MAX = 64;
const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/**
 * @typedef {{ epoch?: string, offset: number }} Position
 *
 * @typedef {object} Publish
 * @property {boolean} echo whether the program wants to receive the message
 * @property {boolean} isIdRandom whether the client has made up the id, so that nobody else can know it
 * @property {boolean} isStored whether the position is that of the acknowledgement
 * @property {Position | null} position the position of its message, once it is known
 * @property {(Position & { from: string })[]} strangers messages with its id and an unknown `from`, until the
 *   acknowledgement
 */

export class OwnMessages {
  /** By room and id. @type {Map<string, Publish>} */
  #publishes = new Map();
  /** Each `from` that this client has had: its client ids, its users. The last is the newest. @type {Set<string>} */
  #names = new Set();
  #max;

  /** @param {number} pendingMax publishes that may be pending at once */
  constructor(pendingMax) {
    this.#max = REMEMBERED_MAX + pendingMax;
  }

  /** To be called on every connection. @param {string} clientId */
  connected(clientId) {
    this.#addName(clientId);
  }

  /** To be called before a token is sent: its `sub` is this client's user. @param {unknown} token */
  willSend(token) {
    const user = userOf(token);
    if (user !== undefined) this.#addName(user);
  }

  /** To be called before a publish is sent. @type {(room: string, id: string, isIdRandom: boolean, echo: boolean) => void} */
  add(room, id, isIdRandom, echo) {
    this.#publishes.set(key(room, id), { echo, isIdRandom, isStored: false, position: null, strangers: [] });
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
    if (!publish) return;
    const own = publish.strangers.find((message) => message.epoch === epoch && message.offset === offset);
    if (own) this.#addName(own.from);
    Object.assign(publish, { isStored: true, position: { epoch, offset }, strangers: [] });
  }

  /**
   * Returns whether this client published a message. The position in the acknowledgement decides, but a message may
   * arrive before it. Then the first message with a random id is this client's, because nobody else knew the
   * id before. An id that the program chose may be in use by another client, of another user or of none:
   * the server compares ids only within a user or a session. For such an id `from` must match too. If the client's
   * token does not name its user, as when a proxy adds the token, the first acknowledged message shows the user.
   * Until then such a message is not own if it arrives before its acknowledgement.
   * @type {(message: { room?: string, id?: string, offset: number, from?: string }, epoch?: string) => boolean}
   */
  includes({ room, id, offset, from }, epoch) {
    if (room === undefined || id === undefined || from === undefined) return false;
    const publish = this.#publishes.get(key(room, id));
    if (!publish) return false;
    const { position, isIdRandom } = publish;
    const isOwn = position
      ? position.epoch === epoch && position.offset === offset
      : isIdRandom || this.#names.has(from);
    if (!isOwn) {
      if (!position) publish.strangers.push({ epoch, offset, from });
      return false;
    }
    publish.position = { epoch, offset };
    if (isIdRandom || publish.isStored) this.#addName(from);
    return true;
  }

  /** Returns whether the program does not want its own message. @type {(message: { room: string, id: string }) => boolean} */
  isSilent({ room, id }) {
    return this.#publishes.get(key(room, id))?.echo === false;
  }

  /** @param {string} name */
  #addName(name) {
    this.#names.delete(name);
    this.#names.add(name);
    if (this.#names.size > NAMES_MAX) this.#names.delete([...this.#names][0]);
  }
}

/**
 * Returns the user that a token names. The server takes a whole number as a text.
 * @param {unknown} token
 * @returns {string | undefined}
 */
function userOf(token) {
  try {
    const { sub } = JSON.parse(decodeBase64Url(String(token).split('.')[1]));
    if (typeof sub === 'string') return sub;
    return Number.isSafeInteger(sub) ? String(sub) : undefined;
  } catch {
    return undefined; // The server refuses it.
  }
}

/**
 * Returns the text of bytes in base64url. Hermes had neither `atob` nor `TextDecoder` for years.
 * @param {string} encoded
 */
function decodeBase64Url(encoded) {
  const bits = Array.from(encoded, (digit) => BASE64URL.indexOf(digit).toString(2).padStart(6, '0')).join('');
  const bytes = bits.match(/.{8}/g) ?? [];
  return decodeURIComponent(bytes.map((byte) => `%${parseInt(byte, 2).toString(16).padStart(2, '0')}`).join(''));
}

/** Room names have no spaces. @type {(room: string, id: string) => string} */
function key(room, id) {
  return `${room} ${id}`;
}
