/** The visible state of the connection: its name, one notice with what to do about it, and the latest figures. */

import { byId, setText } from '../base/element.js';
import { formatDuration, formatMs, formatNumber } from '../base/format.js';
import { describeEnd } from '../words/describe.js';
import { words } from '../words/words.js';

const COUNTDOWN_EVERY_MS = 250;
/** The client's states, as the page names them. */
const STATE_NAMES = { connecting: 'connecting', open: 'connected', waiting: 'reconnecting', closed: 'closed' };
/** Close codes that a token may change. */
const TOKEN_CODES = [4001, 4003];

/**
 * @typedef {import('../../client/types.js').State} State
 * @typedef {import('./health.js').Health} Health
 */

/**
 * @param {{ client: import('../../client/client.js').WscastClient, health: () => Health | undefined,
 *   refusedRoom: () => string | undefined, otherRooms: () => number, explains: () => boolean }} options
 *   `refusedRoom`: the room that the server has refused. `otherRooms`: the rooms besides it. `explains`: whether a
 *   dialog shows the reason of the close already
 */
export function createStatus({ client, health, refusedRoom, otherRooms, explains }) {
  let countdown = 0;

  function show() {
    const { state } = client;
    const silentFor = health()?.silentFor ?? 0;
    const isOffline = state.name !== 'closed' && navigator.onLine === false;
    const name = isOffline && state.name !== 'open' ? 'offline' : silentFor > 0 ? 'silent' : STATE_NAMES[state.name];
    byId('state').dataset.state = STATE_NAMES[state.name];
    byId('state').dataset.tone = name;
    setText(byId('state-name'), words.states[name]);
    setText(byId('notice-text'), notice(state, silentFor, isOffline));
    byId('notice').hidden = byId('notice-text').textContent === '';
    byId('notice').dataset.state = name;
    byId('reconnect').hidden = state.name !== 'waiting' && state.name !== 'closed';
    setText(byId('reconnect'), state.name === 'closed' ? words.connectAgain : words.reconnectNow);
    byId('notice-token').hidden = !(state.name === 'closed' && TOKEN_CODES.includes(Number(state.code)));
    byId('leave-refused').hidden = !(refusedRoom() && otherRooms() > 0);
    setText(byId('leave-refused'), words.leaveRefused(refusedRoom() ?? ''));
    clearInterval(countdown);
    showCountdown();
    if (state.name === 'waiting') countdown = setInterval(showCountdown, COUNTDOWN_EVERY_MS);
    showFigures();
  }

  /** Returns the one sentence about the connection. @type {(state: State, silentFor: number, isOffline: boolean) => string} */
  function notice(state, silentFor, isOffline) {
    if (state.name === 'waiting' && state.code === 'cached') return '';
    if (isOffline && state.name !== 'open') return words.offline;
    if (state.name === 'waiting') return words.sentence(describeEnd(state.code, state.reason));
    if (state.name === 'closed' && explains()) return '';
    if (state.name === 'closed') return words.sentence(describeEnd(state.code, state.reason));
    if (isOffline) return words.maybeOffline;
    return silentFor > 0 ? words.silentFor(formatDuration(silentFor / 1_000)) : '';
  }

  /** Outside the live region, so that a screen reader does not read out every second. */
  function showCountdown() {
    const { state } = client;
    const seconds = state.name === 'waiting' ? Math.ceil((state.at - Date.now()) / 1_000) : 0;
    setText(byId('countdown'), seconds > 0 ? words.inSeconds(seconds) : '');
  }

  function showFigures() {
    const figures = health();
    const online = client.state.name === 'open';
    /** @type {(id: string, value: number | null | undefined, format: (value: number) => string) => void} */
    const figure = (id, value, format) => {
      setText(byId(id), online && value !== null && value !== undefined ? format(value) : '–');
    };
    figure('figure-rate', figures?.received.last, formatNumber);
    figure('figure-latency', figures?.latency.last, formatMs);
    figure('figure-clients', figures?.clients.last, formatNumber);
  }

  addEventListener('offline', show);
  addEventListener('online', show);
  return { show, showFigures };
}
