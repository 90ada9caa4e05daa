/**
 * The publishes that are not acknowledged yet: sent in order, sent again after a disconnection under the
 * same id, and rejected with an error that says whether they may have been published.
 */

import { WscastError, rejected } from './error.js';
import { byteLength } from './text.js';
import { startTimer } from './timer.js';

/** Publishes in flight at once, and so the most that an outage repeats. */
const IN_FLIGHT_MAX = 100;
/**
 * The server recognises a repeated id for five minutes. The last minute of them is left for the repeated
 * publish to arrive in.
 */
const RESEND_WITHIN_MS = 4 * 60_000;
/** The pause after a temporary refusal without `retry_after_ms`. */
const RETRY_AFTER_MS = 1_000;
/** Temporary refusals: the publish is sent again. */
const TEMPORARY = new Set(['storage_unavailable', 'rate_limited', 'shutting_down']);

/**
 * The position at which a publish was stored.
 * @typedef {{ room: string, epoch: string, offset: number }} Stored
 *
 * @typedef {object} Publish
 * @property {string} id
 * @property {string} room
 * @property {string} text its frame
 * @property {number} until when it times out, in Unix milliseconds
 * @property {boolean} inFlight whether the present connection has sent it
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
 * @property {() => number} now
 * @property {(text: string) => boolean} send
 * @property {(room: string) => { isMember: boolean, epoch?: string } | undefined} room returns a wanted room
 */

export class PublishQueue {
  #options;
  /** By id, in the order of the calls. @type {Map<string, Publish>} */
  #pending = new Map();
  #inFlight = 0;
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
   * @param {{ id: string, room: string, text: string }} publish
   * @returns {Promise<Stored>}
   */
  add({ id, room, text }) {
    const { max, timeout, now } = this.#options;
    if (this.#pending.size >= max) {
      return rejected('queue_full', `${max} publishes are pending already; await some of them`, { room });
    }
    if (this.#pending.has(id)) return rejected('invalid_id', `a publish with the id ${id} is pending already`, { room });
    return new Promise((resolve, reject) => {
      const timer = startTimer(() => this.#timedOut(id), timeout);
      this.#pending.set(id, {
        id, room, text, resolve, reject, timer,
        until: now() + timeout, inFlight: false, firstSent: null, mayBeStored: false, epoch: undefined,
      });
      this.flush();
    });
  }

  /** Sends all publishes that may be sent now, those of each room in the order of the calls. */
  flush() {
    const now = this.#options.now();
    if (now < this.#pausedUntil) return;
    for (const publish of this.#pending.values()) {
      if (this.#inFlight >= IN_FLIGHT_MAX) return;
      if (publish.inFlight) continue;
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
    publish.inFlight = true;
    publish.firstSent ??= now;
    publish.epoch ??= epoch;
    this.#inFlight += 1;
    return true;
  }

  /**
   * Returns the error if the publish must not be sent any more.
   * @type {(publish: Publish, room: { epoch?: string } | undefined, now: number) => WscastError | null}
   */
  #errorBeforeSending(publish, room, now) {
    const { mayBeStored, firstSent, epoch, until } = publish;
    if (!room) return errorFor(publish, 'not_in_room', 'the room was left');
    if (now >= until) return errorFor(publish, 'timeout', 'no reply in time');
    if (!mayBeStored || firstSent === null) return null;
    if (now - firstSent > RESEND_WITHIN_MS) return errorFor(publish, 'timeout', 'the server may have forgotten its id');
    if (epoch !== room.epoch) return errorFor(publish, 'timeout', 'the server has restarted and forgotten its id');
    return null;
  }

  /** @type {(id: string, stored: Stored) => boolean} */
  acknowledged(id, stored) {
    const publish = this.#pending.get(id);
    if (!publish) return false;
    this.#remove(publish);
    publish.resolve(stored);
    this.flush();
    return true;
  }

  /** @type {(id: string, error: WscastError) => boolean} */
  refused(id, error) {
    const publish = this.#pending.get(id);
    if (!publish) return false;
    if (TEMPORARY.has(error.code)) {
      this.#setNotInFlight(publish);
      // A store on another computer may have stored the message although its reply was lost.
      publish.mayBeStored ||= error.code === 'storage_unavailable';
      if (!publish.mayBeStored) publish.firstSent = null;
      this.#pause(error.retryAfterMs ?? RETRY_AFTER_MS);
    } else {
      this.#reject(publish, errorFor(publish, error.code, error.message, error));
      this.flush();
    }
    return true;
  }

  /**
   * Rejects the largest publish in flight. The server does not read a message that is too large, so its
   * refusal has no id. But whichever message it refused, the largest one in flight is too large as well,
   * and would be refused again after every reconnect.
   * @param {WscastError} error
   */
  tooLarge(error) {
    const sizes = [...this.#pending.values()]
      .filter((publish) => publish.inFlight)
      .map((publish) => ({ publish, bytes: byteLength(publish.text) }))
      .sort((a, b) => b.bytes - a.bytes);
    if (sizes.length === 0) return false;
    const { publish } = sizes[0];
    this.#reject(publish, new WscastError(error.code, error.message, { room: publish.room }));
    return true;
  }

  /** The publishes in flight may or may not have been stored. */
  disconnected() {
    for (const publish of this.#pending.values()) {
      if (!publish.inFlight) continue;
      this.#setNotInFlight(publish);
      publish.mayBeStored = true;
    }
    this.#pausedUntil = 0;
    clearTimeout(this.#pauseTimer);
  }

  /** Rejects the publishes to a room that were not sent before it was left. @param {string} room */
  left(room) {
    for (const publish of this.#pending.values()) {
      if (publish.room === room && !publish.inFlight) this.#reject(publish, errorFor(publish, 'not_in_room', 'the room was left'));
    }
  }

  /** @param {WscastError} error */
  close(error) {
    for (const publish of this.#pending.values()) {
      this.#reject(publish, errorFor(publish, error.code, error.message));
    }
    clearTimeout(this.#pauseTimer);
  }

  /** @param {string} id */
  #timedOut(id) {
    const publish = this.#pending.get(id);
    if (!publish) return;
    this.#reject(publish, errorFor(publish, 'timeout', 'no reply in time'));
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
    publish.reject(error);
  }

  /** @param {Publish} publish */
  #remove(publish) {
    clearTimeout(publish.timer);
    this.#setNotInFlight(publish);
    this.#pending.delete(publish.id);
  }

  /** @param {Publish} publish */
  #setNotInFlight(publish) {
    if (publish.inFlight) this.#inFlight -= 1;
    publish.inFlight = false;
  }
}

/**
 * Returns the error for a publish: `unknown_outcome` if it may have been published, otherwise `code`.
 * @type {(publish: Publish, code: string, message: string, refusal?: WscastError) => WscastError}
 */
function errorFor({ room, inFlight, mayBeStored }, code, message, refusal) {
  // A refusal says that the present attempt stored nothing. An earlier attempt may have.
  const unknown = mayBeStored || (inFlight && !refusal);
  if (!unknown) return new WscastError(code, message, { room, retryAfterMs: refusal?.retryAfterMs });
  return new WscastError('unknown_outcome', `it may have been published: ${message}`, { room });
}
