/**
 * A list that draws only the rows on the screen, so that 100 000 rows cost as much as fifty. New rows never move what
 * the reader looks at: the list either follows its end, or keeps its anchor row where it is.
 */

import { element, oncePerFrame } from '../base/element.js';
import { Heights } from './heights.js';

/** Rows this far outside of the screen are drawn too. */
const OVERSCAN_PX = 400;
/** The list follows its end if the end is closer than this. */
const END_PX = 24;

/**
 * @template Row
 * @typedef {object} Source
 * @property {number} base the number of the first row; rows keep their numbers when others are added above or dropped
 * @property {number} length
 * @property {(index: number) => Row} at
 * @property {number} stable the rows before this index do not change, except at the start of the list
 */

/** @template {{ px?: number }} Row */
export class VirtualList {
  /** Whether the list scrolls to new rows. */
  follow = true;
  /** The first visible row, and how many of its pixels are scrolled out at the top. */
  anchor = { row: 0, above: 0 };
  #options;
  #canvas;
  #heights = new Heights();
  #base = 0;
  /** The rows that were in the list when it was last drawn, at their indexes. Only the drawn ones have nodes. @type {Map<Row, any>} */
  #nodes = new Map();
  #width = 0;
  #viewHeight = 0;
  #scrolledTo = -1;
  /** @type {Source<Row>} */
  #source = { base: 0, length: 0, stable: 0, at: () => { throw new RangeError(); } };
  /** Draws before the next frame. */
  update = oncePerFrame(() => this.draw());

  /**
   * @param {{ scroller: HTMLElement, list: HTMLElement, estimate: (row: Row) => number,
   *   draw: (row: Row, before: Row | undefined) => HTMLElement, isCurrent?: (node: any, row: Row, before: Row | undefined) => boolean,
   *   onScroll?: () => void, onDrawn?: () => void, keep?: () => Row | undefined }} options
   *   `isCurrent`: whether a drawn row need not be drawn again. `onScroll`: the reader has scrolled. `keep`: a row that
   *   stays in the document wherever the list is scrolled to
   */
  constructor(options) {
    const { scroller, list } = options;
    this.#options = options;
    this.#canvas = list;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(scroller);
  }

  /** Shows another list of rows. @param {Source<Row>} source */
  setSource(source) {
    this.#source = source;
    this.redraw();
  }

