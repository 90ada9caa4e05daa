/**
 * The test page of wscast, from the wire to the screen: when to reconnect, the connection (which knows
 * nothing of the page), the words in two languages, faults in JSON, log and rooms, and the wiring.
 *
 * Whatever came over the wire enters the document as text only (textContent), never as markup.
 */

// ---- Reconnect policy ----

const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 20_000;

/** @param {EndCode} code what it asks a client to do */
function afterClose(code) {
  if (code >= 4000 && code <= 4099) return 'stay-away';
  if (code >= 4200 && code <= 4299) return 'at-once';
  return 'backoff';
}

/**
 * Full jitter: after a restart the clients come back spread over the window, not all at its end.
 * @param {number} attempt 1 for the first
 */
function backoffDelay(attempt) {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** attempt);
  return BACKOFF_MIN_MS + Math.random() * (ceiling - BACKOFF_MIN_MS);
}

// ---- Connection ----

/** A connection without a welcome by then is given up. */
const WELCOME_WITHIN_MS = 15_000;
/** A connection that lasted this long was a success: the next failure starts counting anew. */
const STABLE_AFTER_MS = 5_000;
/** Silence after which we ask whether anybody is there. */
const IDLE_MS = 25_000;
/** How long any frame may take after that; in two steps, see `awaitAnswer`. */
const ANSWER_WITHIN_MS = 9_000;
const LAST_CALL_MS = 1_000;

/**
 * A WebSocket close code, or what we found out ourselves.
 * @typedef {number | 'silent'} EndCode
 *
 * @typedef {{ name: 'connecting' }
 *   | { name: 'connected', welcome: Frame }
 *   | { name: 'reconnecting', at: number, code: EndCode, reason: string }
 *   | { name: 'closed', code: EndCode, reason: string }} State
 *
 * @typedef {{ room: string, epoch: string, offset: number, members: number }} RoomState
 *
 * @typedef {{ type: string, payload?: any, room?: string, offset?: number, from?: string, ts?: number,
 *   id?: string, client?: string, rooms?: RoomState[] }} Frame
 */

/**
 * Keeps a connection up for as long as the page lives, or until the server says to stay away.
 * @param {{ url: () => string, onState: (state: State) => void, onFrame: (frame: Frame) => void }} options
 *   `url` is asked before every attempt, so that it can name the rooms of that moment.
 */
function createConnection({ url, onState, onFrame }) {
  /** @type {WebSocket | null} */
  let socket = null;
  /** Failures since a connection last proved stable. */
  let attempt = 0;
  let retryTimer = 0;
  let pulseTimer = 0;
  let stableTimer = 0;

  /** Connects now, whatever was going on before. */
  function open() {
    drop();
    onState({ name: 'connecting' });
    socket = new WebSocket(url());
    socket.onmessage = (event) => received(event.data);
    socket.onclose = (event) => ended(event.code, event.reason);
    pulseTimer = setTimeout(ended, WELCOME_WITHIN_MS, 'silent');
  }

  /** @param {string} text one frame; gives whether the socket took it */
  function send(text) {
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(text);
    return true;
  }

  /** @param {unknown} data */
  function received(data) {
    listen();
    const frame = typeof data === 'string' ? parseFrame(data) : null;
    if (!frame) return;
    if (frame.type === 'message' && frame.rooms) {
      stableTimer = setTimeout(() => { attempt = 0; }, STABLE_AFTER_MS);
      onState({ name: 'connected', welcome: frame });
    } else {
      onFrame(frame);
    }
  }

  /** Every frame proves the link alive; only silence needs a ping. */
  function listen() {
    clearTimeout(pulseTimer);
    pulseTimer = setTimeout(ping, IDLE_MS);
  }

  function ping() {
    send('{"type":"ping"}');
    pulseTimer = setTimeout(awaitAnswer, ANSWER_WITHIN_MS);
  }

  /**
   * A machine that wakes from sleep runs the overdue timer before the frames that wait behind it: the
   * last second counts from here, so those get in first.
   */
  function awaitAnswer() {
    pulseTimer = setTimeout(ended, LAST_CALL_MS, 'silent');
  }

  /** @type {(code: EndCode, reason?: string) => void} */
  function ended(code, reason = '') {
    drop();
    const policy = afterClose(code);
    if (policy === 'stay-away') {
      onState({ name: 'closed', code, reason });
      return;
    }
    attempt += 1;
    // A server that sends us on again and again gets the backoff too, not a tight loop.
    const delay = policy === 'at-once' && attempt === 1 ? 0 : backoffDelay(attempt);
    onState({ name: 'reconnecting', at: Date.now() + delay, code, reason });
    retryTimer = setTimeout(open, delay);
  }

  /** Lets go of the socket without waiting: a dead link would take minutes over its closing handshake. */
  function drop() {
    clearTimeout(retryTimer);
    clearTimeout(pulseTimer);
    clearTimeout(stableTimer);
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
    socket = null;
  }

  return { open, send };
}

