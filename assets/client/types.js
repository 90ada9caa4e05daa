/**
 * What the client takes and gives, for editors and `tsc --checkJs`; nothing of it runs.
 *
 * @typedef {import('./base.js').WscastError} WscastError
 * @typedef {import('./connection.js').State} State
 * @typedef {import('./rooms.js').Position} Position
 * @typedef {import('./rooms.js').RoomState} RoomState
 * @typedef {import('./rooms.js').Gap} Gap
 * @typedef {import('./publishes.js').Place} Place
 *
 * @typedef {(string | { room: string, since?: number, epoch?: string, presence?: boolean })} WantedRoom
 *
 * @typedef {object} Options every time is in milliseconds
 * @property {WantedRoom[]} [rooms] where to start: `['lobby']`; rooms that are joined and left later are
 *   added and removed
 * @property {string | (() => string | Promise<string>)} [token] goes into the address; a function is asked
 *   before every attempt
 * @property {new (url: string) => any} [WebSocket] the class to use where there is no global one
 * @property {string} [session] within what publishes' ids are compared: 16 to 128 random bytes, a secret;
 *   drawn anew for every client unless given
 * @property {number} [heartbeatInterval] silence after which the server is asked whether it is there: 25000
 * @property {number} [heartbeatTimeout] time it may take to answer: 10000
 * @property {number} [connectTimeout] time from an attempt's start to its welcome: 15000
 * @property {number} [requestTimeout] time from a request to its answer, reconnections included: 15000
 * @property {number} [publishTimeout] the same for a publish: 60000
 * @property {number} [publishQueueMax] publishes that may wait for their acknowledgement: 1000
 * @property {number} [backoffMin] shortest wait between two attempts: 500
 * @property {number} [backoffMax] longest: 20000
 * @property {(text: string) => any} [parse] reads a frame: `JSON.parse`
 * @property {() => number} [random] spreads the waits: `Math.random`
 * @property {() => number} [now] Unix milliseconds: `Date.now`
 *
 * @typedef {object} PublishOptions
 * @property {'message' | 'custom_event'} [type]
 * @property {string} [room] the first one unless given
 * @property {string} [id] 1 to 64 bytes, never used before in this session; drawn unless given
 *
 * `own` says that this client sent it, on whichever of its connections; without `room` the server did.
 * @typedef {{ type: 'message' | 'custom_event', payload: any, room?: string, offset?: number, from?: string,
 *   ts?: number, id?: string, own: boolean }} Message
 *
 * @typedef {{ room: string, epoch: string, first: number, last: number, contiguous: boolean,
 *   messages: Omit<Message, 'own'>[] }} History
 *
 * @typedef {{ members: number, clients?: { client: string }[] }} Members
 *
 * @typedef {object} Events
 * @property {State} state the connection's state has changed
 * @property {{ client: string, payload: any, rooms: RoomState[] }} welcome every connection's first frame
 * @property {Message} message
 * @property {Message} custom_event
 * @property {RoomState} joined this client is a member of the room, on this connection
 * @property {{ room: string, error?: WscastError }} left it is none any more; with `error` because the
 *   server refuses it
 * @property {RoomState} recovered what was missed of the room follows now
 * @property {Gap} gap messages of the room were missed and will not come
 * @property {Members & { room: string }} presence
 * @property {Place & { id: string }} ack a publish was stored
 * @property {WscastError} error something failed that no promise tells of
 * @property {any} other a frame of a type that this client does not know
 */

export {};
