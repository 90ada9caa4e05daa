/** The page of wscast: makes its parts and connects them. */

import { WscastClient } from '../client/client.js';
import { isRoomName, normalRoomName } from '../client/rooms.js';
import { copyText, saveFile } from './base/copy.js';
import { atMostEvery, byId, oncePerFrame, setText } from './base/element.js';
import { formatJson, parseFrame } from './base/json.js';
import { saveMarks, saveSettings, settings } from './base/settings.js';
import { startTheme, switchTheme, translateTheme } from './base/theme.js';
import { createComposer } from './compose/composer.js';
import { Outgoing } from './compose/outgoing.js';
import { FrameLog, recordingWebSocket } from './connection/frames.js';
import { Health } from './connection/health.js';
import { createStatus } from './connection/status.js';
import { currentToken } from './connection/token.js';
import { createLog } from './log/log.js';
import { chartsPanel } from './panels/charts.js';
import { codePanel } from './panels/code.js';
import { framesPanel } from './panels/frames.js';
import { operatorPanel } from './panels/operator.js';
import { createPanels } from './panels/panels.js';
import { createTokenDialog, showTokenButton } from './panels/token.js';
import { createRoomList, shownUnread } from './rooms/list.js';
import { showMembers } from './rooms/members.js';
import { eventRow, exportLine, messageRow } from './rooms/rows.js';
import { Tab } from './rooms/tab.js';
import { showUnreadInTab } from './rooms/unread.js';
import { describeEnd, describeError, describeGap, refusedRoom } from './words/describe.js';
import { switchLanguage, translateDocument, words } from './words/words.js';

/**
 * @typedef {import('./rooms/view.js').RoomView} RoomView
 * @typedef {import('./rooms/rows.js').Row} Row
 * @typedef {import('../client/error.js').WscastError} WscastError
 */

/** Interval between saves of the read marks. */
const SAVE_EVERY_MS = 5_000;
/** Shortest time between announcements to screen readers. */
const ANNOUNCE_EVERY_MS = 1_500;
const ANNOUNCED_CHARS_MAX = 200;
/** Close codes: the token is missing, invalid or expired; the rooms are not granted. */
const UNAUTHORIZED = 4001;
const FORBIDDEN = 4003;

startTheme();
translateDocument();

const frames = new FrameLog();
const invalidRooms = /** @type {string[]} */ ([]);
// Relative to the page's address, so that the page also works below a path such as /chat/.
const client = new WscastClient('ws', {
  rooms: firstRooms(), parse: parseFrame, token: currentToken, WebSocket: recordingWebSocket(frames),
});
const drawRooms = oncePerFrame(showRooms);
const drawTabUnread = atMostEvery(() => showUnreadInTab(tab.unread, tab.view.name || undefined), 200);
/** @type {Tab} */
const tab = new Tab({
  client,
  isSeen: () => document.visibilityState === 'visible' && tab.view.follow,
  onRows: (view) => { if (view === tab.view) log.update(); },
  onRooms: () => {
    drawRooms();
    drawTabUnread();
  },
  onMessage: announce,
});
const outgoing = new Outgoing({
  client,
  changed: (view) => {
    if (view === tab.view) log.update();
    showUnsent();
  },
  onFailed: (view, row) => {
    row.returned = composer.putBack(view.name, messageMode(row), row.text);
  },
  onStored: (view, row) => {
    view.append(row, view === tab.view);
    log.update();
  },
});
const log = createLog({
  actions: { use: useAgain, retry, dismiss },
  onNearTop: (view) => { if (!view.loading) tab.loadOlder(view); },
  onSeen: () => {
    tab.seen();
    showPause();
  },
});
const composer = createComposer({ send, bytesMax: () => health.messageBytesMax });
const roomList = createRoomList({ onSelect: selectRoom, onLeave: leaveRoom });
const status = createStatus({ client, health: () => health, refusedRoom: refused, otherRooms: () => client.rooms.length - 1, explains: () => tokenDialog.isOpen() });
const health = new Health({
  client, frames,
  oldestPending: () => outgoing.oldestPending(),
  messages: () => tab.received,
  changed: () => {
    status.show();
    panels.update();
    showTokenButton();
  },
});
const tokenDialog = createTokenDialog({ onChange: () => client.reconnect() });
const panels = createPanels({
  code: codePanel({ room: () => tab.view.name || undefined, server: () => health }),
  charts: chartsPanel(health),
  frames: framesPanel(frames),
  operator: operatorPanel({ room: () => tab.view.name || undefined, ownClient: () => client.clientId, openRoom: join }),
});
/** The view that the log shows. */
let shownView = tab.view;
log.show(shownView);

