/**
 * What is to be published: kept in order until it is acknowledged, sent again after a disconnection with
 * the same id, and given up with the truth about it.
 */

import { WscastError, byteLength, later } from './base.js';

/** Publishes that may be under way at once: an outage repeats no more than these. */
const UNDER_WAY_MAX = 100;
/**
 * The server knows an id again for five minutes (README, "Protocol"); a minute of them is left for the
 * repetition to arrive in.
 */
const RESEND_WITHIN_MS = 4 * 60_000;
/** How long nothing is sent after a refusal that names no time. */
const RETRY_AFTER_MS = 1_000;
/** Refusals that pass: the same publish is sent again. */
const PASSING = new Set(['storage_unavailable', 'rate_limited', 'shutting_down']);

/**
 * Where a publish was stored.
 * @typedef {{ room: string, epoch: string, offset: number }} Place
 *
 * @typedef {object} Publish
 * @property {string} id
 * @property {string} room
 * @property {string} text its frame
 * @property {number} until when it is given up, in Unix milliseconds
 * @property {boolean} underWay whether the present connection has sent it
 * @property {number | null} firstSent when it may first have reached the server
 * @property {boolean} doubtful whether it may have been stored without an answer that says so
 * @property {string | undefined} epoch the room's when it was first sent
 * @property {any} timer
 * @property {(place: Place) => void} resolve
 * @property {(error: WscastError) => void} reject
 *
 * @typedef {object} PublishOptions
 * @property {number} max publishes that may wait
 * @property {number} timeout milliseconds each may take
 * @property {() => number} now
 * @property {(text: string) => boolean} send
 * @property {(room: string) => { live: boolean, epoch?: string } | undefined} room what is known of a room
 *   that is wanted
 */

export class PublishQueue {
  #options;
  /** By id, in the order of the calls. @type {Map<string, Publish>} */
  #waiting = new Map();
  #underWay = 0;
  #pausedUntil = 0;
  /** @type {any} */ #pauseTimer = undefined;

  /** @param {PublishOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get size() {
    return this.#waiting.size;
  }

  /** @param {string} id */
  has(id) {
    return this.#waiting.has(id);
  }

