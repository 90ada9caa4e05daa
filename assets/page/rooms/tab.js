/**
 * The rooms of this tab and what happens in them. It turns the client's events into rows, counts what is unread, and
 * remembers what was read. It draws nothing.
 */

import { normalRoomName } from '../../client/rooms.js';
import { formatDuration } from '../base/format.js';
import { markRead, saveSettings, settings } from '../base/settings.js';
import { sentIds } from '../compose/memory.js';
import { describeEnd, describeGap } from '../words/describe.js';
import { words } from '../words/words.js';
import { loadOlder, messagesToResume } from './history.js';
import { eventRow, messageRow } from './rows.js';
import { RoomView } from './view.js';

/**
 * @typedef {import('./rows.js').Row} Row
 * @typedef {import('../../client/types.js').RoomState} RoomState
 * @typedef {import('../../client/types.js').Message} Message
 *
 * @typedef {object} TabOptions
 * @property {import('../../client/client.js').WscastClient} client
 * @property {() => boolean} isSeen whether the end of the selected room is on the screen
 * @property {(view: RoomView) => void} onRows rows of a room have changed
 * @property {() => void} onRooms the rooms, their members or their unread messages have changed
 * @property {(view: RoomView, row: Row) => void} onMessage a message of another client has arrived
 */

export class Tab {
  /** By name, in the order of joining. @type {Map<string, RoomView>} */
  views = new Map();
  /** The name of the selected room. @type {string | undefined} */
  selected = settings.room;
  /** Messages received since the page was opened. */
  received = 0;
  /** Whether the reader has sent a message since the page was opened. */
  hasSent = false;
  /** Events while the tab is in no room. */
  #nowhere = new RoomView('');
  #options;
  /** Why and when the connection ended. @type {{ since: number, code: any, reason: string } | null} */
  #outage = null;

