/** The log: a row for every message and every event. */

import { element } from './element.js';
import { words } from './words.js';

const LOG_ROWS_MAX = 500;
const PAYLOAD_CHARS_MAX = 4_000;
/** The log scrolls with new rows if its end is closer than this. */
const FOLLOW_PX = 48;

/**
 * @typedef {{ type: string, text: string, room?: string, who?: string, own?: boolean, tag?: string,
 *   code?: boolean, ts?: number }} Entry
 *   `who` published the message; a row without it is an event. `code` is for JSON.
 */

/**
 * @param {{ list: HTMLElement, empty: HTMLElement, jump: HTMLElement }} parts `empty` is shown until the first
 *   message, also below rows of events
 */
export function createLog({ list, empty, jump }) {
  const clock = new Intl.DateTimeFormat(words.lang, { timeStyle: 'medium', hourCycle: 'h23' });
  /** @type {Entry[]} */
  let waiting = [];
  let drawing = 0;

  /**
   * Adds a row. Rows are drawn once for each animation frame, so that a thousand messages cost one layout.
   * A hidden tab draws nothing, so the waiting rows have the same limit.
   * @param {Entry} entry
   */
  function add(entry) {
    waiting.push({ ...entry, ts: entry.ts ?? Date.now() });
    if (waiting.length > LOG_ROWS_MAX) waiting.shift();
    drawing ||= requestAnimationFrame(draw);
  }

  function clear() {
    waiting = [];
    list.replaceChildren();
    jump.hidden = true;
    empty.hidden = false;
  }

  function draw() {
    drawing = 0;
    if (waiting.length === 0) return;
    const follow = isAtEnd();
    if (waiting.some(({ who }) => who !== undefined)) empty.hidden = true;
    list.append(...waiting.map(row));
    waiting = [];
    while (list.childElementCount > LOG_ROWS_MAX) list.firstElementChild?.remove();
    if (follow) scrollToEnd();
    else jump.hidden = false;
  }

  /** Whether the reader is at the end of the log, and has not scrolled back. */
  function isAtEnd() {
    return list.scrollHeight - list.scrollTop - list.clientHeight < FOLLOW_PX;
  }

  function scrollToEnd() {
    list.scrollTop = list.scrollHeight;
    jump.hidden = true;
  }

  /** @param {Entry} entry */
  function row({ type, text, room, who, own, tag, code, ts = 0 }) {
    const isEvent = who === undefined;
    const node = element('div', `entry${isEvent ? ' event' : ''}${own ? ' own' : ''}`);
    node.dataset.type = type;
    if (room !== undefined) node.dataset.room = room;

    const when = element('time', 'when', clock.format(ts));
    when.dateTime = new Date(ts).toISOString();
    node.append(when);
    if (!isEvent) node.append(element('span', 'who', who));
    if (!isEvent && room !== undefined) node.append(element('span', 'room', words.inRoom(room)));
    if (tag !== undefined) node.append(element('code', 'tag', tag));
    const payload = element(code ? 'code' : 'span', 'payload', shorten(text));
    payload.dir = 'auto';
    node.append(payload);
    return node;
  }

  jump.addEventListener('click', scrollToEnd);
  list.addEventListener('scroll', () => { if (isAtEnd()) jump.hidden = true; });
  return { add, clear };
}

/** @param {string} text */
function shorten(text) {
  if (text.length <= PAYLOAD_CHARS_MAX) return text;
  return text.slice(0, PAYLOAD_CHARS_MAX) + words.more(text.length - PAYLOAD_CHARS_MAX);
}
