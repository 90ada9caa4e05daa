/** The log: what was said, and what happened, row by row. */

import { element } from './element.js';
import { words } from './words.js';

const LOG_ROWS_MAX = 500;
const PAYLOAD_CHARS_MAX = 4_000;
/** Closer to the end than this counts as reading along. */
const FOLLOW_PX = 48;

/**
 * @typedef {{ type: string, text: string, room?: string, who?: string, own?: boolean, tag?: string,
 *   code?: boolean, ts?: number }} Entry
 *   `who` marks what somebody said; without it the row is the page's own remark. `code` is for JSON.
 */

/** @param {{ list: HTMLElement, empty: HTMLElement, jump: HTMLElement }} parts */
export function createLog({ list, empty, jump }) {
  const clock = new Intl.DateTimeFormat(words.lang, { timeStyle: 'medium', hourCycle: 'h23' });
  /** @type {Entry[]} */
  let waiting = [];
  let drawing = 0;

  /**
   * Rows are drawn once a frame, so a flood costs one layout, not thousands; in a hidden tab, which
   * draws none, the bound holds just the same.
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
    const follow = follows();
    list.append(...waiting.map(row));
    waiting = [];
    while (list.childElementCount > LOG_ROWS_MAX) list.firstElementChild?.remove();
    empty.hidden = true;
    if (follow) toEnd();
    else jump.hidden = false;
  }

  /** Somebody who scrolled back to read is left where they are. */
  function follows() {
    return list.scrollHeight - list.scrollTop - list.clientHeight < FOLLOW_PX;
  }

  function toEnd() {
    list.scrollTop = list.scrollHeight;
    jump.hidden = true;
  }

  /** @param {Entry} entry */
  function row({ type, text, room, who, own, tag, code, ts = 0 }) {
    const remark = who === undefined;
    const node = element('div', `entry${remark ? ' remark' : ''}${own ? ' own' : ''}`);
    node.dataset.type = type;
    if (room !== undefined) node.dataset.room = room;

    const when = element('time', 'when', clock.format(ts));
    when.dateTime = new Date(ts).toISOString();
    node.append(when);
    if (!remark) node.append(element('span', 'who', who));
    if (!remark && room !== undefined) node.append(element('span', 'room', words.inRoom(room)));
    if (tag !== undefined) node.append(element('code', 'tag', tag));
    const payload = element(code ? 'code' : 'span', 'payload', shorten(text));
    payload.dir = 'auto';
    node.append(payload);
    return node;
  }

  jump.addEventListener('click', toEnd);
  list.addEventListener('scroll', () => { if (follows()) jump.hidden = true; });
  return { add, clear };
}

/** @param {string} text */
function shorten(text) {
  if (text.length <= PAYLOAD_CHARS_MAX) return text;
  return text.slice(0, PAYLOAD_CHARS_MAX) + words.more(text.length - PAYLOAD_CHARS_MAX);
}