  /**
   * @param {{ id: string, room: string, text: string }} publish
   * @returns {Promise<Place>}
   */
  add({ id, room, text }) {
    const { max, timeout, now } = this.#options;
    if (this.#waiting.size >= max) {
      const message = `${max} publishes wait already; await some of them`;
      return Promise.reject(new WscastError('queue_full', message, { room }));
    }
    if (this.#waiting.has(id)) {
      return Promise.reject(new WscastError('invalid_id', `a publish with the id ${id} waits already`, { room }));
    }
    return new Promise((resolve, reject) => {
      const timer = later(() => this.#timedOut(id), timeout);
      this.#waiting.set(id, {
        id, room, text, resolve, reject, timer,
        until: now() + timeout, underWay: false, firstSent: null, doubtful: false, epoch: undefined,
      });
      this.flush();
    });
  }

  /** Sends what may be sent now; each room's in the order of the calls. */
  flush() {
    const now = this.#options.now();
    if (now < this.#pausedUntil) return;
    for (const publish of this.#waiting.values()) {
      if (this.#underWay >= UNDER_WAY_MAX) return;
      if (publish.underWay) continue;
      const room = this.#options.room(publish.room);
      if (room && !room.live) continue;
      const hopeless = this.#hopeless(publish, room, now);
      if (hopeless) this.#reject(publish, hopeless);
      else if (!this.#send(publish, room?.epoch, now)) return;
    }
  }

  /** @type {(publish: Publish, epoch: string | undefined, now: number) => boolean} */
  #send(publish, epoch, now) {
    if (!this.#options.send(publish.text)) return false;
    publish.underWay = true;
    publish.firstSent ??= now;
    publish.epoch ??= epoch;
    this.#underWay += 1;
    return true;
  }

  /**
   * Why it cannot be sent any more, if so.
   * @type {(publish: Publish, room: { epoch?: string } | undefined, now: number) => WscastError | null}
   */
  #hopeless(publish, room, now) {
    const { doubtful, firstSent, epoch, until } = publish;
    if (!room) return refusal(publish, 'not_in_room', 'the room was left');
    if (now >= until) return refusal(publish, 'timeout', 'no answer in time');
    if (!doubtful || firstSent === null) return null;
    if (now - firstSent > RESEND_WITHIN_MS) return refusal(publish, 'timeout', 'the server may have forgotten its id');
    if (epoch !== room.epoch) return refusal(publish, 'timeout', 'the server has restarted and forgotten its id');
    return null;
  }

  /** @type {(id: string, place: Place) => boolean} */
  acknowledged(id, place) {
    const publish = this.#waiting.get(id);
    if (!publish) return false;
    this.#remove(publish);
    publish.resolve(place);
    this.flush();
    return true;
  }

  /** @type {(id: string, error: WscastError) => boolean} */
  refused(id, error) {
    const publish = this.#waiting.get(id);
    if (!publish) return false;
    if (PASSING.has(error.code)) {
      this.#notUnderWay(publish);
      // A store on another machine may have taken it and not have said so.
      publish.doubtful ||= error.code === 'storage_unavailable';
      if (!publish.doubtful) publish.firstSent = null;
      this.#pause(error.retryAfterMs ?? RETRY_AFTER_MS);
    } else {
      this.#reject(publish, refusal(publish, error.code, error.message, error));
      this.flush();
    }
    return true;
  }

  /**
   * The server could not even read which one was too large: the largest under way is, whichever else was.
   * Without this it would be sent again for ever.
   * @param {WscastError} error
   */
  tooLarge(error) {
    const sizes = [...this.#waiting.values()]
      .filter((publish) => publish.underWay)
      .map((publish) => ({ publish, bytes: byteLength(publish.text) }))
      .sort((a, b) => b.bytes - a.bytes);
    if (sizes.length === 0) return false;
    const { publish } = sizes[0];
    this.#reject(publish, new WscastError(error.code, error.message, { room: publish.room }));
    return true;
  }

  /** What was under way may have been published, and may not. */
  disconnected() {
    for (const publish of this.#waiting.values()) {
      if (!publish.underWay) continue;
      this.#notUnderWay(publish);
      publish.doubtful = true;
    }
    this.#pausedUntil = 0;
    clearTimeout(this.#pauseTimer);
  }

  /** What was not sent to a room that is left never will be. @param {string} room */
  left(room) {
    for (const publish of this.#waiting.values()) {
      if (publish.room === room && !publish.underWay) this.#reject(publish, refusal(publish, 'not_in_room', 'the room was left'));
    }
  }

  /** @param {WscastError} error */
  close(error) {
    for (const publish of this.#waiting.values()) {
      this.#reject(publish, refusal(publish, error.code, error.message));
    }
    clearTimeout(this.#pauseTimer);
  }

  /** @param {string} id */
  #timedOut(id) {
    const publish = this.#waiting.get(id);
    if (!publish) return;
    this.#reject(publish, refusal(publish, 'timeout', 'no answer in time'));
    this.flush();
  }

  /** @param {number} ms */
  #pause(ms) {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#options.now() + ms);
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = later(() => {
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
    this.#notUnderWay(publish);
    this.#waiting.delete(publish.id);
  }

  /** @param {Publish} publish */
  #notUnderWay(publish) {
    if (publish.underWay) this.#underWay -= 1;
    publish.underWay = false;
  }
}

/**
 * The error for a publish; the truth about it comes first.
 * @type {(publish: Publish, code: string, message: string, answer?: WscastError) => WscastError}
 */
function refusal({ room, underWay, doubtful }, code, message, answer) {
  // An answer to the present attempt says that this one failed; an earlier one may have succeeded.
  const unknown = doubtful || (underWay && !answer);
  if (!unknown) return new WscastError(code, message, { room, retryAfterMs: answer?.retryAfterMs });
  return new WscastError('unknown_outcome', `it may have been published: ${message}`, { room });
}
