/** The test page of wscast: shows the client's events, and passes the reader's input to the client. */

import { WscastClient } from '../client/client.js';
import { isRoomName, normalRoomName } from '../client/rooms.js';
import { byId } from './element.js';
import { formatJson, jsonError, parseFrame } from './json.js';
import { createLog } from './log.js';
import { createRoomList } from './rooms.js';
import { describeEnd, describeError, describeGap, translateDocument, words } from './words.js';

/**
 * @typedef {import('../client/types.js').State} State
 * @typedef {import('../client/types.js').Message} Message
 * @typedef {import('../client/types.js').RoomState} RoomState
 * @typedef {import('../client/error.js').WscastError} WscastError
 */

const COUNTDOWN_EVERY_MS = 250;
/** The close code for rooms that the reader may not read. */
const FORBIDDEN = 4003;
/** The client's states, as the page names them. */
const STATE_NAMES = { connecting: 'connecting', open: 'connected', waiting: 'reconnecting', closed: 'closed' };

translateDocument();

const log = createLog({ list: byId('log'), empty: byId('log-empty'), jump: byId('log-end') });
const roomList = createRoomList({ list: byId('rooms'), onSelect: selectRoom, onLeave: leaveRoom });
// Relative to the page's address, so that the page also works below a path such as /chat/.
const client = new WscastClient('ws', { rooms: roomsFromAddress(), parse: parseFrame, token: tokenFromAddress });
// The reader may have added a token to the address.
addEventListener('hashchange', () => client.reconnect());

/** The state of this tab. */
const tab = {
  /** The rooms that this tab is in. @type {Map<string, { members: number }>} */
  rooms: new Map(),
  /** The selected room. @type {string | undefined} */
  target: undefined,
  /** Whether the log has a row for the present outage. */
  outageLogged: false,
  /** The errors that the log has a row for. @type {WeakSet<WscastError>} */
  loggedErrors: new WeakSet(),
  countdown: 0,
};

/** Returns the token after the # of the page's address. The browser sends this part to no server. */
function tokenFromAddress() {
  return new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
}

/** Returns the rooms in the page's address, none if all are invalid; the lobby if the address names none. */
function roomsFromAddress() {
  const wanted = new URLSearchParams(location.search).getAll('room').filter((room) => room !== '');
  for (const room of wanted.filter((name) => !isRoomName(name))) {
    log.add({ type: 'error', text: words.invalidRoomInUrl(room) });
  }
  const rooms = wanted.length === 0 ? ['lobby'] : wanted.filter(isRoomName).map(normalRoomName);
  return [...new Set(rooms)].map((room) => ({ room, presence: true }));
}

// Events of the client

/** @param {State} state */
function stateChanged(state) {
  if (state.name === 'waiting' || state.name === 'closed') logDisconnect(state);
  showState(state);
  showRooms();
}

/**
 * Adds one row for an outage, and none for its failed attempts.
 * @param {State & { name: 'waiting' | 'closed' }} state
 */
function logDisconnect({ name, code, reason }) {
  if (code === 'cached' || (tab.outageLogged && name !== 'closed')) return;
  tab.outageLogged = true;
  log.add({ type: 'disconnected', text: words.because(words[STATE_NAMES[name]], describeEnd(code, reason)) });
}

/** @param {{ client: string, payload: any }} welcome */
function welcomed({ client: id, payload }) {
  tab.outageLogged = false;
  byId('client').textContent = id;
  byId('welcome').textContent = String(payload);
  log.add({ type: 'welcome', text: words.connectedAs(id) });
}

/** @param {Message} message */
function messageReceived({ type, payload, room, from, ts, own }) {
  const plain = type === 'message' && typeof payload === 'string';
  log.add({
    type,
    room,
    ts,
    own,
    who: own ? words.you : (room === undefined ? words.server : from ?? ''),
    tag: plain ? undefined : type,
    text: plain ? payload : formatJson(payload),
    code: !plain,
  });
}

/** @param {{ room: string, members: number }} room */
function roomChanged({ room, members }) {
  // The event may have been sent before the room was left.
  if (client.rooms.includes(room)) tab.rooms.set(room, { members });
  showRooms();
}

/** @param {{ room: string, error?: WscastError }} room */
function roomLeft({ room, error }) {
  if (tab.rooms.delete(room)) log.add({ type: 'left', room, text: words.leftRoom(room) });
  if (error) logError(error, room);
  showAddress();
  showRooms();
}

/**
 * Adds one row for an error, although both an event and a promise may report it.
 * @type {(error: WscastError, room?: string) => void}
 */
function logError(error, room = '') {
  if (tab.loggedErrors.has(error)) return;
  tab.loggedErrors.add(error);
  const text = error.code === 'invalid_room' ? words.invalidRoom(room) : describeError(error);
  log.add({ type: 'error', tag: error.code, text });
}

// Input of the reader

/** @param {Promise<unknown>} published */
function watchPublish(published) {
  published.catch(logError).finally(showUnsent);
  showUnsent();
}

/** @param {SubmitEvent} event */
function sendMessage(event) {
  event.preventDefault();
  const input = byId('message-text');
  if (input.value !== '') watchPublish(client.publish(input.value, { room: tab.target }));
  input.value = '';
  input.focus();
}

