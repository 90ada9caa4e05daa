/** The panel with charts of the last minutes. */

import { element } from '../base/element.js';
import { formatMs, formatNumber } from '../base/format.js';
import { words } from '../words/words.js';

const WIDTH = 300;
const HEIGHT = 64;
const SVG = 'http://www.w3.org/2000/svg';

/**
 * @typedef {import('../connection/health.js').Series} Series
 * @typedef {import('../connection/health.js').Health} Health
 */

/** @param {Health} health */
export function chartsPanel(health) {
  /** @type {{ update: () => void }[]} */
  let charts = [];

  /** @param {HTMLElement} box */
  function draw(box) {
    charts = [
      chart(words.charts.clients, health.clients, formatNumber),
      chart(words.charts.published, health.published, formatNumber),
      chart(words.charts.delivered, health.delivered, formatNumber),
      chart(words.charts.received, health.received, formatNumber),
      chart(words.charts.latency, health.latency, formatMs),
    ].map(({ node, update }) => {
      box.append(node);
      return { update };
    });
    box.append(element('p', 'hint', words.charts.hint));
    update();
  }

  function update() {
    for (const each of charts) each.update();
  }

  return { draw, update, opened: (/** @type {boolean} */ open) => { health.chartsOpen = open; } };
}

/** @type {(title: string, series: Series, format: (value: number) => string) => { node: HTMLElement, update: () => void }} */
function chart(title, series, format) {
  const node = element('figure', 'chart');
  const caption = element('figcaption');
  const value = element('strong');
  const highest = element('span', 'hint');
  caption.append(element('span', 'chart-title', title), value, highest);
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  const area = document.createElementNS(SVG, 'path');
  area.setAttribute('class', 'chart-area');
  const line = document.createElementNS(SVG, 'path');
  line.setAttribute('class', 'chart-line');
  svg.append(area, line);
  node.append(caption, svg);

  function update() {
    const known = /** @type {number[]} */ (series.values.filter((each) => each !== null));
    const max = Math.max(...known, 0);
    const last = series.last;
    value.textContent = last === null ? '–' : format(last);
    highest.textContent = known.length > 0 ? words.charts.highest(format(max)) : '';
    svg.setAttribute('aria-label', `${title}: ${value.textContent}, ${highest.textContent}`);
    const { stroke, fill } = paths(series.values, max);
    line.setAttribute('d', stroke);
    area.setAttribute('d', fill);
  }

  return { node, update };
}

/** Returns the line and the area below it. Missing values are gaps. @type {(values: (number | null)[], max: number) => { stroke: string, fill: string }} */
export function paths(values, max) {
  const step = WIDTH / Math.max(values.length - 1, 1);
  let stroke = '';
  let fill = '';
  let start = -1;
  values.forEach((value, index) => {
    const x = Math.round(index * step * 10) / 10;
    if (value === null) return;
    const y = Math.round((HEIGHT - 2 - (value / (max || 1)) * (HEIGHT - 6)) * 10) / 10;
    if (start < 0) fill += `M${x} ${HEIGHT}L${x} ${y}`;
    stroke += start < 0 ? `M${x} ${y}` : `L${x} ${y}`;
    if (start >= 0) fill += `L${x} ${y}`;
    start = index;
    if (index === values.length - 1 || values[index + 1] === null) {
      fill += `L${x} ${HEIGHT}Z`;
      start = -1;
    }
  });
  return { stroke, fill };
}
