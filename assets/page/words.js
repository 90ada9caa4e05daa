/** The texts of the page in English and Chinese, and the language of this reader. */

/**
 * @typedef {import('../client/error.js').WscastError} WscastError
 * @typedef {import('../client/types.js').Gap} Gap
 * @typedef {import('../client/connection.js').EndCode} EndCode
 */

/** The server's reasons that say no more than their codes. */
const GENERAL_REASONS = ['', 'forbidden', 'the server requires a token', 'token is missing, refused or expired'];

const ENGLISH = {
  lang: 'en',
  connecting: 'Connecting',
  connected: 'Connected',
  reconnecting: 'Disconnected',
  closed: 'Closed, will not reconnect',
  youAre: 'You are ',
  inSeconds: (n) => `Reconnecting in ${n} s`,
  reconnectNow: 'Reconnect now',
  connectAgain: 'Connect again',
  log: 'Messages',
  clear: 'Clear',
  logEmpty: 'No messages yet. Open this page in a second tab and send one.',
  newer: 'Newer messages',
  messageLabel: (room) => `Message to ${room}`,
  message: 'Message',
  messageHint: 'Type a message',
  send: 'Send',
  rooms: 'Rooms',
  roomsHint: 'Messages go to the selected room.',
  roomsEmpty: 'You are not in any room. Join one to send messages.',
  members: (n) => (n === 1 ? '1 member' : `${n} members`),
  leave: 'Leave',
  leaveRoom: (room) => `Leave ${room}`,
  joinLabel: 'Join a room',
  joinHint: 'Room name',
  join: 'Join',
  event: 'Custom event',
  eventHint: 'Ctrl + Enter sends',
  sendEvent: 'Send event',
  you: 'you',
  server: 'server',
  inRoom: (room) => `in ${room}`,
  connectedAs: (id) => `Connected as ${id}`,
  joinedRoom: (room, n) => `You joined ${room}: ${ENGLISH.members(n)}`,
  leftRoom: (room) => `You left ${room}`,
  invalidRoom: (room) => `“${room}” is not a room name: use 1 to 64 letters, digits or . _ - :`,
  invalidRoomInUrl: (room) =>
    `The address of this page has the room “${room}”, which is not a room name: use 1 to 64 letters, digits or . _ - :`,
  retryAfter: (s) => `Try again in ${s} s.`,
  unsent: (n) => `${n} waiting to be sent`,
  missed: (room, n) => `You missed ${n === 1 ? '1 message' : `${n} messages`} in ${room}; the server no longer has them`,
  restarted: (room) => `${room} has restarted: messages that you have not received are lost`,
  more: (n) => `… ${n} more characters`,
  invalidJson: (reason) => `This is not JSON: ${reason}`,
  withCode: (text, code) => `${text} (${code})`,
  because: (text, reason) => `${text}: ${reason}`,
  withReason: (text, reason) => `${text}: ${reason}`,
  ends: {
    1000: 'the server closed the connection',
    1001: 'the server is stopping',
    1006: 'connection lost',
    1009: 'the message was too large',
    1011: 'the server had an internal error',
    1013: 'the server is busy',
    4001: 'the token is missing, invalid or expired; add #token=… to the end of this page’s address',
    4003: 'forbidden',
    4100: 'this tab received messages too slowly',
    4101: 'this tab or its network sent too many requests',
    4102: 'too many connections from this network',
    4103: 'the room is full',
    4104: 'the server has no space for another room, or cannot reach its store',
    4200: 'the server asked this tab to reconnect',
    silent: 'the server does not respond',
    cached: 'the browser kept this page in its back/forward cache',
    failed: 'the browser does not allow this connection',
  },
  errors: {
    unknown_outcome: 'This may or may not have been published',
    timeout: 'The server did not respond in time',
    closed: 'Not sent: the connection is closed',
    queue_full: 'Too many messages are waiting to be sent; try again later',
    message_too_large: 'This message is too large for the server',
    left: 'You left the room',
  },
};

