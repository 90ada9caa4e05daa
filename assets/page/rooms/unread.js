/** The unread messages of all rooms in the tab's title and icon. */

import { byId } from '../base/element.js';
import { shownUnread } from './list.js';

const ICON = byId('icon').href;
/** The same icon with a red dot. */
const UNREAD_ICON = ICON.replace('%3C/svg%3E', "%3Ccircle cx='25' cy='7' r='7' fill='%23d92f3c' stroke='none'/%3E%3C/svg%3E");

/** @type {(unread: number, room: string | undefined) => void} */
export function showUnreadInTab(unread, room) {
  const place = room === undefined ? 'wscast' : `${room} · wscast`;
  const title = unread > 0 ? `(${shownUnread(unread)}) ${place}` : place;
  if (document.title !== title) document.title = title;
  const icon = unread > 0 ? UNREAD_ICON : ICON;
  if (byId('icon').href !== icon) byId('icon').href = icon;
}
