/** Sent texts and drafts, for this tab and its reloads. */

const KEY = `wscast:${location.pathname}:written`;
const SENT_MAX = 50;
const IDS_MAX = 500;
/** Longer texts are not remembered. */
const TEXT_CHARS_MAX = 8_000;

/** @typedef {'message' | 'custom_event'} Mode */

/** @type {{ sent: { mode: Mode, text: string }[], ids: string[], drafts: Record<string, { mode: Mode, texts: Partial<Record<Mode, string>> }> }} */
const memory = load();

/** The ids of the messages that were sent, by which they are known after a reload. */
export const sentIds = new Set(memory.ids);

/** @param {string} id */
export function rememberId(id) {
  sentIds.add(id);
  for (const oldest of sentIds) {
    if (sentIds.size <= IDS_MAX) break;
    sentIds.delete(oldest);
  }
  save();
}

/** Returns the texts that were sent, the newest first. @param {Mode} mode */
export function sentTexts(mode) {
  return memory.sent.filter((sent) => sent.mode === mode).map(({ text }) => text);
}

/** @type {(mode: Mode, text: string) => void} */
export function rememberSent(mode, text) {
  if (text.length > TEXT_CHARS_MAX) return;
  memory.sent = [{ mode, text }, ...memory.sent.filter((sent) => sent.mode !== mode || sent.text !== text)].slice(0, SENT_MAX);
  save();
}

/** Returns the texts in the field of a room. @param {string} room */
export function draft(room) {
  memory.drafts[room] ??= { mode: 'message', texts: {} };
  return memory.drafts[room];
}

export function saveDrafts() {
  save();
}

function save() {
  const drafts = Object.entries(memory.drafts).filter(([, { texts }]) => Object.values(texts).some((text) => text && text.length <= TEXT_CHARS_MAX));
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ sent: memory.sent, ids: [...sentIds], drafts: Object.fromEntries(drafts) }));
  } catch {
    // The browser allows no storage, or it is full.
  }
}

function load() {
  try {
    const { sent, ids, drafts } = JSON.parse(sessionStorage.getItem(KEY) ?? '{}');
    return { sent: Array.isArray(sent) ? sent : [], ids: Array.isArray(ids) ? ids : [], drafts: drafts ?? {} };
  } catch {
    return { sent: [], ids: [], drafts: {} };
  }
}