/** @type {typeof ENGLISH} */
const CHINESE = {
  lang: 'zh-CN',
  connecting: '正在连接',
  connected: '已连接',
  reconnecting: '连接已断开',
  closed: '连接已关闭，不再重连',
  youAre: '你的 ID：',
  inSeconds: (n) => `${n} 秒后重连`,
  reconnectNow: '立即重连',
  connectAgain: '重新连接',
  log: '消息',
  clear: '清空',
  logEmpty: '还没有消息。在另一个标签页中打开本页面，然后发送一条消息。',
  newer: '新消息',
  messageLabel: (room) => `发送消息到 ${room}`,
  message: '消息',
  messageHint: '输入消息',
  send: '发送',
  rooms: '房间',
  roomsHint: '消息会发送到选中的房间。',
  roomsEmpty: '你还没有加入任何房间。加入一个房间后才能发送消息。',
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
  invalidRoom: (room) => `“${room}”不是有效的房间名称：请使用 1 到 64 个字母、数字或 . _ - :`,
  invalidRoomInUrl: (room) => `本页面地址中的“${room}”不是有效的房间名称：请使用 1 到 64 个字母、数字或 . _ - :`,
  retryAfter: (s) => `请在 ${s} 秒后重试。`,
  unsent: (n) => `${n} 条待发送`,
  missed: (room, n) => `你错过了 ${room} 的 ${n} 条消息，服务器已不再保存这些消息`,
  restarted: (room) => `房间 ${room} 已重新编号：你未收到的消息已丢失`,
  more: (n) => `……还有 ${n} 个字符`,
  invalidJson: (reason) => `JSON 格式错误：${reason}`,
  withCode: (text, code) => `${text}（${code}）`,
  because: (text, reason) => `${text}：${reason}`,
  withReason: (text, reason) => `${text}，服务器的说明是“${reason}”`,
  ends: {
    1000: '服务器关闭了连接',
    1001: '服务器正在停止',
    1006: '连接中断',
    1009: '消息过大',
    1011: '服务器内部错误',
    1013: '服务器繁忙',
    4001: '令牌缺失、无效或已过期；请在本页面地址末尾加上 #token=…',
    4003: '没有权限',
    4100: '本页面接收消息过慢',
    4101: '本页面或其所在网络的请求过多',
    4102: '此网络的连接过多',
    4103: '房间已满',
    4104: '服务器无法再创建房间，或无法访问存储',
    4200: '服务器要求重新连接',
    silent: '服务器没有响应',
    cached: '浏览器将本页面保存在往返缓存中',
    failed: '浏览器不允许连接到此地址',
  },
  errors: {
    unknown_outcome: '无法确定这条消息是否已发布',
    timeout: '服务器没有及时响应',
    closed: '未发送：连接已关闭',
    queue_full: '等待发送的消息过多，请稍后再试',
    message_too_large: '消息过大，服务器无法接收',
    left: '你已离开该房间',
  },
};

/** Returns the texts in the reader's first language that the page has. */
function chooseWords() {
  const known = navigator.languages.find((language) => /^(zh|en)\b/i.test(language));
  return /^zh/i.test(known ?? '') ? CHINESE : ENGLISH;
}

export const words = chooseWords();

/** Replaces the English texts of the document. */
export function translateDocument() {
  document.documentElement.lang = words.lang;
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-text]'))) {
    node.textContent = words[node.dataset.text];
  }
  for (const node of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll('[data-placeholder]'))) {
    node.placeholder = words[node.dataset.placeholder];
  }
}

/**
 * Uses the server's reason for codes that the page has no text for. For codes 4000 to 4099 the reason says
 * what the reader must change, so it is added to the text.
 * @type {(code: EndCode, reason: string) => string}
 */
export function describeEnd(code, reason) {
  const known = words.ends[code];
  const addsReason = Number(code) >= 4000 && Number(code) <= 4099 && !GENERAL_REASONS.includes(reason);
  const text = known && addsReason ? words.withReason(known, reason) : known ?? (reason || words.ends[1000]);
  return typeof code === 'number' ? words.withCode(text, code) : text;
}

/** @param {Gap} gap */
export function describeGap({ room, from, to }) {
  const missed = to.offset - from.offset;
  return from.epoch === to.epoch && missed > 0 ? words.missed(room, missed) : words.restarted(room);
}

/** Uses the server's message for codes that the page has no text for. @param {WscastError} error */
export function describeError({ code, message, retryAfterMs }) {
  const again = retryAfterMs === undefined ? '' : ` ${words.retryAfter(Math.ceil(retryAfterMs / 1000))}`;
  return (words.errors[code] ?? message) + again;
}
