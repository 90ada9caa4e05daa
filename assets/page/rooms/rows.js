/** The rows of a log: messages, events and gaps. A row keeps texts, not parsed values, because a log has many. */

import { parseFrame } from '../base/json.js';

/**
 * @typedef {object} Row
 * @property {'message' | 'event'} kind
 * @property {string} type the type of the message, or of the event: `disconnected`, `gap`, `joined`, …
 * @property {number} ts Unix milliseconds
 * @property {string} text the payload: a plain text, or JSON without spaces if `code`; empty for an event
 * @property {boolean} code
 * @property {() => string} [say] the text of an event in the reader's present language
 * @property {string} [who] the publisher; absent: the server
 * @property {string} [room]
 * @property {boolean} own
 * @property {number} [offset]
 * @property {string} [epoch]
 * @property {string} [id]
 * @property {'pending' | 'stored' | 'failed'} [status] only for the reader's own messages
 * @property {import('../../client/error.js').WscastError} [error] why it failed
 * @property {boolean} [returned] whether the text of the failed message is in the field again
 * @property {boolean} [expanded] whether a long payload is shown whole
 * @property {number} [px] the height when it was last drawn
 * @property {number} [day] the local day, once it was drawn
 */

/** @type {(message: any, own: boolean, epoch?: string) => Row} */
export function messageRow({ type, payload, room, offset, from, ts, id }, own, epoch) {
  const plain = type === 'message' && typeof payload === 'string';
  return {
    kind: 'message', type, room, own, offset, epoch, id, code: !plain,
    who: room === undefined ? undefined : from ?? '',
    ts: ts ?? Date.now(),
    text: plain ? payload : JSON.stringify(payload) ?? 'null',
  };
}

/** @type {(type: string, say: () => string, room?: string) => Row} */
export function eventRow(type, say, room) {
  return { kind: 'event', type, room, say, own: false, code: false, text: '', ts: Date.now() };
}

/** A message of the reader that the server has not stored yet. @type {(message: { room: string, type: string, json: string, id: string }) => Row} */
export function pendingRow({ room, type, json, id }) {
  const plain = type === 'message';
  return {
    kind: 'message', type, room, id, own: true, code: !plain, who: '', ts: Date.now(),
    text: plain ? JSON.parse(json) : json, status: 'pending',
  };
}

/** The JSON line of a message in an export. @param {Row} row */
export function exportLine({ type, room, offset, epoch, who, ts, id, text, code, status }) {
  const payload = code ? parseFrame(text) : text;
  return JSON.stringify({ type, room, epoch, offset, from: who === '' ? undefined : who, ts, id, status: status === 'stored' ? undefined : status, payload });
}