/** @param {SubmitEvent} event */
function sendEvent(event) {
  event.preventDefault();
  const text = byId('event-text').value;
  const error = jsonError(text);
  showJsonError(error);
  // The text is sent as it was typed, because parsing and printing it again would round long numbers.
  if (error === null) watchPublish(client.publishJson(text, { type: 'custom_event', room: tab.target }));
}

/** @param {KeyboardEvent} event */
function sendEventByKey(event) {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  // A click on a disabled button does nothing.
  byId('send-event').click();
}

/** @param {SubmitEvent} event */
function joinRoom(event) {
  event.preventDefault();
  const input = byId('room-name');
  const room = normalRoomName(input.value.trim());
  input.focus();
  if (room === '') return;
  if (isForbidden()) reconnectTo(room);
  const isNew = !tab.rooms.has(room);
  client.join(room, { presence: true }).then((state) => {
    tab.target = room;
    if (isNew) log.add({ type: 'joined', room, text: words.joinedRoom(room, state.members) });
    showAddress();
    showRooms();
    if (normalRoomName(input.value.trim()) === room) input.value = '';
  }).catch((error) => logError(error, room));
}

/** Whether the server has refused the rooms that this tab asked for. */
function isForbidden() {
  const { state } = client;
  return state.name === 'closed' && state.code === FORBIDDEN;
}

/** Connects again, and asks for this room alone. @param {string} room */
function reconnectTo(room) {
  for (const other of client.rooms.filter((name) => name !== room)) client.leave(other);
  client.reconnect();
}

/** @param {string} room */
function leaveRoom(room) {
  // The keyboard focus would disappear with the button, so it moves to the next field.
  const byKeyboard = document.activeElement?.matches(':focus-visible');
  client.leave(room).catch(logError);
  if (byKeyboard) byId('room-name').focus();
}

/** @param {string} room */
function selectRoom(room) {
  tab.target = room;
  showRooms();
}

// Output

/** Puts the rooms into the page's address, for a reload or a bookmark. */
function showAddress() {
  const url = new URL(location.href);
  url.searchParams.delete('room');
  for (const room of client.rooms) url.searchParams.append('room', room);
  history.replaceState(null, '', url);
}

function showRooms() {
  const { name } = client.state;
  const online = name === 'open';
  if (tab.target === undefined || !tab.rooms.has(tab.target)) [tab.target] = tab.rooms.keys();
  roomList.show(tab.rooms, tab.target, online);
  const canJoin = online || isForbidden();
  byId('rooms-hint').hidden = tab.rooms.size === 0;
  byId('rooms-empty').hidden = !canJoin || tab.rooms.size > 0;
  byId('message-label').textContent = tab.target ? words.messageLabel(tab.target) : words.message;
  byId('join-room').disabled = !canJoin;
  // Messages sent during an outage are published after it.
  byId('send-message').disabled = name === 'closed' || !tab.target;
  byId('send-event').disabled = name === 'closed' || !tab.target;
}

function showUnsent() {
  const hasUnsent = client.state.name !== 'open' && client.waiting > 0;
  byId('unsent').textContent = hasUnsent ? words.unsent(client.waiting) : '';
}

/** @param {string | null} error */
function showJsonError(error) {
  byId('event-error').textContent = error === null ? '' : words.invalidJson(error);
  byId('event-text').setAttribute('aria-invalid', String(error !== null));
}

/** @param {State} state */
function showState(state) {
  const ended = state.name === 'waiting' || state.name === 'closed';
  byId('state').dataset.state = STATE_NAMES[state.name];
  byId('state-name').textContent = words[STATE_NAMES[state.name]];
  byId('state-reason').textContent = ended ? describeEnd(state.code, state.reason) : '';
  byId('client-line').hidden = state.name !== 'open';
  byId('reconnect').hidden = !ended;
  byId('reconnect').textContent = state.name === 'closed' ? words.connectAgain : words.reconnectNow;
  clearInterval(tab.countdown);
  showCountdown();
  if (state.name === 'waiting') tab.countdown = setInterval(showCountdown, COUNTDOWN_EVERY_MS);
  showUnsent();
}

function showCountdown() {
  const { state } = client;
  const seconds = state.name === 'waiting' ? Math.ceil((state.at - Date.now()) / 1000) : 0;
  byId('countdown').textContent = seconds > 0 ? words.inSeconds(seconds) : '';
}

client
  .on('state', stateChanged)
  .on('welcome', welcomed)
  .on('message', messageReceived)
  .on('custom_event', messageReceived)
  .on('joined', roomChanged)
  .on('presence', roomChanged)
  .on('left', roomLeft)
  .on('gap', (gap) => log.add({ type: 'gap', room: gap.room, text: describeGap(gap) }))
  .on('error', logError)
  .on('other', ({ type, payload }) => log.add({ type, tag: type, text: formatJson(payload), code: true }));
byId('message-form').addEventListener('submit', sendMessage);
byId('event-form').addEventListener('submit', sendEvent);
byId('event-text').addEventListener('keydown', sendEventByKey);
byId('event-text').addEventListener('input', () => showJsonError(null));
byId('join-form').addEventListener('submit', joinRoom);
byId('clear-log').addEventListener('click', () => log.clear());
byId('reconnect').addEventListener('click', () => client.reconnect());
