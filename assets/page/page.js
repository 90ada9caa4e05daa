/**
 * The test page of wscast: what the client tells is shown, what the reader does is handed to the client.
 *
 * The client (client.js) keeps the connection up and loses nothing; words, log, rooms and JSON have
 * modules of their own.
 */

import { WscastClient } from '../client/client.js';
import { isRoomName } from '../client/rooms.js';
import { byId } from './element.js';
import { checkJson, formatJson, parseFrame } from './json.js';
import { createLog } from './log.js';
import { createRoomList } from './rooms.js';
import { describeEnd, describeFailure, describeGap, translateDocument, words } from './words.js';

/**
 * @typedef {import('../client/types.js').State} State
 * @typedef {import('../client/types.js').Message} Message
 * @typedef {import('../client/types.js').RoomState} RoomState
 * @typedef {import('../client/types.js').WscastError} WscastError
 */

const COUNTDOWN_EVERY_MS = 250;
/** The state's names on the page: what a reader calls them. */
const STATES = { connecting: 'connecting', open: 'connected', waiting: 'reconnecting', closed: 'closed' };

translateDocument();

const log = createLog({ list: byId('log'), empty: byId('log-empty'), jump: byId('log-end') });
const roomList = createRoomList({ list: byId('rooms'), onSelect: selectRoom, onLeave: leaveRoom });
const client = new WscastClient('/ws', { rooms: readAddress(), parse: parseFrame, token: readToken });
// A token that was pasted into the address is to be used now.
addEventListener('hashchange', () => client.reconnect());

/** This tab. */
const tab = {
  /** The rooms it is in. @type {Map<string, { members: number }>} */
  rooms: new Map(),
  /** The room that is sent to. @type {string | undefined} */
  target: undefined,
  /** Whether the log says that the connection is lost. */
  down: false,
  /** Errors that the log tells of. @type {WeakSet<WscastError>} */
  told: new WeakSet(),
  countdown: 0,
};

/** The token behind the # of the address, which the browser keeps to itself. */
function readToken() {
  return new URLSearchParams(location.hash.slice(1)).get('token') ?? '';
}

/** The rooms the page address asks for; without any, the lobby. */
function readAddress() {
  const asked = new URLSearchParams(location.search).getAll('room').filter((room) => room !== '');
  for (const room of asked.filter((name) => !isRoomName(name))) {
    log.add({ type: 'error', text: words.badRoomInUrl(room) });
  }
  const rooms = [...new Set(asked.filter(isRoomName))];
  return (rooms.length > 0 ? rooms : ['lobby']).map((room) => ({ room, presence: true }));
}

// What the client tells us

/** @param {State} state */
function stateChanged(state) {
  if (state.name === 'waiting' || state.name === 'closed') reportEnd(state);
  showState(state);
  showRooms();
}

/**
 * An outage is one row, however many attempts it takes.
 * @param {State & { name: 'waiting' | 'closed' }} state
 */
function reportEnd({ name, code, reason }) {
  if (tab.down && name !== 'closed') return;
  tab.down = true;
  log.add({ type: 'disconnected', text: words.because(words[STATES[name]], describeEnd(code, reason)) });
}

/** @param {{ client: string, payload: any }} welcome */
function welcomed({ client: id, payload }) {
  tab.down = false;
  byId('client').textContent = id;
  byId('welcome').textContent = String(payload);
  log.add({ type: 'welcome', text: words.connectedAs(id) });
}

/** @param {Message} message */
function relayed({ type, payload, room, from, ts, own }) {
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
  // A room that was left meanwhile may still say who is there.
  if (client.rooms.includes(room)) tab.rooms.set(room, { members });
  showRooms();
}

/** @param {{ room: string, error?: WscastError }} room */
function left({ room, error }) {
  if (tab.rooms.delete(room)) log.add({ type: 'left', room, text: words.leftRoom(room) });
  if (error) failed(error, room);
  showAddress();
  showRooms();
}

/**
 * One row, though an event and a promise may tell of the same.
 * @type {(error: WscastError, room?: string) => void}
 */