  /** @param {TabOptions} options */
  constructor(options) {
    this.#options = options;
    options.client
      .on('welcome', () => this.#welcomed())
      .on('state', (state) => this.#stateChanged(state))
      .on('joined', (state) => this.#joined(state))
      .on('presence', ({ room, members, clients }) => this.#presence(room, members, clients))
      .on('left', ({ room }) => this.#left(room))
      .on('gap', (gap) => this.#gap(gap))
      .on('message', (message) => this.#message(message))
      .on('custom_event', (message) => this.#message(message));
  }

  /** The selected room, or a place for events while there is none. */
  get view() {
    return this.views.get(this.selected ?? '') ?? this.#nowhere;
  }

  /** Unread messages of all rooms. */
  get unread() {
    return [...this.views.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  /** @param {string} room */
  select(room) {
    this.view.firstUnread = undefined;
    this.view.trim(false);
    this.selected = room;
    saveSettings({ room });
    this.view.firstUnread = this.#firstUnread(this.view);
    this.seen();
    this.#options.onRooms();
  }

  /** To be called when the end of the selected room may have come onto the screen. */
  seen() {
    const { view } = this;
    if (view.skipped > 0 && view.follow) this.#reload(view);
    if (!this.#options.isSeen()) return;
    // Also marks messages that arrived while the tab was hidden.
    if (view.unread > 0) view.firstUnread ??= this.#firstUnread(view);
    view.unread = 0;
    this.#markRead(view);
    this.#options.onRooms();
  }

  /** Adds an event to a room, or to the selected one. @type {(type: string, say: () => string, room?: string) => void} */
  addEvent(type, say, room) {
    const view = this.views.get(room ?? '') ?? this.view;
    view.append(eventRow(type, say, room), view === this.view);
    this.#options.onRows(view);
  }

  /** Loads older messages, as many as are wanted. @type {(view: RoomView, messages?: number) => Promise<void>} */
  async loadOlder(view, messages) {
    const { client, onRows } = this.#options;
    if (client.state.name !== 'open' || view === this.#nowhere) return;
    await loadOlder(view, client, ({ id }) => sentIds.has(id), () => onRows(view), messages);
  }

  /** Forgets the messages of the selected room until the reader asks for older ones. */
  clear() {
    const { view } = this;
    view.clear();
    view.first = view.last + 1;
    view.top = 'cleared';
    this.#options.onRows(view);
  }

  /** Loads the newest messages instead of those that were not kept. @param {RoomView} view */
  #reload(view) {
    const { skipped } = view;
    view.clear();
    view.first = view.last + 1;
    view.top = 'none';
    view.append(eventRow('gap', () => words.skipped(skipped), view.name), true);
    this.#options.onRows(view);
  }

  /** @param {RoomView} view */
  #firstUnread(view) {
    let left = view.unread;
    if (left === 0) return undefined;
    for (let index = view.rows.length - 1; index >= 0; index -= 1) {
      const { kind, own } = view.rows[index];
      if (kind === 'message' && !own) left -= 1;
      if (left === 0) return view.rows[index];
    }
    return view.rows[0];
  }

  /** @param {RoomView} view */
  #markRead(view) {
    if (view.epoch === undefined) return;
    const { epoch, last: offset } = view;
    const before = settings.read?.[view.name];
    if (before?.epoch !== epoch || before.offset !== offset) markRead(view.name, { epoch, offset });
  }

  // Events of the client

  #welcomed() {
    if (!this.#outage) return;
    const { since, code, reason } = this.#outage;
    this.#outage = null;
    const seconds = (Date.now() - since) / 1_000;
    for (const view of this.views.values()) {
      view.append(eventRow('disconnected', () => words.reconnectedAfter(formatDuration(Math.max(1, seconds)), describeEnd(code, reason))), view === this.view);
      this.#options.onRows(view);
    }
  }

  /** Remembers the first reason of an outage; the failed attempts after it are no news. @param {any} state */
  #stateChanged({ name, code, reason }) {
    if ((name === 'waiting' || name === 'closed') && code !== 'cached') this.#outage ??= { since: Date.now(), code, reason };
  }

  /** @param {RoomState} state */
  #joined({ room, epoch, offset, members }) {
    const { client, onRooms } = this.#options;
    // The event may have been sent before the room was left.
    if (!client.rooms.includes(room)) return;
    const view = this.views.get(room) ?? new RoomView(room);
    this.views.set(room, view);
    if (this.selected === undefined || !this.views.has(this.selected)) this.#selectIfWanted(room);
    view.members = members;
    const isNew = view.epoch !== epoch;
    if (isNew) this.#renumbered(view, epoch, offset);
    if (view.clients === undefined) client.presence(room).then(({ members, clients }) => this.#presence(room, members, clients)).catch(() => {});
    onRooms();
  }

  /** The rooms are joined in any order, and the one of the last visit may come later. @param {string} room */
  #selectIfWanted(room) {
    const wanted = this.selected;
    if (wanted === undefined || !this.#options.client.rooms.includes(wanted)) this.selected = room;
  }

  /** @type {(view: RoomView, epoch: string, offset: number) => void} */
  #renumbered(view, epoch, offset) {
    const isFirst = view.epoch === undefined;
    view.epoch = epoch;
    if (!isFirst) {
      // The rows above are of another numbering, so nothing can be loaded above them.
      view.top = 'restarted';
      return;
    }
    view.first = offset + 1;
    view.last = offset;
    const read = settings.read?.[view.name];
    this.loadOlder(view, messagesToResume(view, read)).then(() => this.#resumed(view, read, offset));
  }

  /** Marks the messages that have arrived since the last visit. @type {(view: RoomView, read: { epoch: string, offset: number } | undefined, joinedAt: number) => void} */
  #resumed(view, read, joinedAt) {
    if (!read || read.epoch !== view.epoch) {
      this.seen();
      return;
    }
    const isNew = (/** @type {Row} */ row) => row.kind === 'message' && !row.own && (row.offset ?? 0) > read.offset && (row.offset ?? 0) <= joinedAt;
    view.unread += view.rows.filter(isNew).length;
    if (view === this.view) view.firstUnread = view.rows.find(isNew);
    this.seen();
    this.#options.onRows(view);
    this.#options.onRooms();
  }

  /** @type {(room: string, members: number, clients?: { client: string, user?: string }[]) => void} */
  #presence(room, members, clients) {
    const view = this.views.get(room);
    if (!view) return;
    view.members = members;
    view.clients = clients;
    this.#options.onRooms();
  }

  /** @param {string} room */
  #left(room) {
    this.views.delete(normalRoomName(room));
    if (this.selected === room) [this.selected] = this.views.keys();
    markRead(room);
    this.#options.onRooms();
  }

  /** @param {import('../../client/types.js').Gap} gap */
  #gap(gap) {
    const view = this.views.get(gap.room);
    if (view) view.last = gap.to.offset;
    this.addEvent('gap', () => describeGap(gap), gap.room);
  }

  /** @param {Message} message */
  #message(message) {
    this.received += 1;
    if (message.room === undefined) {
      for (const view of this.views.size > 0 ? this.views.values() : [this.#nowhere]) this.#add(view, messageRow(message, false));
      return;
    }
    const view = this.views.get(message.room);
    if (!view) return;
    // The id is random, so a message with it is this tab's, even if the client cannot know that yet.
    const sent = view.takeOutgoing(message.id);
    const row = messageRow(message, message.own || sent !== undefined, view.epoch);
    if (row.own) row.status = 'stored';
    this.#add(view, row);
  }

  /** @type {(view: RoomView, row: Row) => void} */
  #add(view, row) {
    const isSelected = view === this.view;
    view.append(row, isSelected);
    this.#options.onRows(view);
    if (row.own) return;
    this.#options.onMessage(view, row);
    if (isSelected && this.#options.isSeen()) {
      this.#markRead(view);
      return;
    }
    view.unread += 1;
    this.#options.onRooms();
  }
}
