/** The members of the selected room, by user. */

import { byId, element, setText } from '../base/element.js';
import { words } from '../words/words.js';

/** Members that are shown. The server lists those of rooms with up to 100 members. */
const SHOWN_MAX = 100;

/** @typedef {import('./view.js').PresentClient} PresentClient */

/** Returns the clients of each user; a client without a user stands alone. @param {PresentClient[]} clients */
export function byUser(clients) {
  /** @type {Map<string, PresentClient[]>} */
  const users = new Map();
  for (const client of clients) {
    const key = client.user === undefined ? `client ${client.client}` : `user ${client.user}`;
    users.set(key, [...users.get(key) ?? [], client]);
  }
  return [...users.values()];
}

/** @type {(view: { members: number, clients?: PresentClient[] } | undefined, ownClient: string | undefined) => void} */
export function showMembers(view, ownClient) {
  const list = byId('members');
  const hint = byId('members-hint');
  byId('members-box').hidden = !view;
  const users = byUser(view?.clients ?? []);
  setText(byId('members-count'), view ? String(view.members) : '');
  hint.hidden = !view || view.clients !== undefined;
  setText(hint, words.membersUnknown);
  list.replaceChildren(...users.slice(0, SHOWN_MAX).map((clients) => {
    const [{ client, user }] = clients;
    const item = element('li');
    const name = element(user === undefined ? 'code' : 'span', 'member', user ?? client);
    name.dir = 'auto';
    item.append(name);
    if (clients.some((each) => each.client === ownClient)) item.append(element('span', 'hint', words.you));
    if (clients.length > 1) item.append(element('span', 'hint', words.connections(clients.length)));
    item.title = clients.map((each) => each.client).join(', ');
    return item;
  }));
}
