/**
 * The page's state of one room: its messages, its members, what is unread. The number of rows is bounded:
 * the oldest are dropped, and scrolling up loads them from the server again.
 */

/** Rows of the selected room. */
const ROWS_MAX = 100_000;
/** Rows of a room that is not selected. */
const BACKGROUND_ROWS_MAX = 5_000;
/** Rows while the reader has scrolled up or paused; nothing is dropped from under the reader's eyes until then. */
const READING_ROWS_MAX = 200_000;
/** Characters of the payloads in a room. */
const CHARS_MAX = 24_000_000;
const BACKGROUND_CHARS_MAX = 2_000_000;
const READING_CHARS_MAX = 48_000_000;
/** Rows above the limit before the oldest are dropped, as a part of the limit: dropping rows one by one costs more. */
const SLACK = 0.1;

/**
 * @typedef {import('./rows.js').Row} Row
 * @typedef {{ client: string, user?: string }} PresentClient
 */

export class RoomView {
  /** Oldest first. @type {Row[]} */
  rows = [];
  /** Own messages that are not delivered yet, below the rows. @type {Row[]} */
  outgoing = [];
  /** The number of the first row; it grows as rows are dropped and shrinks as history is loaded above them. */
  base = 0;
  /** The characters of all rows. */
  chars = 0;
  members = 0;
  /** Unknown in large rooms. @type {PresentClient[] | undefined} */
  clients = undefined;
  /** @type {string | undefined} */
  epoch = undefined;
  /** The lowest offset that is loaded or will arrive; `null` before the room is joined. @type {number | null} */
  first = null;
  /** The highest offset that has arrived. */
  last = 0;
  /** Why nothing is loaded above the first row. `cleared`: the reader has cleared the log. @type {'none' | 'start' | 'pruned' | 'restarted' | 'cleared'} */
  top = 'none';
  loading = false;
  /** Why the last attempt to load history failed. */
  loadError = '';
  unread = 0;
  /** The first unread row when the room was last opened. @type {Row | undefined} */
  firstUnread = undefined;
  /** Messages that were not kept because the reader had paused for too long. */
  skipped = 0;
  /** Whether the log is paused by its button. */
  paused = false;
  /** Whether new rows scroll the log. */
  follow = true;
  /** The row at the top of the log and how many pixels of it are above, while the log does not follow. */
  anchor = { row: 0, above: 0 };

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** Adds a row at the end. @type {(row: Row, selected: boolean) => void} */
  append(row, selected) {
    if (row.offset !== undefined) this.last = row.offset;
    const reading = selected && !this.follow;
    if (reading && (this.rows.length >= READING_ROWS_MAX || this.chars >= READING_CHARS_MAX)) {
      this.skipped += 1;
      return;
    }
    this.rows.push(row);
    this.chars += row.text.length;
    if (!reading) this.trim(selected);
  }

  /** Drops the oldest rows if there are too many. @param {boolean} selected */
  trim(selected) {
    const rowsMax = selected ? ROWS_MAX : BACKGROUND_ROWS_MAX;
    const charsMax = selected ? CHARS_MAX : BACKGROUND_CHARS_MAX;
    const { rows } = this;
    if (rows.length <= rowsMax * (1 + SLACK) && this.chars <= charsMax * (1 + SLACK)) return;
    let count = 0;
    while (count < rows.length - 1 && (rows.length - count > rowsMax || this.chars > charsMax)) {
      this.chars -= rows[count].text.length;
      count += 1;
    }
    rows.splice(0, count);
    this.base += count;
    const oldest = rows.find(({ offset }) => offset !== undefined);
    this.first = oldest?.offset ?? this.last + 1;
    this.top = oldest && oldest.epoch !== this.epoch ? 'restarted' : 'none';
  }

  /** Adds older rows above the others. @param {Row[]} older */
  prepend(older) {
    if (older.length === 0) return;
    this.rows = [...older, ...this.rows];
    this.base -= older.length;
    for (const { text } of older) this.chars += text.length;
  }

  /** Forgets the rows. The history can be loaded again from `first` on. */
  clear() {
    this.base += this.rows.length;
    this.rows = [];
    this.chars = 0;
    this.skipped = 0;
    this.firstUnread = undefined;
    this.follow = true;
  }

  /** Removes an own message from below the rows. @param {string | undefined} id @returns {Row | undefined} */
  takeOutgoing(id) {
    if (this.outgoing.length === 0 || id === undefined) return undefined;
    const index = this.outgoing.findIndex((row) => row.id === id);
    return index < 0 ? undefined : this.outgoing.splice(index, 1)[0];
  }
}
