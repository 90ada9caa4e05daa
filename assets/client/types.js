/**
 * The types of the client's options, events and results, for editors and `tsc --checkJs`. It has no code.
 *
 * @typedef {import('./error.js').WscastError} WscastError
 * @typedef {import('./connection.js').State} State
 * @typedef {import('./rooms.js').Position} Position
 * @typedef {import('./rooms.js').RoomState} RoomState
 * @typedef {import('./rooms.js').Gap} Gap
 * @typedef {import('./publishes.js').Stored} Stored
 *
 * @typedef {(string | { room: string, since?: number, epoch?: string, last?: number, presence?: boolean, state?: unknown })} WantedRoom
 *
 * @typedef {object} Options all times are in milliseconds
 * @property {WantedRoom[]} [rooms] the rooms to start with; default `['lobby']`. Rooms that are joined or
 *   left later are added or removed
 * @property {boolean} [me] also be in the room of the user that the token names; then `rooms` is `[]` by default
 * @property {string | (() => string | Promise<string>)} [token] sent on connecting, unless it is empty; a
 *   function is called before every attempt
 * @property {'parameter' | 'subprotocol'} [tokenIn] `subprotocol` keeps the token out of the address, and so out
 *   of the logs of proxies; default `parameter`
 * @property {new (url: string, subprotocols?: string[]) => any} [WebSocket] the class to use if there is no global one
 * @property {string} [session] the scope in which the ids of publishes are compared: 16 to 128 random bytes
 *   that are kept secret; random for every client by default
 * @property {number} [heartbeatInterval] silence before a ping is sent; default 25000
 * @property {number} [heartbeatTimeout] time for the reply to a ping; default 10000
 * @property {number} [connectTimeout] time from the start of an attempt to the welcome; default 15000
 * @property {number} [requestTimeout] time from a request to its reply, reconnects included; default 15000
 * @property {number} [publishTimeout] time from a publish to its acknowledgement, reconnects included;
 *   default 60000
 * @property {number} [publishQueueMax] publishes that may be pending; default 1000
 * @property {number} [backoffMin] shortest wait between two attempts; default 500
 * @property {number} [backoffMax] longest wait between two attempts; default 20000
 * @property {(text: string) => any} [parse] parses a frame; default `JSON.parse`
 * @property {() => number} [random] spreads the waits; default `Math.random`
 * @property {() => number} [now] returns Unix milliseconds; default `Date.now`
 *
 * @typedef {object} PublishOptions
 * @property {'message' | 'custom_event'} [type] default `message`
 * @property {string} [room] default is the first room
 * @property {boolean} [echo] `false`: this client does not receive the message, also not after a reconnect
 * @property {string} [id] a text of 1 to 64 bytes, never used before in this session; random by default
 * @property {number} [ttl] seconds for which the message stays in history; whole, up to a year
 *
 * `own`: whether this client published it, on any of its connections. It compares the ids of its publishes
 * with `id`, because `from` is the user if a token names one, and several clients may have the same user. A
 * client remembers its last 5000 publishes. An id that the program chose may be in use by others: before the
 * acknowledgement `from` must be this client's id or the user in its token, too. A message without `room` comes
 * from the server itself.
 * @typedef {{ type: 'message' | 'custom_event', payload: any, room?: string, offset?: number, from?: string,
 *   ts?: number, id?: string, own: boolean }} Message
 *
 * @typedef {{ room: string, epoch: string, first: number, last: number, contiguous: boolean,
 *   messages: Omit<Message, 'own'>[] }} History
 *
 * `since`: when the client joined the room, in Unix milliseconds. `state`: what it shows there.
 * @typedef {{ members: number, clients?: { client: string, user?: string, since?: number, state?: any }[] }} Members
 *
 * @typedef {object} Events
 * @property {State} state the state of the connection has changed
 * @property {{ client: string, payload: any, rooms: RoomState[] }} welcome the first frame of every connection
 * @property {Message} message
 * @property {Message} custom_event
 * @property {RoomState} joined this client is a member of the room on this connection
 * @property {{ room: string, error?: WscastError }} left this client is no longer a member; with `error` if
 *   the server refused it
 * @property {RoomState} recovered the missed messages of the room follow
 * @property {Gap} gap messages of the room are lost
 * @property {Members & { room: string }} presence
 * @property {Stored & { id: string }} ack a publish was stored
 * @property {WscastError} error an error that rejects no promise
 * @property {any} other a frame of a type that this client does not know
 */

export {};
