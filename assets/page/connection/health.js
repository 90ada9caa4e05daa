/**
 * How the connection and the server do: latency by pings, the server's own figures, and whether the server has
 * fallen silent. Nothing is asked while the tab is hidden.
 */

import { request } from './token.js';

const PING_EVERY_MS = 5_000;
const FIGURES_EVERY_MS = 5_000;
/** The interval while the charts are open. */
const CHARTS_EVERY_MS = 2_000;
/** Without any frame for this long after a request, the server counts as silent. */
const SILENT_AFTER_MS = 3_000;
/** The points of a chart. */
const POINTS_MAX = 150;

/**
 * @typedef {import('./frames.js').FrameLog} FrameLog
 * @typedef {{ connected_clients: number, rates: { messages_published: number, messages_delivered: number },
 *   max_message_bytes?: number, version?: string, docs?: boolean }} Figures
 */

/** The last values of a figure. */
export class Series {
  /** @type {(number | null)[]} `null` while there was no value */
  values = [];

  /** @param {number | null} value */
  add(value) {
    this.values.push(value);
    if (this.values.length > POINTS_MAX) this.values.shift();
  }

  get last() {
    return this.values.at(-1) ?? null;
  }
}

export class Health {
  clients = new Series();
  published = new Series();
  delivered = new Series();
  latency = new Series();
  /** Messages a second that this page received. */
  received = new Series();
  /** The largest message that the server accepts, once it has said so. @type {number | undefined} */
  messageBytesMax = undefined;
  version = '';
  /** Whether the server has the documentation at `docs/`. */
  hasDocs = false;
  /** Milliseconds that the server has been silent after a request, or 0. */
  silentFor = 0;
  #client;
  #frames;
  #oldestPending;
  #messages;
  #changed;
  #chartsOpen = false;
  /** When the unanswered ping was sent. */
  #pingSent = 0;
  #lastPing = -Infinity;
  #lastFigures = -Infinity;
  #receivedBefore = 0;
  #tickedAt = performance.now();

  /**
   * @param {{ client: import('../../client/client.js').WscastClient, frames: FrameLog,
   *   oldestPending: () => number | undefined, messages: () => number, changed: () => void }} options
   *   `oldestPending`: when the oldest message was sent that has no reply, by `performance.now()`. `messages`: the
   *   messages that were received since the page was opened
   */
  constructor({ client, frames, oldestPending, messages, changed }) {
    this.#client = client;
    this.#frames = frames;
    this.#oldestPending = oldestPending;
    this.#messages = messages;
    this.#changed = changed;
    setInterval(() => this.#tick(), 1_000);
    document.addEventListener('visibilitychange', () => this.#tick());
  }

  /** @param {boolean} open */
  set chartsOpen(open) {
    this.#chartsOpen = open;
    if (open) this.#tick();
  }

  /** Asks at once, for example because a new connection may lead to another server. */
  refresh() {
    this.#lastFigures = -Infinity;
    this.#lastPing = -Infinity;
    this.#pingSent = 0;
    this.#tick();
  }

  #tick() {
    const now = performance.now();
    this.#measureSilence(now);
    const seconds = (now - this.#tickedAt) / 1_000;
    if (seconds >= 0.9) {
      this.received.add((this.#messages() - this.#receivedBefore) / seconds);
      this.#receivedBefore = this.#messages();
      this.#tickedAt = now;
    }
    if (document.visibilityState === 'visible' && this.#client.state.name === 'open') {
      if (now - this.#lastPing >= PING_EVERY_MS && this.#pingSent === 0) this.#ping(now);
      const every = this.#chartsOpen ? CHARTS_EVERY_MS : FIGURES_EVERY_MS;
      if (now - this.#lastFigures >= every) this.#fetchFigures(now);
    }
    this.#changed();
  }

  /** @param {number} now */
  #measureSilence(now) {
    const asked = [this.#pingSent || undefined, this.#oldestPending()].filter((time) => time !== undefined);
    const since = Math.max(Math.min(...asked), this.#frames.lastReceived);
    const silent = this.#client.state.name === 'open' && asked.length > 0 && now - since >= SILENT_AFTER_MS;
    this.silentFor = silent ? now - since : 0;
    // The client gives up a connection whose server does not reply to a ping.
    if (silent && this.#pingSent === 0) this.#ping(now);
  }

  /** @param {number} now */
  async #ping(now) {
    this.#lastPing = now;
    this.#pingSent = now;
    try {
      this.latency.add(await this.#client.ping());
    } catch {
      this.latency.add(null);
    }
    // A refresh may have sent another one meanwhile.
    if (this.#pingSent === now) this.#pingSent = 0;
    this.#changed();
  }

  /** @param {number} now */
  async #fetchFigures(now) {
    this.#lastFigures = now;
    try {
      const response = await request('stats');
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      /** @type {Figures} */
      const figures = await response.json();
      this.clients.add(figures.connected_clients);
      this.published.add(figures.rates.messages_published);
      this.delivered.add(figures.rates.messages_delivered);
      this.messageBytesMax = figures.max_message_bytes ?? this.messageBytesMax;
      this.version = figures.version ?? this.version;
      this.hasDocs = figures.docs ?? this.hasDocs;
    } catch {
      for (const series of [this.clients, this.published, this.delivered]) series.add(null);
    }
    this.#changed();
  }
}
