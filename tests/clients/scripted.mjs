// A client whose clock and sockets are the test's: minutes pass at once, and the server says what no server
// says yet.

import assert from "node:assert/strict";

import { WscastClient } from "../../assets/client.js";

export const EPOCH = "0123456789abcdef";
export const OTHER_EPOCH = "fedcba9876543210";

/** A socket whose other end is the test. */
export class Socket {
  readyState = 0;
  /** Frames the client sent, and not yet asked for. */
  said = [];

  constructor(url, sockets) {
    this.url = new URL(url);
    sockets.push(this);
  }

  send(text) {
    assert.equal(this.readyState, 1, "sent on a socket that is not open");
    this.said.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  // The server's part

  /** The welcome, with the rooms as they are to be: the ones asked for unless given. */
  welcome(rooms) {
    const asked = this.url.searchParams.getAll("room");
    this.readyState = 1;
    this.tell({
      type: "message", payload: "hi", from: "server", client: "c0-1",
      rooms: rooms ?? asked.map((room) => ({ room, epoch: EPOCH, offset: 0, recovered: false, members: 1 })),
    });
  }

  tell(frame) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  message(offset, room = "lobby") {
    this.tell({ type: "message", payload: offset, room, offset, from: "c0-9", ts: 0 });
  }

  end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The frames of a type that the client sent since it was last asked. */
  heard(type) {
    const heard = this.said.filter((frame) => frame.type === type);
    this.said = this.said.filter((frame) => frame.type !== type);
    return heard;
  }
}

/** A client whose sockets and clock are the test's; `random` at its end makes waits their ceilings. */
export async function scene(t, options = {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const sockets = [];
  const events = [];
  const client = new WscastClient("http://server/ws", {
    WebSocket: class extends Socket {
      constructor(url) {
        super(url, sockets);
      }
    },
    random: () => 1,
    ...options,
  });
  t.after(() => client.close());
  for (const name of ["state", "message", "joined", "left", "recovered", "gap", "error", "other"]) {
    client.on(name, (event) => events.push({ name, event }));
  }
  const told = (name) => events.filter((event) => event.name === name).map(({ event }) => event);
  const pass = async (ms) => {
    t.mock.timers.tick(ms);
    await settled();
  };
  await settled();
  return { client, sockets, told, pass, socket: () => sockets.at(-1) };
}

/** Every promise that can resolve has. */
export const settled = () => new Promise((done) => setImmediate(done));

/** A promise that may be rejected before anybody looks. */
export function expected(promise) {
  promise.catch(() => {});
  return promise;
}

/** What has become of a promise by now. */
export async function outcome(promise) {
  return Promise.race([promise.then((value) => value, (error) => error.code), settled().then(() => "waits")]);
}
