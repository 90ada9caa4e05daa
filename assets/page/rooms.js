/** The list of rooms: the selected one, the number of members, and a button to leave. */

import { element } from './element.js';
import { words } from './words.js';

/**
 * The list changes its rows in place, because a new row would lose the keyboard focus.
 * @param {{ list: HTMLElement, onSelect: (room: string) => void, onLeave: (room: string) => void }} options
 */
export function createRoomList({ list, onSelect, onLeave }) {
  const rows = new Map();

  /** @type {(rooms: Map<string, { members: number }>, target: string | undefined, online: boolean) => void} */
  function show(rooms, target, online) {
    for (const [room, { row }] of rows) {
      if (rooms.has(room)) continue;
      row.remove();
      rows.delete(room);
    }
    for (const [room, state] of rooms) {
      if (!rows.has(room)) rows.set(room, addRow(room));
      const { radio, members, leave } = rows.get(room);
      radio.checked = room === target;
      members.textContent = online ? words.members(state.members) : '–';
      leave.disabled = !online;
    }
  }

  /** @param {string} room */
  function addRow(room) {
    const row = element('li', 'room-row');
    row.dataset.room = room;
    const radio = element('input', '');
    radio.type = 'radio';
    radio.name = 'target';
    radio.addEventListener('change', () => onSelect(room));
    const members = element('span', 'members');
    const label = element('label', '');
    label.append(radio, element('span', 'name', room), ' ', members);
    const leave = element('button', 'quiet', words.leave);
    leave.type = 'button';
    leave.setAttribute('aria-label', words.leaveRoom(room));
    leave.addEventListener('click', () => onLeave(room));
    row.append(label, leave);
    list.append(row);
    return { row, radio, members, leave };
  }

  return { show };
}
