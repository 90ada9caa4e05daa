/**
 * What the page remembers in this browser: language, theme, rooms, the selected room, what was read. Tokens
 * are never stored, and neither are messages.
 */

/** Pages below different paths of one host belong to different servers. */
const KEY = `wscast:${location.pathname}`;

/**
 * @typedef {{ epoch: string, offset: number }} ReadMark the last message that was on the screen
 *
 * @typedef {object} Settings
 * @property {'en' | 'zh'} [language]
 * @property {'light' | 'dark'} [theme] absent: the theme of the system
 * @property {string[]} [rooms]
 * @property {string} [room] the selected room
 * @property {string} [panel] the open panel
 * @property {boolean} [knowsPage] whether the hint for newcomers has served its purpose
 * @property {Record<string, ReadMark>} [read]
 */

/** @type {Settings} */
export const settings = load();

/** @param {Partial<Settings>} changes */
export function saveSettings(changes) {
  Object.assign(settings, changes);
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // The browser allows no storage, or it is full. The page works without.
  }
}

function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    return stored !== null && typeof stored === 'object' ? stored : {};
  } catch {
    return {};
  }
}
