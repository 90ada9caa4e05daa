/** The page's words in two languages, and the one the reader is spoken to in. */

/**
 * @typedef {import('../client/client.js').WscastError} WscastError
 * @typedef {import('../client/types.js').Gap} Gap
 * @typedef {import('../client/connection.js').EndCode} EndCode
 */

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
  badRoom: (room) => `“${room}” is no room name: use 1 to 64 letters, digits or . _ - :`,
  badRoomInUrl: (room) =>
    `The page address asks for a room “${room}”, which is no room name: use 1 to 64 letters, digits or . _ - :`,
  retryAfter: (s) => `Try again in ${s} s.`,
  unsent: (n) => `${n} waiting to be sent`,
  missed: (room, n) => `You missed ${n === 1 ? '1 message' : `${n} messages`} in ${room}, no longer kept by the server`,
  restarted: (room) => `${room} has started anew: what you missed, if anything, is lost`,
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
    4001: 'the token is missing, wrong or expired; open this page with #token=… at the end of its address',
    4003: 'forbidden',
    4008: 'the server takes this client for abusive',
    4100: 'this tab read too slowly',
    4101: 'this tab, or its network, asked too much',
    4102: 'too many connections from this network',
    4103: 'the room is full',
    4200: 'the server asks to move on',
    silent: 'the server does not answer',
    failed: 'the browser allows no connection to this address',
  },
  failures: {
    unknown_outcome: 'It is not known whether this was published',
    timeout: 'The server has not answered in time',
    closed: 'This was not sent: the connection is closed',
    queue_full: 'Too much waits to be sent; try again later',
    message_too_large: 'This message is too large for the server',
    left: 'The room was left',
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
  badRoom: (room) => `“${room}”不是有效的房间名称：请使用 1 到 64 个字母、数字或 . _ - :`,
  badRoomInUrl: (room) => `页面地址中的“${room}”不是有效的房间名称：请使用 1 到 64 个字母、数字或 . _ - :`,
  retryAfter: (s) => `请在 ${s} 秒后重试。`,
  unsent: (n) => `${n} 条待发送`,
  missed: (room, n) => `你错过了 ${room} 的 ${n} 条消息，服务器已不再保留`,
  restarted: (room) => `${room} 已重新开始：离线期间如有消息，已无法找回`,
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
    4001: '令牌缺失、错误或已过期；请在本页地址末尾加上 #token=…',
    4003: '没有权限',
    4008: '服务器认为此客户端在滥用协议',
    4100: '此页面接收过慢',
    4101: '此页面或其网络请求过多',
    4102: '此网络的连接数过多',
    4103: '房间已满',
    4200: '服务器要求重新连接',
    silent: '服务器没有响应',
    failed: '浏览器不允许连接到此地址',
  },
  failures: {
    unknown_outcome: '无法确定这条消息是否已发布',
    timeout: '服务器没有及时回应',
    closed: '未发送：连接已关闭',
    queue_full: '等待发送的内容过多，请稍后再试',
    message_too_large: '消息过大，服务器无法接收',
    left: '已离开该房间',
  },
};

/** The first language of the reader that we speak. */
function chooseWords() {
  const known = navigator.languages.find((language) => /^(zh|en)\b/i.test(language));
  return /^zh/i.test(known ?? '') ? CHINESE : ENGLISH;
}

export const words = chooseWords();

/** Puts the words in place of the English ones the document came with. */
export function translateDocument() {
  document.documentElement.lang = words.lang;
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-text]'))) {
    node.textContent = words[node.dataset.text];
  }
  for (const node of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll('[data-placeholder]'))) {
    node.placeholder = words[node.dataset.placeholder];
  }
}

/** @type {(code: EndCode, reason: string) => string} the server's reason is for codes we have no words for */
export function describeEnd(code, reason) {
  const text = words.ends[code] ?? (reason || words.ends[1000]);
  return typeof code === 'number' ? words.withCode(text, code) : text;
}

/** @param {Gap} gap */
export function describeGap({ room, from, to }) {
  const missed = to.offset - from.offset;
  return from.epoch === to.epoch && missed > 0 ? words.missed(room, missed) : words.restarted(room);
}

/** The server's own words are for what we have none for. @param {WscastError} error */
export function describeFailure({ code, message, retryAfterMs }) {
  const again = retryAfterMs === undefined ? '' : ` ${words.retryAfter(Math.ceil(retryAfterMs / 1000))}`;
  return (words.failures[code] ?? message) + again;
}