/** Returns the rooms in the page's address, none if all are invalid; without any those of the last visit, or the lobby. */
function firstRooms() {
  const wanted = new URLSearchParams(location.search).getAll('room').filter((room) => room !== '');
  invalidRooms.push(...wanted.filter((name) => !isRoomName(name)));
  const last = settings.rooms?.filter(isRoomName) ?? [];
  const rooms = wanted.length > 0 ? wanted.filter(isRoomName).map(normalRoomName) : last.length > 0 ? last : ['lobby'];
  return [...new Set(rooms)].map((room) => ({ room, presence: true }));
}

// Events of the client

/** @param {import('../client/types.js').State} state */
function stateChanged(state) {
  if (state.name === 'closed' && state.code === UNAUTHORIZED && !tokenDialog.isOpen()) {
    tokenDialog.open(describeEnd(state.code, state.reason));
  }
  status.show();
  showRooms();
  showUnsent();
}

/** @param {{ client: string, payload: any }} welcome */
function welcomed({ client: id, payload }) {
  setText(byId('welcome'), String(payload));
  byId('state').title = words.connectedAs(id);
  health.refresh();
}

/** @type {(error: WscastError, room?: string) => void} */
function showError(error, room) {
  tab.addEvent('error', () => describeError(error), room);
}

/** @type {{ view: RoomView, row: Row, count: number } | null} */
let announced = null;
const readOut = atMostEvery(() => {
  if (!announced) return;
  const { row, count } = announced;
  announced = null;
  byId('announcer').textContent = count > 1 ? words.announceCount(count) : words.announce(row.who ?? words.server, row.text.slice(0, ANNOUNCED_CHARS_MAX));
}, ANNOUNCE_EVERY_MS);

/** Announces new messages in the selected room to a screen reader. @type {(view: RoomView, row: Row) => void} */
function announce(view, row) {
  if (tab.hasSent && view.members > 1) knowsPage();
  if (view !== tab.view || !view.follow) return;
  announced = { view, row, count: (announced?.count ?? 0) + 1 };
  readOut();
}

// Input of the reader

/** @param {Row} row @returns {'message' | 'custom_event'} */
function messageMode(row) {
  return row.type === 'custom_event' ? 'custom_event' : 'message';
}

/** @param {{ type: 'message' | 'custom_event', json: string, text: string }} message */
function send({ type, json, text }) {
  const { view } = tab;
  // A failed message whose text came back is replaced by the one that was made of it.
  view.outgoing = view.outgoing.filter((row) => !(row.status === 'failed' && row.returned && row.type === type));
  outgoing.send(view, { type, json });
  tab.hasSent = true;
  view.firstUnread = undefined;
  log.resume();
  setText(byId('announcer'), '');
}

/** @param {Row} row */
function retry(row) {
  if (row.returned) composer.forget(row.room ?? '', messageMode(row), row.text);
  outgoing.retry(tab.view, row);
}

/** @param {Row} row */
function dismiss(row) {
  tab.view.takeOutgoing(row.id);
  log.update();
  composer.focus();
}

/** Copies a message's text, or an event's JSON, to the composer. @param {Row} row */
function useAgain(row) {
  if (row.room === undefined) return;
  const isText = !row.code;
  composer.putBack(row.room, isText ? 'message' : 'custom_event', isText ? row.text : formatJson(row.text), true);
  composer.focus();
}

