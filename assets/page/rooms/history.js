/** Loads the messages above those that a room shows. */

import { messageRow } from './rows.js';

const PAGE_MESSAGES = 200;
/** Messages that were missed while the page was closed and that are loaded at once. */
const RESUME_MESSAGES_MAX = 1_000;

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
  const rows = [];
  let since = Math.max(0, end - 1 - messages);
  let oldest = 1;
  // A reply has a limit in bytes, so a page may take several.
  while (since < end - 1) {
    const page = await client.history(view.name, { since, limit: end - 1 - since });
    if (page.epoch !== epoch) break;
    oldest = page.first;
    const found = page.messages.filter(({ offset = 0 }) => offset > since && offset < end);
    for (const message of found) rows.push(messageRow({ ...message, room: view.name }, isOwn(message), epoch));
    if (found.length === 0) break;
    since = found[found.length - 1].offset ?? end;
  }
  // The room may have been cleared or renumbered meanwhile.
  if (view.first !== end || view.epoch !== epoch) return;
  view.prepend(rows);
  view.first = rows[0]?.offset ?? end;
  if (view.first <= oldest || rows.length === 0) view.top = oldest > 1 || rows.length === 0 ? 'pruned' : 'start';
}