function failed(error, room = '') {
  if (tab.told.has(error)) return;
  tab.told.add(error);
  const text = error.code === 'invalid_room' ? words.badRoom(room) : describeFailure(error);
  log.add({ type: 'error', tag: error.code, text });
}

// What the reader does

/** @param {Promise<unknown>} published */
function publishing(published) {
  published.catch(failed).finally(showUnsent);
  showUnsent();
}

/** @param {SubmitEvent} event */
function sendMessage(event) {
  event.preventDefault();
  const input = byId('message-text');
  if (input.value !== '') publishing(client.publish(input.value, { room: tab.target }));
  input.value = '';
  input.focus();
}

/** @param {SubmitEvent} event */
function sendEvent(event) {
  event.preventDefault();
  const text = byId('event-text').value;
  const problem = checkJson(text);
  showProblem(problem);
  // The text goes out as it was typed: parsing and printing it again would round long numbers.
  if (!problem) publishing(client.publishJson(text, { type: 'custom_event', room: tab.target }));
}

/** @param {KeyboardEvent} event */
function sendEventByKey(event) {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  // As a click on the button would: it does nothing while that is disabled.
  byId('send-event').click();
}

/** @param {SubmitEvent} event */
function joinRoom(event) {
  event.preventDefault();
  const input = byId('room-name');
  const room = input.value.trim();
  input.focus();
  if (room === '') return;
  const isNew = !tab.rooms.has(room);
  client.join(room, { presence: true }).then((state) => {
    tab.target = room;
    if (isNew) log.add({ type: 'joined', room, text: words.joinedRoom(room, state.members) });
    showAddress();
    showRooms();
    if (input.value.trim() === room) input.value = '';
  }).catch((error) => failed(error, room));
}

/** @param {string} room */
function leaveRoom(room) {
  // The button goes, and would take the keyboard's place with it. (A finger needs no place.)
  const keyboard = document.activeElement?.matches(':focus-visible');
  client.leave(room).catch(failed);
  if (keyboard) byId('room-name').focus();
}

/** @param {string} room */
function selectRoom(room) {
  tab.target = room;
  showRooms();
}

// What is shown

/** A reload, or a copy of the address, comes back to the same rooms. */
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
  byId('rooms-empty').hidden = !online || tab.rooms.size > 0;
  byId('message-label').textContent = tab.target ? words.messageLabel(tab.target) : words.message;
  byId('join-room').disabled = !online;
  // What is sent during an outage waits for its end.
  byId('send-message').disabled = name === 'closed' || !tab.target;
  byId('send-event').disabled = name === 'closed' || !tab.target;
}

function showUnsent() {
  const waits = client.state.name !== 'open' && client.waiting > 0;
  byId('unsent').textContent = waits ? words.unsent(client.waiting) : '';
}

/** @param {{ text: string, at?: number } | null} problem */
function showProblem(problem) {
  const editor = byId('event-text');
  byId('event-error').textContent = problem?.text ?? '';
  editor.setAttribute('aria-invalid', String(problem !== null));
  if (problem?.at === undefined) return;
  editor.focus();
  editor.setSelectionRange(problem.at, problem.at + 1);
}

/** @param {State} state */
function showState(state) {
  const ended = state.name === 'waiting' || state.name === 'closed';
  byId('state').dataset.state = STATES[state.name];
  byId('state-name').textContent = words[STATES[state.name]];
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
  .on('message', relayed)
  .on('custom_event', relayed)
  .on('joined', roomChanged)
  .on('presence', roomChanged)
  .on('left', left)
  .on('gap', (gap) => log.add({ type: 'gap', room: gap.room, text: describeGap(gap) }))
  .on('error', failed)
  .on('other', ({ type, payload }) => log.add({ type, tag: type, text: formatJson(payload), code: true }));
byId('message-form').addEventListener('submit', sendMessage);
byId('event-form').addEventListener('submit', sendEvent);
byId('event-text').addEventListener('keydown', sendEventByKey);
byId('event-text').addEventListener('input', () => showProblem(null));
byId('join-form').addEventListener('submit', joinRoom);
byId('clear-log').addEventListener('click', () => log.clear());
byId('reconnect').addEventListener('click', () => client.reconnect());
