/** The log of the selected room: the list, its filter, and what the keyboard does in it. */

import { byId, setText } from '../base/element.js';
import { words } from '../words/words.js';
import { drawRow, estimateHeight, rowState } from './row.js';
import { VirtualList, listElement } from './virtual.js';

/** Older messages are loaded if the top of the log is closer than this many screens. */
const LOAD_SCREENS = 2;

/**
 * @typedef {import('../rooms/rows.js').Row} Row
 * @typedef {import('../rooms/view.js').RoomView} RoomView
 * @typedef {import('./row.js').RowActions} RowActions
 */

/**
 * @param {{ actions: Omit<RowActions, 'toggle'>, onNearTop: (view: RoomView) => void, onSeen: () => void }} options
 *   `onNearTop`: older messages are wanted. `onSeen`: the end of the log is on the screen, or no longer
 */
export function createLog({ actions, onNearTop, onSeen }) {
  const scroller = byId('log');
  const list = listElement('');
  scroller.append(list);
  /** @type {RoomView | undefined} */
  let view;
  /**
   * The rows that match the filter; absent without a filter. `base` is the number of the first, `viewBase` that of the
   * room's first row when it was tested, and `next` that of the next row to test.
   * @type {{ test: (row: Row) => boolean, rows: Row[], base: number, viewBase: number, next: number } | undefined}
   */
  let filter;
  /** The row with the keyboard's focus. @type {Row | undefined} */
  let active;

  const rowActions = {
    ...actions,
    toggle: (/** @type {Row} */ row) => {
      row.expanded = !row.expanded;
      row.px = undefined;
      virtual.hold();
      virtual.redrawRow(row);
      focusRow(row);
    },
  };

  const virtual = new VirtualList({
    scroller,
    list,
    estimate: estimateHeight,
    draw: (/** @type {Row} */ row, before) => drawRow({ row, before, isFirstUnread: row === view?.firstUnread, actions: rowActions }),
    isCurrent: (node, row, before) => node.state === rowState(row, before, row === view?.firstUnread),
    keep: () => active,
    onScroll: scrolled,
    onDrawn: drawn,
  });

  const source = {
    get base() { return filter ? filter.base : view?.base ?? 0; },
    get length() { return stored().length + (view?.outgoing.length ?? 0); },
    get stable() { return stored().length; },
    at: (/** @type {number} */ index) => {
      const rows = stored();
      return index < rows.length ? rows[index] : /** @type {RoomView} */ (view).outgoing[index - rows.length];
    },
  };
  virtual.setSource(source);

  function stored() {
    return filter ? filter.rows : view?.rows ?? [];
  }

  /** Shows a room. @param {RoomView | undefined} next */
  function show(next) {
    keepPlace();
    view = next;
    active = undefined;
    applyFilter(filter?.test);
    virtual.follow = view?.follow ?? true;
    virtual.anchor = view?.anchor ?? { row: 0, above: 0 };
    virtual.redraw();
  }

  function keepPlace() {
    if (!view) return;
    view.follow = virtual.follow;
    view.anchor = virtual.anchor;
  }

  function scrolled() {
    if (!view) return;
    if (view.paused) virtual.follow = false;
    keepPlace();
    onSeen();
  }

  function drawn() {
    if (!view) return;
    byId('log-end').hidden = virtual.isAtEnd() && virtual.follow;
    setText(byId('log-end-text'), view.unread > 0 ? words.newerCount(view.unread) : words.newer);
    byId('log-empty').hidden = source.length > 0 || Boolean(filter);
    showTop();
    if (scroller.scrollTop < LOAD_SCREENS * scroller.clientHeight && !view.loadError) onNearTop(view);
  }

  /** Shows above the first row whether there is more. */
  function showTop() {
    if (!view) return;
    const isEmpty = view.rows.length === 0;
    const text = view.loading ? words.loadingHistory
      : view.loadError ? words.historyFailed(view.loadError)
      : filter ? words.matches(filter.rows.length, view.rows.length)
      : view.top === 'pruned' ? words.historyPruned
      : view.top === 'start' && !isEmpty ? words.historyStart : '';
    setText(byId('log-top-text'), text);
    byId('log-top-retry').hidden = !view.loadError && view.top !== 'cleared';
    setText(byId('log-top-retry'), view.loadError ? words.tryAgain : words.loadOlder);
  }

  /** Draws what has changed in the room. The rows that the filter has not seen are tested. */
  function update() {
    extendFilter();
    virtual.update();
  }

  // The filter

  /** @param {((row: Row) => boolean) | undefined} test */
  function applyFilter(test) {
    filter = test && view && { test, rows: view.rows.filter(test), base: 0, viewBase: view.base, next: view.base + view.rows.length };
  }

  /** Tests the rows that have been added. */
  function extendFilter() {
    if (!filter || !view) return;
    const { test, rows, next, viewBase } = filter;
    filter.next = view.base + view.rows.length;
    const added = view.rows.slice(Math.max(0, next - view.base)).filter(test);
    if (view.base === viewBase) {
      rows.push(...added);
      return;
    }
    // Rows were added above or dropped. The others keep their numbers.
    filter.rows = view.rows.filter(test);
    filter.base += rows.length + added.length - filter.rows.length;
    filter.viewBase = view.base;
  }

  /** Shows only the messages that contain a text. @param {string} text */
  function setFilter(text) {
    const wanted = text.trim();
    const pattern = new RegExp(wanted.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'), 'iu');
    const number = /^#(\d+)$/.exec(wanted);
    const test = (/** @type {Row} */ row) => {
      if (number) return row.offset === Number(number[1]);
      return row.kind === 'message' && (pattern.test(row.text) || pattern.test(row.who ?? '') || row.type === wanted);
    };
    applyFilter(wanted === '' ? undefined : test);
    virtual.follow = true;
    keepPlace();
    virtual.redraw();
  }

  // The keyboard

  /** @param {Row} row */
  function focusRow(row) {
    const before = active && virtual.node(active);
    for (const node of before?.querySelectorAll('button') ?? []) node.tabIndex = -1;
    active = row;
    virtual.draw();
    const node = virtual.node(row);
    for (const each of node?.querySelectorAll('button') ?? []) each.tabIndex = 0;
    node?.focus({ preventScroll: true });
  }

  /** @param {KeyboardEvent} event */
  function keyPressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === 'End') return stop(event, resume);
    if (event.key === 'ArrowUp' || event.key === 'ArrowDown') return stop(event, () => moveFocus(event.key === 'ArrowUp' ? -1 : 1));
    if (event.key === 'Enter' && active && event.target === virtual.node(active)) {
      const toggle = virtual.node(active).querySelector('[aria-expanded]');
      return stop(event, () => toggle?.click());
    }
  }

  /** @type {(event: Event, act: () => void) => void} */
  function stop(event, act) {
    event.preventDefault();
    act();
  }

  /** Moves the focus by one row, from the last row on the screen if no row has it. @param {number} by */
  function moveFocus(by) {
    if (source.length === 0) return;
    let index = active && virtual.node(active)?.contains(document.activeElement) ? indexOf(active) + by : source.length - 1;
    index = Math.max(0, Math.min(index, source.length - 1));
    virtual.hold();
    virtual.scrollToRow(index);
    focusRow(source.at(index));
  }

  /** @param {Row} row */
  function indexOf(row) {
    const node = virtual.node(row);
    return node ? Number(node.getAttribute('aria-posinset')) - 1 : source.length - 1;
  }

  /** Follows the end again. */
  function resume() {
    if (!view) return;
    view.paused = false;
    virtual.follow = true;
    keepPlace();
    onSeen();
    virtual.draw();
  }

  /** Stops following the end, although it is on the screen. */
  function pause() {
    if (!view) return;
    view.paused = true;
    virtual.hold();
    keepPlace();
    onSeen();
  }

  scroller.addEventListener('keydown', keyPressed);
  scroller.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
    const node = /** @type {HTMLElement} */ (event.target).closest('.entry');
    const row = node && source.at(Number(node.getAttribute('aria-posinset')) - 1);
    for (const each of list.querySelectorAll('.active')) each.classList.remove('active');
    if (row) node.classList.add('active');
  });

  return { show, update, redraw: () => virtual.redraw(), redrawRow: (/** @type {Row} */ row) => virtual.redrawRow(row), setFilter, pause, resume, matching: () => [...stored()] };
}
