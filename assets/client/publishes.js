/**
 * The publishes that are not acknowledged yet: sent in order, sent again after a disconnection under the
 * same id, and rejected with an error that says whether they may have been published.
 */

import { WscastError, rejected } from './error.js';
import { byteLength } from './text.js';
import { startTimer } from './timer.js';

/** Publishes in flight at once. After an outage at most this many are sent again. */
const IN_FLIGHT_MAX = 100;
/**
 * The server recognises a repeated id for five minutes. The last of these minutes is reserved for the time that
 * the repeated publish takes to arrive.
 */
const RESEND_WITHIN_MS = 4 * 60_000;
/** The pause after a temporary refusal without `retry_after_ms`. */
const RETRY_AFTER_MS = 1_000;
/** The server's limit: a year. */
const TTL_SECONDS_MAX = 31_536_000;
/** Temporary refusals: the publish is sent again. */
const TEMPORARY = new Set(['storage_unavailable', 'rate_limited', 'shutting_down']);
/** Refusals of a frame that the server could not read. They have no id if it could not read that either. */
const UNREADABLE = new Set([
  'invalid_json', 'not_an_object', 'too_deep', 'duplicate_field', 'invalid_field', 'invalid_id', 'binary_unsupported',
]);

/**
 * The position at which a publish was stored.
 * @typedef {{ room: string, epoch: string, offset: number }} Stored
 *
 * @typedef {object} Publish
 * @property {string} id
 * @property {string} room
 * @property {string} text its frame
 * @property {number} until when it times out, in Unix milliseconds
 * @property {number | null} firstSent when it may first have reached the server
 * @property {boolean} mayBeStored whether an earlier attempt may have stored it without an acknowledgement
 * @property {string | undefined} epoch the room's epoch when it was first sent
 * @property {any} timer
 * @property {(stored: Stored) => void} resolve
 * @property {(error: WscastError) => void} reject
 *
 * @typedef {object} PublishOptions
 * @property {number} max publishes that may be pending
 * @property {number} timeout milliseconds for each
 * @property {import('./own.js').OwnMessages} own
 * @property {() => number} now
 * @property {(text: string) => boolean} send
 * @property {(room: string) => { isMember: boolean, epoch?: string } | undefined} room returns a wanted room
 */

/**
 * Returns the field of a message that leaves the history after `ttl` seconds.
 * @param {number | undefined} ttl
 * @param {string} room
 */
function ttlField(ttl, room) {
  if (ttl === undefined) return '';
  if (Number.isInteger(ttl) && ttl >= 1 && ttl <= TTL_SECONDS_MAX) return `,"ttl":${ttl}`;
  throw new WscastError('invalid_field', `ttl must be a whole number of seconds, 1 to ${TTL_SECONDS_MAX}`, { room });
}

/** @type {(publish: { type: string, room: string, id: string, ttl?: number, echo: boolean, payload: string }) => string} */
export function publishFrame({ type, room, id, ttl, echo, payload }) {
  const wish = ttlField(ttl, room) + (echo === false ? ',"echo":false' : '');
  return `{"type":"${type}","room":${JSON.stringify(room)},"id":${JSON.stringify(id)}${wish},"payload":${payload}}`;
}

export class PublishQueue {
  #options;
  /** By id, in the order of the calls. @type {Map<string, Publish>} */
  #pending = new Map();
  /** The publishes that this connection has sent and that have no reply yet, in the order of sending. @type {Set<Publish>} */
  #inFlight = new Set();
  /** Refusals without an id whose publishes are not known yet, see `refusedUnread`. @type {WscastError[]} */
  #unread = [];
  #pausedUntil = 0;
  /** @type {any} */ #pauseTimer = undefined;

