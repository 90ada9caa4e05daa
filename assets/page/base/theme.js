/** Light or dark: as the system is, or as the reader chose. */

import { byId } from './element.js';
import { saveSettings, settings } from './settings.js';
import { words } from '../words/words.js';

const NEXT = /** @type {const} */ ({ system: 'light', light: 'dark', dark: 'system' });

export function startTheme() {
  const { theme } = settings;
  if (theme === undefined) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function switchTheme() {
  const next = NEXT[settings.theme ?? 'system'];
  saveSettings({ theme: next === 'system' ? undefined : next });
  startTheme();
  translateTheme();
}

export function translateTheme() {
  const text = words.themes[settings.theme ?? 'system'];
  byId('theme').setAttribute('aria-label', text);
  byId('theme').title = text;
}