/** @param {SubmitEvent} event */
function submitRoom(event) {
  event.preventDefault();
  const input = byId('room-name');
  const room = normalRoomName(input.value.trim());
  input.focus();
  if (room !== '') join(room);
}

/** Joins a room and selects it. @param {string} room */
function join(room) {
  setText(byId('room-error'), '');
  byId('room-name').removeAttribute('aria-invalid');
  if (!isRoomName(room)) return refuseRoom(words.invalidRoom(room));
  if (client.rooms.includes(room) && tab.views.has(room)) return selectRoom(room);
  if (isClosedBy(FORBIDDEN)) reconnectTo(room);
  client.join(room, { presence: true }).then(({ members }) => {
    tab.addEvent('joined', () => words.joinedRoom(room, members), room);
    if (normalRoomName(byId('room-name').value.trim()) === room) byId('room-name').value = '';
    selectRoom(room);
  }).catch((error) => refuseRoom(describeError(Object.assign(error, { room }))));
}

/** @param {string} text */
function refuseRoom(text) {
  setText(byId('room-error'), text);
  byId('room-name').setAttribute('aria-invalid', 'true');
}

/** @param {number} code */
function isClosedBy(code) {
  const { state } = client;
  return state.name === 'closed' && state.code === code;
}

/** Returns the room for which the server has closed the connection. */
function refused() {
  const { state } = client;
  return state.name === 'closed' ? refusedRoom(state.reason) : undefined;
}

/** Connects again, and asks for this room alone. @param {string} room */
function reconnectTo(room) {
  for (const other of client.rooms.filter((name) => name !== room)) client.leave(other);
  client.reconnect();
}

function leaveRefused() {
  const room = refused();
  if (room && client.rooms.includes(room)) client.leave(room);
  client.reconnect();
}

/** @param {string} room */
function leaveRoom(room) {
  // The keyboard's focus would disappear with the button, so it moves to the next field.
  const byKeyboard = document.activeElement?.matches(':focus-visible');
  client.leave(room).catch(showError);
  if (byKeyboard) byId('room-name').focus();
}

/** @param {string} room */
function selectRoom(room) {
  if (tab.view.name !== room) tab.select(room);
  showSide(false);
  showRooms();
  panels.draw();
}

/** @param {boolean} open */
function showSide(open) {
  document.body.classList.toggle('shows-rooms', open);
  byId('show-rooms').setAttribute('aria-expanded', String(open));
}

function togglePause() {
  if (tab.view.follow) log.pause();
  else log.resume();
}

/** @param {Row} row */
function copyLine({ ts, who, own, text }) {
  return `${new Date(ts).toISOString()}\t${own ? words.you : who ?? words.server}\t${text}\n`;
}

function shownMessages() {
  return log.matching().filter(({ kind }) => kind === 'message');
}

// Output

/** Keeps the rooms in the page's address, for a reload or a bookmark, and for the next visit. */
function rememberRooms() {
  const url = new URL(location.href);
  const rooms = client.rooms;
  const before = url.searchParams.getAll('room').join(' ');
  // The address of the lobby alone stays as it is.
  if ((before || 'lobby') === rooms.join(' ')) return;
  url.searchParams.delete('room');
  for (const room of rooms) url.searchParams.append('room', room);
  history.replaceState(null, '', url);
  saveSettings({ rooms });
}

