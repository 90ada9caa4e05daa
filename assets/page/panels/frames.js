/** The panel with the raw frames of both directions. */

import { button, element } from '../base/element.js';
import { copyText, saveFile } from '../base/copy.js';
import { formatBytes, formatClock } from '../base/format.js';
import { VirtualList, listElement } from '../log/virtual.js';
import { words } from '../words/words.js';

const SHOWN_CHARS_MAX = 600;
const ARROWS = { in: '↓', out: '↑', open: '●', close: '○' };

/**
 * @typedef {import('../connection/frames.js').Frame} Frame
 * @param {import('../connection/frames.js').FrameLog} log
 */
export function framesPanel(log) {
  /** @type {VirtualList<Frame> | undefined} */
  let list;

  /** @param {HTMLElement} box */
  function draw(box) {
    const bar = element('div', 'row');
    const copy = button('quiet', words.copy, () => copyText(text(), copy));
    bar.append(copy, button('quiet', words.export, () => saveFile('frames.txt', 'text/plain', [text()])), button('quiet', words.clear, () => log.clear()));
    const scroller = element('div', 'frames');
    scroller.tabIndex = 0;
    scroller.setAttribute('role', 'region');
    scroller.setAttribute('aria-label', words.panels.frames);
    const rows = listElement(words.panels.frames);
    scroller.append(rows);
    box.append(element('p', 'hint', words.framesHint), bar, scroller);
    list = new VirtualList({ scroller, list: rows, estimate: () => 26, draw: drawFrame });
    list.setSource({
      get base() { return log.base; },
      get length() { return log.frames.length; },
      get stable() { return log.frames.length; },
      at: (index) => log.frames[index],
    });
  }

  function text() {
    return log.frames.map(({ direction, ts, text }) => `${new Date(ts).toISOString()} ${direction} ${text}\n`).join('');
  }

  /** @param {boolean} open */
  function opened(open) {
    log.changed = open ? () => list?.update() : () => {};
    if (!open) list = undefined;
  }

  return { draw, opened };
}

/** @param {Frame} frame */
function drawFrame({ direction, ts, text, chars }) {
  const node = element('div', `frame ${direction}`);
  node.setAttribute('role', 'listitem');
  const arrow = element('span', 'arrow', ARROWS[direction]);
  arrow.setAttribute('role', 'img');
  arrow.setAttribute('aria-label', words.directions[direction]);
  const shown = text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX)}…` : text;
  const size = element('span', 'size', direction === 'in' || direction === 'out' ? formatBytes(chars) : '');
  node.append(arrow, element('time', '', formatClock(ts)), element('code', '', shown), size);
  return node;
}