/** @type {(text: string) => Frame | null} null for what is no frame of ours */
function parseFrame(text) {
  try {
    const frame = JSON.parse(text, keepDigits);
    return typeof frame?.type === 'string' ? frame : null;
  } catch {
    return null;
  }
}

/**
 * Payloads are relayed digit for digit: shows 12345678901234567890 as that, where the browser can.
 * @type {(key: string, value: unknown, context?: { source?: string }) => unknown}
 */
function keepDigits(_key, value, context) {
  const rounded = typeof value === 'number' && context?.source !== String(value);
  return rounded && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

// ---- Words ----

const ENGLISH = {
  lang: 'en',
  connecting: 'Connecting',
  connected: 'Connected',
  reconnecting: 'Disconnected',
  closed: 'Closed for good',
  youAre: 'You are',
  inSeconds: (n) => `Reconnecting in ${n} s`,
  reconnectNow: 'Reconnect now',
  connectAgain: 'Connect again',
  log: 'Messages',
  clear: 'Clear',
  logEmpty: 'Nothing here yet. Open this page in a second tab and say something.',
  newer: 'Newer messages',
  messageLabel: (room) => `Message to ${room}`,
  message: 'Message',
  messageHint: 'Say something',
  send: 'Send',
  rooms: 'Rooms',
  roomsHint: 'What you send goes to the selected room.',
  roomsEmpty: 'You are in no room. Join one to talk.',
  members: (n) => (n === 1 ? '1 member' : `${n} members`),
  leave: 'Leave',
  leaveRoom: (room) => `Leave ${room}`,
  joinLabel: 'Join a room',
  joinHint: 'Name of the room',
  join: 'Join',
  event: 'Custom event',
  eventHint: 'Ctrl + Enter sends',
  sendEvent: 'Send event',
  you: 'you',
  server: 'server',
  inRoom: (room) => `in ${room}`,
  connectedAs: (id) => `Connected as ${id}`,
  joinedRoom: (room, n) =>
    `You joined ${room}: ${ENGLISH.members(n)}`,
  leftRoom: (room) => `You left ${room}`,
  badRoomInUrl: (room) =>
    `The page address asks for a room “${room}”, which is no room name: use 1 to 64 letters, digits or . _ - :`,
  retryAfter: (s) => `Try again in ${s} s.`,
  more: (n) => `… ${n} more characters`,
  faultAt: (line, column) => `Line ${line}, column ${column}: `,
  expected: (what, found) =>
    `expected ${what}, but ${found === undefined ? 'the text ends' : `found ${found}`}`,
  withCode: (text, code) => `${text} (${code})`,
  because: (text, reason) => `${text}: ${reason}`,
  expectations: {
    value: 'a value',
    key: 'a key in double quotes',
    colon: 'a colon after the key',
    commaOrBrace: 'a comma or }',
    commaOrBracket: 'a comma or ]',
    end: 'nothing more',
  },
  faults: {
    unclosed: 'this string has no closing quote',
    control: 'a string cannot hold a line break or tab; close the quote or write \\n, \\t',
    escape: 'a backslash must be followed by one of " \\ / b f n r t or u and four hex digits',
    number: 'this is not a JSON number',
  },
  ends: {
    1000: 'the server closed the connection',
    1001: 'the server is going away',
    1006: 'connection lost',
    1009: 'the message was too big',
    1011: 'the server failed',
    1012: 'the server restarts',
    1013: 'the server is busy',
    4001: 'the token is missing, wrong or expired',
    4003: 'forbidden',
    4008: 'the server takes this client for abusive',
    4100: 'this tab read too slowly',
    4101: 'this tab sent too much',
    4102: 'too many connections',
    4200: 'the server asks to move on',
    silent: 'the server does not answer',
  },
};

/** @type {typeof ENGLISH} */
const CHINESE = {
  lang: 'zh-CN',
  connecting: '正在连接',
  connected: '已连接',
  reconnecting: '连接已断开',
  closed: '连接已关闭，不再重连',
  youAre: '你的 ID',
  inSeconds: (n) => `${n} 秒后重连`,
  reconnectNow: '立即重连',
  connectAgain: '重新连接',
  log: '消息',
  clear: '清空',
  logEmpty: '还没有消息。在另一个标签页中打开本页，然后说点什么吧。',
  newer: '新消息',
  messageLabel: (room) => `发送消息到 ${room}`,
  message: '消息',
  messageHint: '说点什么',
  send: '发送',
  rooms: '房间',
  roomsHint: '消息会发送到选中的房间。',
  roomsEmpty: '你不在任何房间中，请先加入一个房间。',
  members: (n) => `${n} 位成员`,
  leave: '离开',
  leaveRoom: (room) => `离开 ${room}`,
  joinLabel: '加入房间',
  joinHint: '房间名称',
  join: '加入',
  event: '自定义事件',
  eventHint: '按 Ctrl + Enter 发送',
  sendEvent: '发送事件',
  you: '我',
  server: '服务器',
  inRoom: (room) => `在 ${room}`,
  connectedAs: (id) => `已连接，ID 为 ${id}`,
  joinedRoom: (room, n) => `你已加入 ${room}，共 ${n} 位成员`,
  leftRoom: (room) => `你已离开 ${room}`,
  badRoomInUrl: (room) => `页面地址中的“${room}”不是有效的房间名称：请使用 1 到 64 个字母、数字或 . _ - :`,
  retryAfter: (s) => `请在 ${s} 秒后重试。`,
  more: (n) => `……还有 ${n} 个字符`,
  faultAt: (line, column) => `第 ${line} 行第 ${column} 列：`,
  expected: (what, found) => `此处应为${what}，${found === undefined ? '但文本已结束' : `却是 ${found}`}`,
  withCode: (text, code) => `${text}（${code}）`,
  because: (text, reason) => `${text}：${reason}`,
  expectations: {
    value: '一个值',
    key: '双引号括起的键',
    colon: '键后的冒号',
    commaOrBrace: '逗号或 }',
    commaOrBracket: '逗号或 ]',
    end: '文本结尾',
  },
  faults: {
    unclosed: '这个字符串缺少结尾的引号',
    control: '字符串中不能有换行或制表符；请补上引号，或写成 \\n、\\t',
    escape: '反斜杠后必须是 " \\ / b f n r t 之一，或 u 加四位十六进制数字',
    number: '这不是有效的 JSON 数字',
  },
  ends: {
    1000: '服务器关闭了连接',
    1001: '服务器即将停止',
    1006: '连接中断',
    1009: '消息过大',
    1011: '服务器出错',
    1012: '服务器正在重启',
    1013: '服务器繁忙',
    4001: '令牌缺失、错误或已过期',
    4003: '没有权限',
    4008: '服务器认为此客户端在滥用协议',
    4100: '此页面接收过慢',
    4101: '此页面发送过多',
    4102: '连接数过多',
    4200: '服务器要求重新连接',
    silent: '服务器没有响应',
  },
};

/** The first language of the reader that we speak. */
function chooseWords() {
  const known = navigator.languages.find((language) => /^(zh|en)\b/i.test(language));
  return /^zh/i.test(known ?? '') ? CHINESE : ENGLISH;
}

const words = chooseWords();

/** Puts the words in place of the English ones the document came with. */
function translateDocument() {
  document.documentElement.lang = words.lang;
  for (const node of document.querySelectorAll('[data-text]')) {
    node.textContent = words[node.dataset.text];
  }
  for (const node of document.querySelectorAll('[data-placeholder]')) {
    node.placeholder = words[node.dataset.placeholder];
  }
}

/** @type {(code: EndCode, reason: string) => string} the server's reason is for codes we have no words for */
function describeEnd(code, reason) {
  const text = words.ends[code] ?? (reason || words.ends[1000]);
  return typeof code === 'number' ? words.withCode(text, code) : text;
}

// ---- JSON faults ----
// Browsers word their JSON errors differently, some without a place, none in the page's language.

/** @typedef {{ what: string, at: number }} JsonFault `what` is a key of the words */

/**
 * Where `text` stops being JSON (RFC 8259).
 * @param {string} text
 * @returns {JsonFault | null}
 */
function findJsonFault(text) {
  let at = 0;

  const fail = (what, where = at) => {
    throw { what, at: where };
  };
  /** Moves past `pattern`, a sticky one, if it stands here. */
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    at += found?.[0].length ?? 0;
    return found !== null;
  };
  /** The next character that is not white space. */
  const peek = () => {
    match(/[ \t\n\r]*/y);
    return text[at];
  };
  const take = (character) => {
    const there = peek() === character;
    if (there) at += 1;
    return there;
  };

  const value = () => {
    const next = peek();
    if (next === '{') list('}', 'commaOrBrace', member);
    else if (next === '[') list(']', 'commaOrBracket', value);
    else if (next === '"') string();
    else if (/[-\d]/.test(next ?? '')) number();
    else if (!match(/(true|false|null)\b/y)) fail('value');
  };
  const list = (closing, expected, item) => {
    at += 1;
    if (take(closing)) return;
    do item(); while (take(','));
    if (!take(closing)) fail(expected);
  };
  const member = () => {
    if (peek() !== '"') fail('key');
    string();
    if (!take(':')) fail('colon');
    value();
  };
  const string = () => {
    const start = at;
    at += 1;
    for (;;) {
      match(/[^"\\\u0000-\u001f]*/y);
      if (match(/"/y)) return;
      if (at === text.length) fail('unclosed', start);
      if (text[at] !== '\\') fail('control');
      if (!match(/\\(["\\/bfnrt]|u[\da-fA-F]{4})/y)) fail('escape');
    }
  };
  const number = () => {
    const start = at;
    const matched = match(/-?(0|[1-9]\d*)(\.\d+)?(e[-+]?\d+)?/iy);
    if (!matched || match(/[\w.+-]/y)) fail('number', start);
  };

  try {
    value();
    if (peek() !== undefined) fail('end');
    return null;
  } catch (fault) {
    // Anything else is text nested too deep for us; the browser's own words have to do then.
    return fault.what ? fault : null;
  }
}

/** @type {(text: string, fault: JsonFault) => string} */
function describeFault(text, fault) {
  const before = text.slice(0, fault.at).split('\n');
  const place = words.faultAt(before.length, [...(before.at(-1) ?? '')].length + 1);
  const expected = words.expectations[fault.what];
  if (!expected) return place + words.faults[fault.what];
  const point = text.codePointAt(fault.at);
  return place + words.expected(expected, point === undefined ? undefined : String.fromCodePoint(point));
}

// ---- Log ----

const LOG_ROWS_MAX = 500;
const PAYLOAD_CHARS_MAX = 4_000;
/** JSON up to this length stays on one line. */
const JSON_LINE_CHARS_MAX = 60;
/** Closer to the end than this counts as reading along. */
const FOLLOW_PX = 48;

/**
 * @typedef {{ type: string, text: string, room?: string, who?: string, own?: boolean, tag?: string,
 *   code?: boolean, ts?: number }} Entry
 *   `who` marks what somebody said; without it the row is the page's own remark. `code` is for JSON.
 */

/** @param {{ list: HTMLElement, empty: HTMLElement, jump: HTMLElement }} parts */
function createLog({ list, empty, jump }) {
  const clock = new Intl.DateTimeFormat(words.lang, { timeStyle: 'medium', hourCycle: 'h23' });
  /** @type {Entry[]} */
  let waiting = [];
  let drawing = 0;

  /**
   * Rows are drawn once a frame, so a flood costs one layout, not thousands; in a hidden tab, which
   * draws none, the bound holds just the same.
   * @param {Entry} entry
   */
  function add(entry) {
    waiting.push({ ...entry, ts: entry.ts ?? Date.now() });
    if (waiting.length > LOG_ROWS_MAX) waiting.shift();
    drawing ||= requestAnimationFrame(draw);
  }

  function clear() {
    waiting = [];
    list.replaceChildren();
    jump.hidden = true;
    empty.hidden = false;
  }

  function draw() {
    drawing = 0;
    if (waiting.length === 0) return;
    const follow = follows();
    list.append(...waiting.map(row));
    waiting = [];
    while (list.childElementCount > LOG_ROWS_MAX) list.firstElementChild?.remove();
    empty.hidden = true;
    if (follow) toEnd();
    else jump.hidden = false;
  }

  /** Somebody who scrolled back to read is left where they are. */
  function follows() {
    return list.scrollHeight - list.scrollTop - list.clientHeight < FOLLOW_PX;
  }

  function toEnd() {
    list.scrollTop = list.scrollHeight;
    jump.hidden = true;
  }

  /** @param {Entry} entry */
  function row({ type, text, room, who, own, tag, code, ts = 0 }) {
    const remark = who === undefined;
    const node = element('div', `entry${remark ? ' remark' : ''}${own ? ' own' : ''}`);
    node.dataset.type = type;
    if (room !== undefined) node.dataset.room = room;

    const when = element('time', 'when', clock.format(ts));
    when.dateTime = new Date(ts).toISOString();
    node.append(when);
    if (!remark) node.append(element('span', 'who', who));
    if (!remark && room !== undefined) node.append(element('span', 'room', words.inRoom(room)));
    if (tag !== undefined) node.append(element('code', 'tag', tag));
    const payload = element(code ? 'code' : 'span', 'payload', shorten(text));
    payload.dir = 'auto';
    node.append(payload);
    return node;
  }

  jump.addEventListener('click', toEnd);
  list.addEventListener('scroll', () => { if (follows()) jump.hidden = true; });
  return { add, clear };
}

/** @type {(name: string, className: string, text?: string) => any} */
function element(name, className, text = '') {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}

/** @param {string} text */
function shorten(text) {
  if (text.length <= PAYLOAD_CHARS_MAX) return text;
  return text.slice(0, PAYLOAD_CHARS_MAX) + words.more(text.length - PAYLOAD_CHARS_MAX);
}

/** @param {unknown} value */
function formatJson(value) {
  const line = JSON.stringify(value) ?? '';
  return line.length <= JSON_LINE_CHARS_MAX ? line : JSON.stringify(value, null, 2);
}

// ---- Rooms ----

/**
 * The rooms of this tab. Rows are kept and changed in place: an update must not take the focus away.
 * @param {{ list: HTMLElement, onSelect: (room: string) => void, onLeave: (room: string) => void }} options
 */
function createRoomList({ list, onSelect, onLeave }) {
  const rows = new Map();

  /** @type {(rooms: Map<string, RoomState>, target: string | undefined, online: boolean) => void} */
  function show(rooms, target, online) {
    for (const [room, { row }] of rows) {
      if (rooms.has(room)) continue;
      row.remove();
      rows.delete(room);
    }
    for (const [room, state] of rooms) {
      if (!rows.has(room)) rows.set(room, addRow(room));
      const { radio, members, leave } = rows.get(room);
      radio.checked = room === target;
      members.textContent = online ? words.members(state.members) : '–';
      leave.disabled = !online;
    }
  }

  /** @param {string} room */
  function addRow(room) {
    const row = element('li', 'room-row');
    row.dataset.room = room;
    const radio = element('input', '');
    radio.type = 'radio';
    radio.name = 'target';
    radio.addEventListener('change', () => onSelect(room));
    const members = element('span', 'members');
    const label = element('label', '');
    label.append(radio, element('span', 'name', room), ' ', members);
    const leave = element('button', 'quiet', words.leave);
    leave.type = 'button';
    leave.setAttribute('aria-label', words.leaveRoom(room));
    leave.addEventListener('click', () => onLeave(room));
    row.append(label, leave);
    list.append(row);
    return { row, radio, members, leave };
  }

  return { show };
}

// ---- Page ----

/** The server's alphabet for room names. */
const ROOM_NAME = /^[\p{Alphabetic}\p{N}._:-]{1,64}$/u;
const COUNTDOWN_EVERY_MS = 250;

/** @param {string} id */
const byId = (id) => /** @type {any} */ (document.getElementById(id));

/** This tab. */
const tab = {
  /** @type {State} */
  state: { name: 'connecting' },
  /** Our own id on the present connection. */
  client: '',
  /**
   * The rooms this tab is to be in, whatever happens to the connection; null before anybody said, which
   * leaves it to the server.
   * @type {Set<string> | null}
   */
  wanted: null,
  /** @type {Map<string, RoomState>} */
  rooms: new Map(),
  /** The room that is sent to. @type {string | undefined} */
  target: undefined,
  /** Whether the log says that the connection is lost. */
  down: false,
  countdown: 0,
};

const log = createLog({ list: byId('log'), empty: byId('log-empty'), jump: byId('log-end') });
const roomList = createRoomList({ list: byId('rooms'), onSelect: selectRoom, onLeave: leaveRoom });
const connection = createConnection({ url: socketUrl, onState: stateChanged, onFrame: received });

function socketUrl() {
  const url = new URL('/ws', location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  for (const room of tab.wanted ?? []) url.searchParams.append('room', room);
  return url.href;
}

// What the connection tells us

/** @param {State} state */
function stateChanged(state) {
  tab.state = state;
  if (state.name === 'connected') welcomed(state.welcome);
  if (state.name === 'reconnecting' || state.name === 'closed') reportEnd(state);
  showState(state);
  showRooms();
}

/**
 * An outage is one row, however many attempts it takes.
 * @param {State} state
 */
function reportEnd({ name, code, reason }) {
  if (tab.down && name !== 'closed') return;
  tab.down = true;
  log.add({ type: 'disconnected', text: words.because(words[name], describeEnd(code, reason)) });
}

/** @param {Frame} welcome */
function welcomed({ client = '', payload, rooms = [] }) {
  tab.client = client;
  tab.down = false;
  tab.rooms = new Map(rooms.map((room) => [room.room, room]));
  tab.wanted ??= new Set(tab.rooms.keys());
  byId('client').textContent = client;
  byId('welcome').textContent = String(payload);
  log.add({ type: 'welcome', text: words.connectedAs(client) });
  settleRooms();
}

/**
 * Makes the memberships what they are to be. Joining again is harmless and asks for presence, which the
 * address cannot; and who had left every room was put into the default one by an address that names none.
 */
function settleRooms() {
  const wanted = tab.wanted ?? new Set();
  for (const room of wanted) request({ type: 'join', room, presence: true });
  for (const room of tab.rooms.keys()) {
    if (!wanted.has(room)) request({ type: 'leave', room });
  }
}

/** @param {Frame} frame */
function received(frame) {
  switch (frame.type) {
    case 'message':
    case 'custom_event': return relayed(frame);
    case 'joined': return joined(frame);
    case 'left': return left(frame);
    case 'presence': return presence(frame);
    case 'error': return refused(frame);
    case 'pong': return;
    default: return log.add({ type: frame.type, tag: frame.type, text: formatJson(frame.payload), code: true });
  }
}

/** @param {Frame} frame */
function relayed({ type, payload, room, from, ts }) {
  const plain = type === 'message' && typeof payload === 'string';
  const own = from !== undefined && from === tab.client;
  log.add({
    type,
    room,
    ts,
    own,
    who: own ? words.you : (room === undefined ? words.server : from ?? ''),
    tag: plain ? undefined : type,
    text: plain ? payload : formatJson(payload),
    code: !plain,
  });
}

/** @param {Frame} frame */
function joined({ payload, room = '' }) {
  const isNew = !tab.rooms.has(room);
  tab.rooms.set(room, payload);
  tab.wanted?.add(room);
  if (isNew) {
    tab.target = room;
    log.add({ type: 'joined', room, text: words.joinedRoom(room, payload.members) });
    showAddress();
  }
  showRooms();
}

/** @param {Frame} frame */
function left({ room = '' }) {
  const wasWanted = tab.wanted?.delete(room);
  tab.rooms.delete(room);
  if (wasWanted) {
    log.add({ type: 'left', room, text: words.leftRoom(room) });
    showAddress();
  }
  showRooms();
}

/** @param {Frame} frame */
function presence({ payload, room = '' }) {
  const known = tab.rooms.get(room);
  if (known) known.members = payload.members;
  showRooms();
}

/** @param {Frame} frame */
function refused({ payload }) {
  const wait = payload?.retry_after_ms;
  const again = wait === undefined ? '' : ` ${words.retryAfter(Math.ceil(wait / 1000))}`;
  log.add({ type: 'error', tag: String(payload?.code), text: `${payload?.message}${again}` });
}

// What the reader does

/** @param {object} frame */
function request(frame) {
  return connection.send(JSON.stringify(frame));
}

/** @param {SubmitEvent} event */
function sendMessage(event) {
  event.preventDefault();
  const input = byId('message-text');
  if (input.value !== '' && request({ type: 'message', room: tab.target, payload: input.value })) {
    input.value = '';
  }
  input.focus();
}

/** @param {SubmitEvent} event */
function sendEvent(event) {
  event.preventDefault();
  const text = byId('event-text').value;
  const problem = checkJson(text);
  showProblem(problem);
  // The text goes out as it was typed: parsing and printing it again would round long numbers.
  if (!problem) connection.send(`{"type":"custom_event","room":${JSON.stringify(tab.target)},"payload":${text}}`);
}

/** @type {(text: string) => { text: string, at?: number } | null} */
function checkJson(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    const fault = findJsonFault(text);
    return fault ? { text: describeFault(text, fault), at: fault.at } : { text: String(error) };
  }
}

/** @param {{ text: string, at?: number } | null} problem */
function showProblem(problem) {
  const editor = byId('event-text');
  byId('event-error').textContent = problem?.text ?? '';
  editor.setAttribute('aria-invalid', String(problem !== null));
  if (problem?.at === undefined) return;
  editor.focus();
  editor.setSelectionRange(problem.at, problem.at + 1);
}

/** @param {KeyboardEvent} event */
function sendEventByKey(event) {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  // As a click on the button would: it does nothing while that is disabled.
  byId('send-event').click();
}

/** @param {SubmitEvent} event */
function joinRoom(event) {
  event.preventDefault();
  const input = byId('room-name');
  const room = input.value.trim();
  if (room !== '' && request({ type: 'join', room, presence: true })) input.value = '';
  input.focus();
}

/** @param {string} room */
function leaveRoom(room) {
  request({ type: 'leave', room });
  // The button is about to go, and would take the keyboard's place with it. (A finger needs no place.)
  if (document.activeElement?.matches(':focus-visible')) byId('room-name').focus();
}

/** @param {string} room */
function selectRoom(room) {
  tab.target = room;
  showRooms();
}

// What is shown

/** A reload, or a copy of the address, comes back to the same rooms. */
function showAddress() {
  const url = new URL(location.href);
  url.searchParams.delete('room');
  for (const room of tab.wanted ?? []) url.searchParams.append('room', room);
  history.replaceState(null, '', url);
}

function showRooms() {
  const online = tab.state.name === 'connected';
  if (!tab.rooms.has(tab.target)) [tab.target] = tab.rooms.keys();
  roomList.show(tab.rooms, tab.target, online);
  byId('rooms-empty').hidden = !online || tab.rooms.size > 0;
  byId('message-label').textContent = tab.target ? words.messageLabel(tab.target) : words.message;
  byId('join-room').disabled = !online;
  byId('send-message').disabled = !online || !tab.target;
  byId('send-event').disabled = !online || !tab.target;
}

/** @param {State} state */
function showState(state) {
  const ended = state.name === 'reconnecting' || state.name === 'closed';
  byId('state').dataset.state = state.name;
  byId('state-name').textContent = words[state.name];
  byId('state-reason').textContent = ended ? describeEnd(state.code, state.reason) : '';
  byId('client-line').hidden = state.name !== 'connected';
  byId('reconnect').hidden = !ended;
  byId('reconnect').textContent = state.name === 'closed' ? words.connectAgain : words.reconnectNow;
  clearInterval(tab.countdown);
  showCountdown();
  if (state.name === 'reconnecting') tab.countdown = setInterval(showCountdown, COUNTDOWN_EVERY_MS);
}

function showCountdown() {
  const { state } = tab;
  const seconds = state.name === 'reconnecting' ? Math.ceil((state.at - Date.now()) / 1000) : 0;
  byId('countdown').textContent = seconds > 0 ? words.inSeconds(seconds) : '';
}

/** The rooms the page address asks for; without any, the server chooses. */
function readAddress() {
  const asked = new URLSearchParams(location.search).getAll('room').filter((room) => room !== '');
  const rooms = asked.filter((room) => ROOM_NAME.test(room));
  for (const room of asked.filter((name) => !ROOM_NAME.test(name))) {
    log.add({ type: 'error', text: words.badRoomInUrl(room) });
  }
  // One bad name would make the server refuse the connection, which a browser cannot tell from an outage.
  if (rooms.length > 0) tab.wanted = new Set(rooms);
}

translateDocument();
readAddress();
byId('message-form').addEventListener('submit', sendMessage);
byId('event-form').addEventListener('submit', sendEvent);
byId('event-text').addEventListener('keydown', sendEventByKey);
byId('event-text').addEventListener('input', () => showProblem(null));
byId('join-form').addEventListener('submit', joinRoom);
byId('clear-log').addEventListener('click', () => log.clear());
byId('reconnect').addEventListener('click', () => connection.open());
window.addEventListener('online', () => { if (tab.state.name === 'reconnecting') connection.open(); });
connection.open();