function showRooms() {
  const { name } = client.state;
  const online = name === 'open';
  if (shownView !== tab.view) {
    shownView = tab.view;
    log.show(shownView);
  }
  const { view } = tab;
  const room = view.name || undefined;
  roomList.show(tab.views, room, online);
  showMembers(room === undefined ? undefined : view, client.clientId);
  setText(byId('room-title'), room ?? words.noRoom);
  const elsewhere = tab.unread - view.unread;
  setText(byId('unread-elsewhere'), elsewhere > 0 ? shownUnread(elsewhere) : '');
  byId('show-rooms').setAttribute('aria-label', elsewhere > 0 ? `${words.showRooms}: ${words.unreadElsewhere(elsewhere)}` : words.showRooms);
  const canJoin = online || isClosedBy(FORBIDDEN);
  byId('rooms-empty').hidden = !canJoin || tab.views.size > 0;
  byId('join-room').disabled = !canJoin;
  // Messages sent during an outage are published after it.
  byId('send').disabled = name === 'closed' || room === undefined;
  byId('second-tab').href = location.href;
  composer.show(room);
  showPause();
  log.update();
}

function showPause() {
  const { follow } = tab.view;
  byId('pause').setAttribute('aria-pressed', String(!follow));
  setText(byId('pause'), follow ? words.pause : words.follow);
}

function showUnsent() {
  const waits = client.state.name !== 'open' && outgoing.waiting > 0;
  setText(byId('unsent'), waits ? words.unsent(outgoing.waiting) : '');
}

function knowsPage() {
  byId('newcomer').hidden = true;
  if (!settings.knowsPage) saveSettings({ knowsPage: true });
}

function translate() {
  switchLanguage();
  translateTheme();
  composer.translate();
  status.show();
  showRooms();
  showTokenButton();
  showUnsent();
  panels.draw();
  log.redraw();
}

client
  .on('state', stateChanged)
  .on('welcome', welcomed)
  .on('left', ({ room, error }) => {
    rememberRooms();
    if (error) refuseRoom(describeError(Object.assign(error, { room })));
  })
  .on('joined', rememberRooms)
  .on('error', (error) => showError(error))
  .on('other', ({ type }) => tab.addEvent(type, () => type));

byId('join-form').addEventListener('submit', submitRoom);
byId('room-name').addEventListener('input', () => setText(byId('room-error'), ''));
byId('show-rooms').addEventListener('click', () => showSide(!document.body.classList.contains('shows-rooms')));
byId('filter').addEventListener('input', (/** @type {Event} */ event) => log.setFilter(/** @type {HTMLInputElement} */ (event.target).value));
byId('pause').addEventListener('click', togglePause);
byId('copy-log').addEventListener('click', () => copyText(shownMessages().map(copyLine).join(''), byId('copy-log')));
byId('export-log').addEventListener('click', () => {
  saveFile(`${tab.view.name || 'messages'}.jsonl`, 'application/jsonl', shownMessages().map((row) => `${exportLine(row)}\n`));
});
byId('clear-log').addEventListener('click', () => tab.clear());
byId('log-end').addEventListener('click', () => {
  log.resume();
  byId('log').focus();
});
byId('log-top-retry').addEventListener('click', () => {
  tab.view.top = tab.view.top === 'cleared' ? 'none' : tab.view.top;
  tab.loadOlder(tab.view);
});
byId('reconnect').addEventListener('click', () => client.reconnect());
byId('notice-token').addEventListener('click', () => tokenDialog.open());
byId('leave-refused').addEventListener('click', leaveRefused);
byId('token-button').addEventListener('click', () => tokenDialog.open());
byId('token-dialog').addEventListener('close', () => status.show());
byId('language').addEventListener('click', translate);
byId('theme').addEventListener('click', switchTheme);
byId('got-it').addEventListener('click', knowsPage);
// The reader may have added a token to the address.
addEventListener('hashchange', () => client.reconnect());
addEventListener('visibilitychange', () => tab.seen());
addEventListener('pagehide', saveMarks);
addEventListener('beforeunload', (event) => { if (outgoing.waiting > 0) event.preventDefault(); });
setInterval(saveMarks, SAVE_EVERY_MS);

translateTheme();
composer.translate();
showTokenButton();
byId('newcomer').hidden = settings.knowsPage === true;
panels.restore();
for (const room of invalidRooms) refuseRoom(words.invalidRoomInUrl(room));
status.show();
showRooms();
