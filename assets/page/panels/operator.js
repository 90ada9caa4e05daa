/** The operator's part: who is connected, the rooms, closing a client or a user, publishing as the server. */

import { button, element } from '../base/element.js';
import { formatDuration, formatNumber } from '../base/format.js';
import { jsonError } from '../base/json.js';
import { requestJson } from '../connection/token.js';
import { words } from '../words/words.js';

const REFRESH_EVERY_MS = 5_000;
/** Clients and rooms that are shown. */
const SHOWN_MAX = 200;

/** @typedef {{ client: string, user?: string, rooms: string[], connected_seconds: number }} ClientEntry */

/** @param {{ room: () => string | undefined, ownClient: () => string | undefined, openRoom: (room: string) => void }} options */
export function operatorPanel({ room, ownClient, openRoom }) {
  let timer = 0;
  /** @type {any} */ let parts;
  let filter = '';

  /** @param {HTMLElement} box */
  function draw(box) {
    parts = {
      error: element('p', 'problem'),
      clients: element('tbody'),
      clientsMore: element('p', 'hint'),
      rooms: element('ul', 'plain'),
      roomsMore: element('p', 'hint'),
    };
    parts.error.setAttribute('role', 'alert');
    box.append(parts.error, publishForm(), heading(words.operator.rooms), parts.rooms, parts.roomsMore, heading(words.operator.clients), filterField(), clientTable(), parts.clientsMore);
    refresh();
  }

  /** @param {string} text */
  function heading(text) {
    return element('h3', '', text);
  }

  function filterField() {
    const label = element('label', '', words.operator.filter);
    const input = element('input');
    input.type = 'search';
    input.value = filter;
    input.addEventListener('input', () => {
      filter = input.value;
      refresh();
    });
    label.append(input);
    return label;
  }

  function clientTable() {
    const table = element('table');
    const head = element('tr');
    for (const title of [words.operator.client, words.operator.since, '']) {
      const cell = element(title ? 'th' : 'td', '', title);
      if (title) cell.scope = 'col';
      head.append(cell);
    }
    const top = element('thead');
    top.append(head);
    table.append(top, parts.clients);
    return table;
  }

  async function refresh() {
    try {
      const [{ clients, after }, { rooms, total }] = await Promise.all([requestJson('clients?limit=1000'), requestJson(`rooms?limit=${SHOWN_MAX}`)]);
      const matching = clients.filter(matches);
      const confirming = parts.clients.querySelector('[data-confirm]');
      // A question to the reader is not taken away.
      if (!confirming) parts.clients.replaceChildren(...matching.slice(0, SHOWN_MAX).map(clientRow));
      const shown = Math.min(matching.length, SHOWN_MAX);
      parts.clientsMore.textContent = after || matching.length > shown ? words.operator.clientsShown(shown) : '';
      parts.rooms.replaceChildren(...rooms.map(roomRow));
      parts.roomsMore.textContent = total > rooms.length ? words.operator.roomsShown(rooms.length, total) : '';
      parts.error.textContent = '';
    } catch (error) {
      parts.error.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {ClientEntry} entry */
  function matches({ client, user = '', rooms }) {
    return [client, user, ...rooms].some((text) => text.toLowerCase().includes(filter.trim().toLowerCase()));
  }

  /** @param {{ room: string, members: number }} entry */
  function roomRow({ room: name, members }) {
    const item = element('li');
    const open = button('quiet', name, () => openRoom(name));
    open.setAttribute('aria-label', words.operator.openRoom(name));
    item.append(open, element('span', 'hint', words.members(members)));
    return item;
  }

  /** @param {ClientEntry} entry */
  function clientRow({ client, user, rooms, connected_seconds: seconds }) {
    const row = element('tr');
    const who = element('td');
    who.append(element('strong', '', user ?? client));
    if (user !== undefined) who.append(element('code', '', client));
    if (client === ownClient()) who.append(element('span', 'hint', words.thisTab));
    who.append(element('span', 'hint', rooms.length > 0 ? rooms.join(', ') : words.operator.noRooms));
    const tools = element('div');
    tools.append(confirmButton(words.operator.close, words.operator.closeClient(client), `clients/${encodeURIComponent(client)}`));
    if (user !== undefined) tools.append(confirmButton(words.operator.closeAll, words.operator.closeUser(user), `users/${encodeURIComponent(user)}/clients`));
    const last = element('td');
    last.append(tools);
    row.append(who, element('td', '', formatDuration(seconds)), last);
    return row;
  }

  /** A button that asks by its own text before it acts. @type {(text: string, label: string, path: string) => HTMLElement} */
  function confirmButton(text, label, path) {
    const node = button('quiet danger', text, async () => {
      if (!node.dataset.confirm) {
        node.dataset.confirm = 'yes';
        node.textContent = words.operator.sure;
        node.setAttribute('aria-label', `${words.operator.sure} ${label}`);
        return;
      }
      delete node.dataset.confirm;
      node.disabled = true;
      try {
        await requestJson(path, { method: 'DELETE' });
      } catch (error) {
        parts.error.textContent = /** @type {Error} */ (error).message;
      }
      refresh();
    });
    node.setAttribute('aria-label', label);
    node.addEventListener('blur', () => {
      delete node.dataset.confirm;
      node.textContent = text;
      node.setAttribute('aria-label', label);
    });
    return node;
  }

  function publishForm() {
    const form = element('form', 'operator-publish');
    const target = element('input');
    target.value = room() ?? 'lobby';
    target.id = 'operator-room';
    target.autocomplete = 'off';
    const field = element('textarea');
    field.rows = 2;
    field.id = 'operator-text';
    const type = element('select');
    type.id = 'operator-type';
    for (const [value, text] of [['message', words.message], ['custom_event', words.event]]) {
      const option = element('option', '', text);
      option.value = value;
      type.append(option);
    }
    const send = element('button', '', words.operator.publish);
    const result = element('p', 'hint');
    result.setAttribute('role', 'status');
    const bottom = element('div', 'row');
    bottom.append(type, send, result);
    type.setAttribute('aria-label', words.operator.type);
    form.append(heading(words.operator.publishTitle), labelled(words.operator.room, target), labelled(words.operator.text, field), bottom);
    form.addEventListener('submit', (/** @type {Event} */ event) => {
      event.preventDefault();
      publish({ name: target.value.trim(), type: type.value, text: field.value, result, field });
    });
    return form;
  }

  /** @param {{ name: string, type: string, text: string, result: HTMLElement, field: HTMLTextAreaElement }} message */
  async function publish({ name, type, text, result, field }) {
    result.className = 'problem';
    const problem = type === 'custom_event' ? jsonError(text) : null;
    if (problem !== null) {
      result.textContent = words.invalidJson(problem);
      return;
    }
    const payload = type === 'custom_event' ? text : JSON.stringify(text);
    try {
      const { offset } = await requestJson(`rooms/${encodeURIComponent(name)}/messages`, {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: `{"type":"${type}","payload":${payload}}`,
      });
      result.className = 'hint';
      result.textContent = words.operator.published(formatNumber(offset));
      field.value = '';
    } catch (error) {
      result.textContent = /** @type {Error} */ (error).message;
    }
  }

  return {
    draw,
    opened: (/** @type {boolean} */ open) => {
      clearInterval(timer);
      if (open) timer = setInterval(() => { if (document.visibilityState === 'visible') refresh(); }, REFRESH_EVERY_MS);
    },
  };
}

/** @type {(text: string, control: HTMLElement) => HTMLElement} */
function labelled(text, control) {
  const label = element('label', '', text);
  label.append(control);
  return label;
}
