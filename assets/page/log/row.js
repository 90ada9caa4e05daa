/** Draws a row of the log. */

import { button, element } from '../base/element.js';
import { copyText } from '../base/copy.js';
import { dayOf, formatBytes, formatClock, formatDateTime, formatDay } from '../base/format.js';
import { indentJson } from '../base/json.js';
import { describeError } from '../words/describe.js';
import { words } from '../words/words.js';

/** Longer payloads are collapsed. */
const SHORT_CHARS_MAX = 700;
const SHORT_LINES_MAX = 12;
/** The part of a payload that is drawn at most. It can be copied whole. */
const EXPANDED_CHARS_MAX = 200_000;

/**
 * @typedef {import('../rooms/rows.js').Row} Row
 * @typedef {{ toggle: (row: Row) => void, use: (row: Row) => void, retry: (row: Row) => void,
 *   dismiss: (row: Row) => void }} RowActions
 * @typedef {{ row: Row, before: Row | undefined, isFirstUnread: boolean, actions: RowActions }} RowContext
 */

/** Returns a guess of the height of a row that was never drawn. @param {Row} row */
export function estimateHeight({ kind, text }) {
  if (kind === 'event') return 31;
  return 50 + 20 * Math.min(SHORT_LINES_MAX, Math.floor(text.length / 90));
}

/** @param {Row} row */
function day(row) {
  row.day ??= dayOf(row.ts);
  return row.day;
}

/** Returns what a row shows depending on others: a new node is needed if it changes. @type {(row: Row, before: Row | undefined, isFirstUnread: boolean) => string} */
export function rowState(row, before, isFirstUnread) {
  const startsDay = before === undefined || day(before) !== day(row);
  return `${startsDay} ${isFirstUnread} ${row.status} ${row.expanded} ${row.returned} ${row.error?.code}`;
}

/** @param {RowContext} context */
export function drawRow({ row, before, isFirstUnread, actions }) {
  const isEvent = row.kind === 'event';
  const node = element('div', `entry ${isEvent ? 'event' : 'message'}${row.own ? ' own' : ''}`);
  node.setAttribute('role', 'listitem');
  node.tabIndex = -1;
  node.state = rowState(row, before, isFirstUnread);
  node.dataset.type = row.type;
  if (row.room !== undefined) node.dataset.room = row.room;
  if (row.status !== undefined) node.dataset.status = row.status;
  if (before === undefined || day(before) !== day(row)) node.append(element('p', 'day', formatDay(row.ts)));
  if (isFirstUnread) node.append(element('p', 'unread-mark', words.newMessages));

  const line = element('div', 'line');
  const when = element('time', 'when', formatClock(row.ts));
  when.dateTime = new Date(row.ts).toISOString();
  when.title = formatDateTime(row.ts);
  line.append(when);
  if (!isEvent) line.append(...heading(row));
  line.append(payload(row, actions));
  if (row.status === 'failed') line.append(failure(row, actions));
  if (!isEvent) line.append(tools(row, actions));
  node.append(line);
  return node;
}

/** @param {Row} row */
function heading({ own, who, type, code, offset, status }) {
  const nodes = [element('span', 'who', own ? words.you : who ?? words.server)];
  nodes[0].dir = 'auto';
  if (code) nodes.push(element('code', 'tag', type));
  if (offset !== undefined) nodes.push(element('span', 'offset', `#${offset}`));
  if (own && status !== undefined && status !== 'failed') nodes.push(element('span', `mark ${status}`, words.status[status]));
  return nodes;
}

/** @type {(row: Row, actions: RowActions) => HTMLElement} */
function payload(row, actions) {
  const text = row.kind === 'event' ? row.say?.() ?? '' : row.code ? indentJson(row.text) : row.text;
  const node = element(row.code ? 'code' : 'span', 'payload');
  node.dir = 'auto';
  const { shown, isShortened } = shorten(text, row.expanded ?? false);
  node.textContent = shown;
  if (!isShortened && !row.expanded) return node;
  const box = element('div', 'long');
  const label = row.expanded ? words.showLess : words.showAll(formatBytes(new Blob([text]).size));
  const toggle = button('quiet', label, () => actions.toggle(row));
  toggle.setAttribute('aria-expanded', String(row.expanded ?? false));
  toggle.tabIndex = -1;
  box.append(node, toggle);
  return box;
}

/** @type {(text: string, expanded: boolean) => { shown: string, isShortened: boolean }} */
function shorten(text, expanded) {
  if (expanded) {
    const rest = text.length - EXPANDED_CHARS_MAX;
    return { shown: rest > 0 ? text.slice(0, EXPANDED_CHARS_MAX) + words.more(rest) : text, isShortened: false };
  }
  let end = Math.min(text.length, SHORT_CHARS_MAX);
  let at = -1;
  for (let lines = 0; lines < SHORT_LINES_MAX; lines += 1) {
    at = text.indexOf('\n', at + 1);
    if (at < 0 || at >= end) break;
    if (lines === SHORT_LINES_MAX - 1) end = at;
  }
  // A payload that would lose a few characters is shown whole.
  if (text.length - end < SHORT_CHARS_MAX / 10 && !text.includes('\n', end)) return { shown: text, isShortened: false };
  return { shown: `${text.slice(0, end)}…`, isShortened: true };
}

/** @type {(row: Row, actions: RowActions) => HTMLElement} */
function failure(row, actions) {
  const box = element('div', 'failure');
  const reason = row.error ? describeError(row.error) : '';
  box.append(element('span', 'problem', row.returned ? words.returnedText(reason) : reason));
  const again = row.error?.code === 'unknown_outcome' ? words.sendAnyway : words.retry;
  box.append(button('quiet retry', again, () => actions.retry(row)), button('quiet dismiss', words.dismiss, () => actions.dismiss(row)));
  return box;
}

/** The buttons of a row. Only those of the row with the focus are reached by the tab key. @type {(row: Row, actions: RowActions) => HTMLElement} */
function tools(row, actions) {
  const box = element('span', 'tools');
  const text = row.code ? indentJson(row.text) : row.text;
  const copy = button('quiet copy', words.copy, () => copyText(text, copy));
  const use = button('quiet use', words.useAgain, () => actions.use(row));
  for (const node of [copy, use]) node.tabIndex = -1;
  box.append(copy, use);
  return box;
}
