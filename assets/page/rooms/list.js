/** The list of rooms: the selected one, the unread messages, a button to leave. */

import { byId, button, element, setText } from '../base/element.js';
import { words } from '../words/words.js';

/** Larger numbers of unread messages are shown as `999+`. */
const UNREAD_SHOWN_MAX = 999;

/** @typedef {import('./view.js').RoomView} RoomView */

/** @param {number} unread */
export function shownUnread(unread) {
  return unread > UNREAD_SHOWN_MAX ? `${UNREAD_SHOWN_MAX}+` : String(unread);
}

/**
 * The list changes its rows in place, because a new row would lose the keyboard's focus.
 * @param {{ onSelect: (room: string) => void, onLeave: (room: string) => void }} options
 */
export function createRoomList({ onSelect, onLeave }) {
  const list = byId('rooms');
  /** @type {Map<string, any>} */
  const rows = new Map();

  /** @type {(views: Map<string, RoomView>, selected: string | undefined, online: boolean) => void} */
  function show(views, selected, online) {
    for (const [room, { row }] of rows) {
      if (views.has(room)) continue;
      row.remove();
      rows.delete(room);
    }
    for (const [room, view] of views) {
      if (!rows.has(room)) rows.set(room, addRow(room));
      const { row, open, members, unread, leave } = rows.get(room);
      const { members: count } = view;
      if (room === selected) open.setAttribute('aria-current', 'true');
      else open.removeAttribute('aria-current');
      setText(members, online ? words.members(count) : '–');
      setText(unread, view.unread > 0 ? shownUnread(view.unread) : '');
      if (view.unread > 0) unread.setAttribute('aria-label', words.unreadCount(view.unread));
      row.dataset.unread = String(view.unread);
      leave.disabled = !online;
      setText(leave, words.leave);
      leave.setAttribute('aria-label', words.leaveRoom(room));
    }
  }

  /** @param {string} room */
  function addRow(room) {
    const row = element('li', 'room-row');
    row.dataset.room = room;
    const open = button('room-open', '', () => onSelect(room));
    const name = element('span', 'name', room);
    name.dir = 'auto';
    const members = element('span', 'members');
    const unread = element('span', 'unread');
    unread.setAttribute('role', 'img');
    open.append(name, ' ', members, ' ', unread);
    const leave = button('quiet leave', '', () => onLeave(room));
    row.append(open, leave);
    list.append(row);
    return { row, open, members, unread, leave };
  }

  return { show };
}