  /** Draws all rows again, for example in another language. */
  redraw() {
    for (const node of this.#nodes.values()) node.remove();
    this.#nodes.clear();
    this.#heights.truncate(0);
    this.update();
  }

  /** Draws one row again. @param {Row} row */
  redrawRow(row) {
    this.#nodes.get(row)?.remove();
    this.#nodes.delete(row);
    this.update();
  }

  /** @param {Row} row */
  node(row) {
    return this.#nodes.get(row);
  }

  scrollToEnd() {
    this.follow = true;
    this.draw();
  }

  /** Scrolls as little as needed to show a row. @param {number} index */
  scrollToRow(index) {
    const { scroller } = this.#options;
    const top = this.#heights.offset(index) + this.#canvas.offsetTop;
    const bottom = this.#heights.offset(index + 1) + this.#canvas.offsetTop;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (bottom > scroller.scrollTop + this.#viewHeight) scroller.scrollTop = bottom - this.#viewHeight;
    this.#scrolled();
    this.draw();
  }

  /** Returns whether the end of the list is on the screen. */
  isAtEnd() {
    return this.#distanceToEnd() < END_PX;
  }

  #distanceToEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#options.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  draw() {
    const { scroller, onDrawn } = this.#options;
    // A list that is not shown has no height.
    if (scroller.clientHeight === 0) return;
    this.#viewHeight = scroller.clientHeight;
    if (this.#width !== scroller.clientWidth) this.#forgetHeights(scroller.clientWidth);
    this.#syncHeights();
    // The rows that come into view are measured, which moves others into view.
    for (let round = 0; round < 4; round += 1) {
      this.#setHeight();
      this.#scrollToPlace();
      if (!this.#drawRows()) break;
    }
    this.#setHeight();
    this.#scrollToPlace();
    this.#position();
    onDrawn?.();
  }

  /** Heights of rows that are not on the screen are estimates after the width has changed. @param {number} width */
  #forgetHeights(width) {
    this.#width = width;
    this.#heights.truncate(0);
    for (const node of this.#nodes.values()) node.remove();
    this.#nodes.clear();
  }

  /** Makes the heights match the rows. */
  #syncHeights() {
    const { base, length, at, stable } = this.#source;
    if (base !== this.#base) this.#heights.truncate(0);
    this.#base = base;
    this.#heights.truncate(stable);
    const { estimate } = this.#options;
    for (let index = this.#heights.length; index < length; index += 1) {
      const row = at(index);
      this.#heights.push(row.px ?? estimate(row));
    }
  }

  #setHeight() {
    this.#canvas.style.height = `${Math.ceil(this.#heights.total)}px`;
  }

  #scrollToPlace() {
    const { scroller } = this.#options;
    const index = Math.max(0, Math.min(this.anchor.row - this.#base, this.#heights.length));
    const place = this.follow
      ? scroller.scrollHeight - scroller.clientHeight
      : this.#canvas.offsetTop + this.#heights.offset(index) + this.anchor.above;
    // Setting it to where it is would end the browser's smooth scrolling.
    if (Math.abs(scroller.scrollTop - place) >= 1) scroller.scrollTop = place;
    this.#scrolledTo = scroller.scrollTop;
  }

  /** Returns the indexes of the rows to draw, the second one excluded. */
  #range() {
    const top = this.#options.scroller.scrollTop - this.#canvas.offsetTop;
    const { length } = this.#heights;
    if (length === 0) return [0, 0];
    return [this.#heights.rowAt(top - OVERSCAN_PX), Math.min(length, this.#heights.rowAt(top + this.#viewHeight + OVERSCAN_PX) + 1)];
  }

  /** Draws the missing rows and measures them. Returns whether a height has changed. */
  #drawRows() {
    const { draw, isCurrent, keep } = this.#options;
    const { at } = this.#source;
    const [start, end] = this.#range();
    const wanted = new Map();
    for (let index = start; index < end; index += 1) wanted.set(at(index), index);
    const kept = keep?.();
    for (const [row, node] of this.#nodes) {
      const index = wanted.get(row);
      const current = index === undefined ? row === kept : isCurrent?.(node, row, index > 0 ? at(index - 1) : undefined) ?? true;
      if (current) continue;
      node.remove();
      this.#nodes.delete(row);
    }
    const drawn = [];
    for (const [row, index] of wanted) {
      if (this.#nodes.has(row)) continue;
      const node = draw(row, index > 0 ? at(index - 1) : undefined);
      this.#nodes.set(row, node);
      drawn.push({ row, index, node });
    }
    this.#insert(drawn, wanted);
    // All are measured after all were inserted, so that the browser computes one layout.
    let changed = false;
    for (const { row, index, node } of drawn) {
      const px = node.offsetHeight;
      const before = this.#heights.offset(index + 1) - this.#heights.offset(index);
      row.px = px;
      if (px === before) continue;
      this.#heights.change(index, px - before);
      changed = true;
    }
    return changed;
  }

  /** Inserts rows in the order of the list, which a screen reader and the tab key follow. @type {(drawn: { index: number, node: HTMLElement }[], wanted: Map<Row, number>) => void} */
  #insert(drawn, wanted) {
    if (drawn.length === 0) return;
    let next = /** @type {ChildNode | null} */ (null);
    const inOrder = [...wanted.keys()].reverse();
    for (const row of inOrder) {
      const node = this.#nodes.get(row);
      if (node.parentNode !== this.#canvas) this.#canvas.insertBefore(node, next);
      next = node;
    }
  }

  #position() {
    const { at, length } = this.#source;
    const [start, end] = this.#range();
    let px = this.#heights.offset(start);
    for (let index = start; index < end; index += 1) {
      const row = at(index);
      const node = this.#nodes.get(row);
      if (!node) continue;
      if (node.top !== px) {
        node.top = px;
        node.style.transform = `translateY(${px}px)`;
      }
      node.setAttribute('aria-posinset', String(index + 1));
      node.setAttribute('aria-setsize', String(length));
      px += this.#heights.offset(index + 1) - this.#heights.offset(index);
    }
  }

  #scrolled() {
    const { scroller, onScroll } = this.#options;
    // The browser rounds, and reports the list's own scrolling too.
    const moved = scroller.scrollTop - this.#scrolledTo;
    if (Math.abs(moved) < 1) return;
    this.#scrolledTo = scroller.scrollTop;
    // The browser scrolls a list that becomes higher or wider. The list stays where it was.
    if (scroller.clientHeight !== this.#viewHeight || scroller.clientWidth !== this.#width) return this.update();
    this.#setAnchor();
    // The first pixels upward count, because a smooth scroll starts with few.
    this.follow = this.#distanceToEnd() < (moved < 0 ? 1 : END_PX);
    onScroll?.();
    this.update();
  }

  #setAnchor() {
    const { scroller } = this.#options;
    const top = scroller.scrollTop - this.#canvas.offsetTop;
    const index = this.#heights.length === 0 ? 0 : this.#heights.rowAt(top);
    this.anchor = { row: this.#base + index, above: top - this.#heights.offset(index) };
  }

  /** Keeps the present place from now on, even if that is the end. */
  hold() {
    this.#setAnchor();
    this.follow = false;
  }

  #resized() {
    this.update();
  }
}

/** The element that a list draws its rows in. @param {string} label */
export function listElement(label) {
  const list = element('div', 'virtual');
  list.setAttribute('role', 'list');
  if (label) list.setAttribute('aria-label', label);
  return list;
}