  /** @param {PublishOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get size() {
    return this.#pending.size;
  }

  /**
   * @param {{ id: string, isIdRandom: boolean, echo: boolean, room: string, text: string }} publish
   * @returns {Promise<Stored>}
   */
  add({ id, isIdRandom, echo, room, text }) {
    const { max, timeout, now, own } = this.#options;
    if (this.#pending.size >= max) {
      return rejected('queue_full', `${max} publishes are pending already; await some of them`, { room });
    }
    if (this.#pending.has(id)) return rejected('invalid_id', `a publish with the id ${id} is pending already`, { room });
    return new Promise((resolve, reject) => {
      const timer = startTimer(() => this.#timedOut(id), timeout);
      own.add(room, id, isIdRandom, echo);
      this.#pending.set(id, {
        id, room, text, resolve, reject, timer,
        until: now() + timeout, firstSent: null, mayBeStored: false, epoch: undefined,
      });
      this.flush();
    });
  }

  /** Sends all publishes that may be sent now, those of each room in the order of the calls. */
  flush() {
    const now = this.#options.now();
    if (now < this.#pausedUntil || this.#unread.length > 0) return;
    for (const publish of this.#pending.values()) {
      if (this.#inFlight.size >= IN_FLIGHT_MAX) return;
      if (this.#inFlight.has(publish)) continue;
      const room = this.#options.room(publish.room);
      if (room && !room.isMember) continue;
      const error = this.#errorBeforeSending(publish, room, now);
      if (error) this.#reject(publish, error);
      else if (!this.#send(publish, room?.epoch, now)) return;
    }
  }

  /** @type {(publish: Publish, epoch: string | undefined, now: number) => boolean} */
  #send(publish, epoch, now) {
    if (!this.#options.send(publish.text)) return false;
    this.#inFlight.add(publish);
    publish.firstSent ??= now;
    publish.epoch ??= epoch;
    return true;
  }

  /**
   * Returns the error if the publish must not be sent any more.
   * @type {(publish: Publish, room: { epoch?: string } | undefined, now: number) => WscastError | null}
   */
  #errorBeforeSending(publish, room, now) {
    const { mayBeStored, firstSent, epoch, until } = publish;
    if (!room) return this.#errorFor(publish, 'not_in_room', 'the room was left');
    if (now >= until) return this.#errorFor(publish, 'timeout', 'no reply in time');
    if (!mayBeStored || firstSent === null) return null;
    if (now - firstSent > RESEND_WITHIN_MS) return this.#errorFor(publish, 'timeout', 'the server may have forgotten its id');
    if (epoch !== room.epoch) return this.#errorFor(publish, 'timeout', 'the server has restarted and forgotten its id');
    return null;
  }

  /** @type {(id: string, stored: Stored) => boolean} */
  acknowledged(id, stored) {
    const publish = this.#pending.get(id);
    this.#options.own.stored(id, stored);
    if (!publish) return false;
    this.#remove(publish);
    publish.resolve(stored);
    this.#rejectUnread();
    this.flush();
    return true;
  }

  /** @type {(id: string, error: WscastError) => boolean} */
  refused(id, error) {
    const publish = this.#pending.get(id);
    if (!publish) return false;
    if (TEMPORARY.has(error.code)) {
      this.#inFlight.delete(publish);
      // A store on another computer may have stored the message although its reply was lost.
      publish.mayBeStored ||= error.code === 'storage_unavailable';
      if (!publish.mayBeStored) publish.firstSent = null;
      this.#pause(error.retryAfterMs ?? RETRY_AFTER_MS);
    } else {
      this.#reject(publish, this.#errorFor(publish, error.code, error.message, error));
    }
    this.#rejectUnread();
    this.flush();
    return true;
  }

  /**
   * Handles a refusal without an id, of a frame that the server could not read. Such a frame is a publish,
   * because only a publish has content that this client did not write. Every publish in flight gets one
   * reply, and the replies to readable ones have an id. Therefore nothing more is sent until only as many are in
   * flight as there are refusals without an id: those are the refused ones. The server reads frames in the
   * order of sending, so the first refusal belongs to the first of them.
   * @param {WscastError} error
   */
  refusedUnread(error) {
    if (!UNREADABLE.has(error.code) || this.#inFlight.size === 0) return false;
    this.#unread.push(error);
    this.#rejectUnread();
    this.flush();
    return true;
  }

  #rejectUnread() {
    if (this.#inFlight.size > this.#unread.length) return;
    const errors = this.#unread.splice(0);
    for (const [index, publish] of [...this.#inFlight].entries()) {
      const { code, message } = errors[index];
      // Every attempt sends the same frame, so an earlier attempt has not stored it either.
      this.#reject(publish, new WscastError(code, message, { room: publish.room }));
    }
  }

  /**
   * Rejects the largest publish in flight. The server does not read a message that is too large, so its
   * refusal has no id. But whichever message it refused, the largest one in flight is too large as well,
   * and would be refused again after every reconnect.
   * @param {WscastError} error
   */
  tooLarge(error) {
    const sizes = [...this.#inFlight]
      .map((publish) => ({ publish, bytes: byteLength(publish.text) }))
      .sort((a, b) => b.bytes - a.bytes);
    if (sizes.length === 0) return false;
    const { publish } = sizes[0];
    this.#reject(publish, new WscastError(error.code, error.message, { room: publish.room }));
    return true;
  }

  /** The publishes in flight may or may not have been stored. */
  disconnected() {
    for (const publish of this.#inFlight) publish.mayBeStored = true;
    this.#inFlight.clear();
    this.#unread = [];
    this.#pausedUntil = 0;
    clearTimeout(this.#pauseTimer);
  }

  /** Rejects the publishes to a room that were not sent before it was left. @param {string} room */
  left(room) {
    for (const publish of this.#pending.values()) {
      if (publish.room !== room || this.#inFlight.has(publish)) continue;
      this.#reject(publish, this.#errorFor(publish, 'not_in_room', 'the room was left'));
    }
  }

  /** @param {WscastError} error */
  close(error) {
    for (const publish of this.#pending.values()) {
      this.#reject(publish, this.#errorFor(publish, error.code, error.message));
    }
    clearTimeout(this.#pauseTimer);
  }

  /** @param {string} id */
  #timedOut(id) {
    const publish = this.#pending.get(id);
    if (!publish) return;
    this.#reject(publish, this.#errorFor(publish, 'timeout', 'no reply in time'));
    // Its reply may still come, so it is no longer certain to which publish a refusal without an id belongs.
    this.#unread = [];
    this.flush();
  }

  /** @param {number} ms */
  #pause(ms) {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#options.now() + ms);
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = startTimer(() => {
      this.#pausedUntil = 0;
      this.flush();
    }, this.#pausedUntil - this.#options.now());
  }

  /** @type {(publish: Publish, error: WscastError) => void} */
  #reject(publish, error) {
    this.#remove(publish);
    if (error.code !== 'unknown_outcome') this.#options.own.remove(publish.room, publish.id);
    publish.reject(error);
  }

  /** @param {Publish} publish */
  #remove(publish) {
    clearTimeout(publish.timer);
    this.#inFlight.delete(publish);
    this.#pending.delete(publish.id);
  }

  /**
   * Returns the error for a publish: `unknown_outcome` if it may have been published, otherwise `code`.
   * @type {(publish: Publish, code: string, message: string, refusal?: WscastError) => WscastError}
   */
  #errorFor(publish, code, message, refusal) {
    const { room, mayBeStored } = publish;
    // A refusal says that the present attempt stored nothing. An earlier attempt may have.
    const unknown = mayBeStored || (this.#inFlight.has(publish) && !refusal);
    if (!unknown) return new WscastError(code, message, { room, retryAfterMs: refusal?.retryAfterMs });
    return new WscastError('unknown_outcome', `it may have been published: ${message}`, { room });
  }
}
