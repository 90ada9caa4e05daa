/** The reader's own messages on their way: pending, stored or failed, and sent again on request. */

import { randomText } from '../../client/text.js';
import { pendingRow } from '../rooms/rows.js';
import { rememberId } from './memory.js';

const ID_BYTES = 16;
/** A stored message that does not arrive within this time is shown at its place without it. */
const ARRIVES_WITHIN_MS = 5_000;

/**
 * @typedef {import('../rooms/rows.js').Row} Row
 * @typedef {import('../rooms/view.js').RoomView} RoomView
 * @typedef {import('../../client/client.js').WscastClient} WscastClient
 */

export class Outgoing {
  #client;
  #changed;
  #onFailed;
  #onStored;
  /** When each pending message was sent, by `performance.now()`. @type {Map<Row, number>} */
  #pending = new Map();

  /**
   * @param {{ client: WscastClient, changed: (view: RoomView) => void, onFailed: (view: RoomView, row: Row) => void,
   *   onStored: (view: RoomView, row: Row) => void }} options
   *   `onStored`: a message is stored, but did not arrive
   */
  constructor({ client, changed, onFailed, onStored }) {
    this.#client = client;
    this.#changed = changed;
    this.#onFailed = onFailed;
    this.#onStored = onStored;
  }

  /** Messages without a reply. */
  get waiting() {
    return this.#pending.size;
  }

  /** When the oldest message without a reply was sent. */
  oldestPending() {
    const { value } = this.#pending.values().next();
    return value;
  }

  /** @type {(view: RoomView, message: { type: 'message' | 'custom_event', json: string }) => Row} */
  send(view, { type, json }) {
    const id = randomText(ID_BYTES);
    const row = pendingRow({ room: view.name, type, json, id });
    rememberId(id);
    view.outgoing.push(row);
    this.#publish(view, row, json);
    return row;
  }

  /**
   * Sends a message again under its id, which the server recognises if it has stored the message after all.
   * @type {(view: RoomView, row: Row) => void}
   */
  retry(view, row) {
    row.status = 'pending';
    row.error = undefined;
    row.returned = false;
    this.#publish(view, row, row.code ? row.text : JSON.stringify(row.text));
  }

  /** @type {(view: RoomView, row: Row, json: string) => Promise<void>} */
  async #publish(view, row, json) {
    this.#pending.set(row, performance.now());
    this.#changed(view);
    try {
      const { offset } = await this.#client.publishJson(json, {
        type: /** @type {'message' | 'custom_event'} */ (row.type), room: view.name, id: row.id,
      });
      row.status = 'stored';
      row.offset = offset;
      setTimeout(() => { if (view.takeOutgoing(row.id)) this.#onStored(view, row); }, ARRIVES_WITHIN_MS);
    } catch (error) {
      row.error = /** @type {any} */ (error);
      row.status = 'failed';
      if (view.outgoing.includes(row)) this.#onFailed(view, row);
    }
    this.#pending.delete(row);
    this.#changed(view);
  }
}
