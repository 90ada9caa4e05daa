/** Loads the messages above those that a room shows. */

import { messageRow } from './rows.js';

const PAGE_MESSAGES = 200;
/** Messages that were missed while the page was closed and that are loaded at once. */
const RESUME_MESSAGES_MAX = 1_000;
/** Offsets that are searched at once for an older message. */
const EMPTY_RANGE_OFFSETS = 1_000;
/** Ranges without a message that are searched before the page stops. */
const EMPTY_RANGES_MAX = 100;

/**
 * @typedef {import('./view.js').RoomView} RoomView
 * @typedef {import('../../client/client.js').WscastClient} WscastClient
 */

/**
 * Loads a page of older messages. Does nothing while another page is loading, or if there is nothing above.
 * @type {(view: RoomView, client: WscastClient, isOwn: (message: any) => boolean, changed: () => void, messages?: number) => Promise<void>}
 */
export async function loadOlder(view, client, isOwn, changed, messages = PAGE_MESSAGES) {
  if (view.loading || view.top !== 'none' || view.first === null) return;
  if (view.first <= 1) {
    view.top = 'start';
    changed();
    return;
  }
  view.loading = true;
  view.loadError = '';
  changed();
  try {
    await loadBefore(view, client, isOwn, messages);
  } catch (error) {
    view.loadError = /** @type {Error} */ (error).message;
  }
  view.loading = false;
  changed();
}

/** Loads from the last message that was read, so that nothing is missing after a reload. @type {(view: RoomView, read: { epoch: string, offset: number } | undefined) => number} */
export function messagesToResume(view, read) {
  const missed = read && read.epoch === view.epoch && view.first !== null ? view.first - 1 - read.offset : 0;
  return Math.min(Math.max(PAGE_MESSAGES, missed + PAGE_MESSAGES / 4), RESUME_MESSAGES_MAX);
}

/** @type {(view: RoomView, client: WscastClient, isOwn: (message: any) => boolean, messages: number) => Promise<void>} */
async function loadBefore(view, client, isOwn, messages) {
  const end = /** @type {number} */ (view.first);
  const { epoch } = view;
  let range = { after: Math.max(0, end - 1 - messages), until: end - 1 };
  let { found, oldest } = await readRange(view, client, range);
  // Deleted and expired messages leave ranges of offsets without any message.
  for (let n = 0; found.length === 0 && oldest <= range.after && n < EMPTY_RANGES_MAX; n += 1) {
    range = { after: Math.max(0, range.after - EMPTY_RANGE_OFFSETS), until: range.after };
    ({ found, oldest } = await readRange(view, client, range));
  }
  // The room may have been cleared or renumbered meanwhile.
  if (view.first !== end || view.epoch !== epoch) return;
  const rows = found.map((message) => messageRow({ ...message, room: view.name }, isOwn(message), epoch));
  view.prepend(rows);
  view.first = rows[0]?.offset ?? end;
  if (view.first <= oldest || rows.length === 0) view.top = oldest > 1 || rows.length === 0 ? 'pruned' : 'start';
}

/**
 * Reads the messages after an offset and up to another one, and the offset of the room's oldest message. A reply has a
 * limit in bytes, so a range may take several.
 * @type {(view: RoomView, client: WscastClient, range: { after: number, until: number }) => Promise<{ found: any[], oldest: number }>}
 */
async function readRange(view, client, { after, until }) {
  const { epoch } = view;
  const found = [];
  let oldest = 1;
  while (after < until) {
    const page = await client.history(view.name, { since: after, limit: until - after });
    if (page.epoch !== epoch) return { found: [], oldest: Infinity };
    oldest = page.first;
    const start = after;
    const messages = page.messages.filter(({ offset = 0 }) => offset > start && offset <= until);
    if (messages.length === 0) break;
    found.push(...messages);
    after = messages[messages.length - 1].offset ?? until;
  }
  return { found, oldest };
}
