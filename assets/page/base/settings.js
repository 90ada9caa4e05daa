/**
 * Settings that this browser stores: language, theme, rooms, the selected room, what was read. Tokens are never
 * stored, and neither are messages. Other tabs store their settings at the same place.
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
 * @property {Record<string, ReadMark | undefined>} [read]
 */

/** @type {Settings} */
export const settings = load();

/** The marks that this tab has changed since it stored them. @type {Map<string, ReadMark | undefined>} */
const changedMarks = new Map();

/** Stores settings. Settings that another tab has changed stay. @param {Partial<Settings>} changes */
export function saveSettings(changes) {
  Object.assign(settings, changes);
  store({ ...load(), ...changes });
}

/** Remembers what was read of a room, once `saveMarks` is called. Without a mark the room is forgotten. @type {(room: string, mark?: ReadMark) => void} */
export function markRead(room, mark) {
  settings.read = { ...settings.read, [room]: mark };
  changedMarks.set(room, mark);
}

export function saveMarks() {
  if (changedMarks.size === 0) return;
  const stored = load();
  store({ ...stored, read: { ...stored.read, ...Object.fromEntries(changedMarks) } });
  changedMarks.clear();
}

/** @param {Settings} all */
function store(all) {
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // Storage is forbidden or full. The page works without stored settings.
  }
}

/** @returns {Settings} */
function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    return stored !== null && typeof stored === 'object' ? stored : {};
  } catch {
    return {};
  }
}
