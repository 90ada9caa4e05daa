/** The panel beside the conversation: code, charts, frames and the operator's part, one at a time. */

import { byId, element } from '../base/element.js';
import { saveSettings, settings } from '../base/settings.js';
import { words } from '../words/words.js';

/** @typedef {{ draw: (box: HTMLElement) => void, update?: () => void, opened?: (open: boolean) => void }} Panel */

/** @param {Record<string, Panel>} panels by the name of their buttons */
export function createPanels(panels) {
  const aside = byId('panel');
  const title = byId('panel-title');
  const body = byId('panel-body');
  /** @type {string | undefined} */
  let open;

  /** @type {(name: string | undefined, byReader?: boolean) => void} */
  function show(name, byReader = true) {
    const before = open;
    if (before) panels[before].opened?.(false);
    open = name && panels[name] ? name : undefined;
    aside.hidden = open === undefined;
    document.body.classList.toggle('has-panel', open !== undefined);
    for (const each of document.querySelectorAll('[data-panel]')) {
      each.setAttribute('aria-expanded', String(/** @type {HTMLElement} */ (each).dataset.panel === open));
    }
    if (open) {
      draw();
      panels[open].opened?.(true);
      if (byReader) title.focus();
    } else if (before && byReader) {
      /** @type {HTMLElement | null} */ (document.querySelector(`[data-panel=${before}]`))?.focus();
    }
    if (byReader) saveSettings({ panel: open });
  }

  function draw() {
    if (!open) return;
    title.textContent = words.panels[open];
    const box = element('div', `panel-${open}`);
    body.replaceChildren(box);
    panels[open].draw(box);
  }

  function update() {
    if (open) panels[open].update?.();
  }

  for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-panel]'))) {
    each.addEventListener('click', () => show(open === each.dataset.panel ? undefined : each.dataset.panel));
  }
  byId('panel-close').addEventListener('click', () => show(undefined));
  aside.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => { if (event.key === 'Escape') show(undefined); });
  // On a narrow screen a panel covers the conversation, so it is not opened unasked.
  const isWide = matchMedia('(min-width: 1100px)').matches;
  return { show, draw, update, restore: () => show(isWide ? settings.panel : undefined, false), isOpen: (/** @type {string} */ name) => open === name };
}
