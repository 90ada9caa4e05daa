/** The server's and the client's codes as sentences for the reader. */

import { words } from './words.js';

/** The server's reasons that say no more than their codes. */
const GENERAL_REASONS = [
  '', 'forbidden', 'the server requires a token', 'token is missing, refused, expired or revoked',
];
const MAY_NOT_READ = /^you may not read (\S+)$/;

/**
 * @typedef {import('../../client/error.js').WscastError} WscastError
 * @typedef {import('../../client/types.js').Gap} Gap
 * @typedef {import('../../client/connection.js').EndCode} EndCode
 */

/** Returns the room that a close refuses, if its reason names one. @param {string} reason */
export function refusedRoom(reason) {
  return MAY_NOT_READ.exec(reason)?.[1];
}

/**
 * Uses the server's reason for codes that the page has no text for. For codes 4000 to 4099 the reason says
 * what the reader must change, so it is added to the text.
 * @type {(code: EndCode, reason: string) => string}
 */
export function describeEnd(code, reason) {
  const room = refusedRoom(reason);
  const known = words.ends[code];
  const addsReason = Number(code) >= 4000 && Number(code) <= 4099 && !GENERAL_REASONS.includes(reason);
  const text = room ? words.mayNotRead(room)
    : known && addsReason ? words.withReason(known, reason) : known ?? (reason || words.ends[1000]);
  return typeof code === 'number' ? words.withCode(text, code) : text;
}

/** @param {Gap} gap */
export function describeGap({ room, from, to }) {
  const missed = to.offset - from.offset;
  return from.epoch === to.epoch && missed > 0 ? words.missed(room, missed) : words.restarted(room);
}

/** Uses the server's message for codes that the page has no text for. @param {WscastError} error */
export function describeError({ code, message, retryAfterMs, room }) {
  if (code === 'invalid_room') return words.invalidRoom(room ?? '');
  const again = retryAfterMs === undefined ? '' : `. ${words.retryAfter(Math.ceil(retryAfterMs / 1000))}`;
  return (words.errors[code] ?? message) + again;
}
