// When assets/client.js connects, waits and gives up, and what it tells its listeners.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WscastClient } from "../../assets/client.js";
import { EPOCH, expected, outcome, scene, settled } from "./scripted.mjs";

describe("reconnecting", () => {
  test("later each time, up to a bound, and soon again once a connection has lasted", async (t) => {
    const { sockets, socket, pass, told } = await scene(t);
    socket().welcome();
    for (const [code, wait] of [[1000, 1_000], [1001, 2_000], [1006, 4_000], [1011, 8_000], [1012, 16_000], [1013, 20_000], [4100, 20_000], [4199, 20_000]]) {
      const count = sockets.length;
      socket().end(code);
      assert.equal(told("state").at(-1).delay, wait, `after ${code}`);
      await pass(wait - 1);
      assert.equal(sockets.length, count, `${code} waits ${wait} ms`);
      await pass(1);
      assert.equal(sockets.length, count + 1);
      socket().welcome();
    }
    await pass(4_999);
    socket().end(1006);
    assert.equal(told("state").at(-1).delay, 20_000, "five seconds prove a connection stable, not less");
    await pass(20_000);
    socket().welcome();
    await pass(5_000);
    socket().end(1006);
    assert.equal(told("state").at(-1).delay, 1_000);
  });

  test("the wait is drawn between the bounds", async (t) => {
    const draws = [0, 0.5, 1];
    const { socket, pass, told } = await scene(t, { random: () => draws.shift(), backoffMin: 100, backoffMax: 1_000 });
    for (const delay of [100, 250, 800]) {
      socket().end(1006);
      assert.equal(told("state").at(-1).delay, delay);
      await pass(delay);
    }
  });

  test("4000 to 4099: not until it is asked to; what waited is told", async (t) => {
    const { client, sockets, socket, pass } = await scene(t);
    socket().welcome();
    const published = expected(client.publish("x"));
    const asked = expected(client.history("lobby"));
    socket().end(4003, "forbidden");
    assert.deepEqual(client.state, { name: "closed", code: 4003, reason: "forbidden" });
    assert.equal(await outcome(published), "unknown_outcome", "it was sent");
    assert.equal(await outcome(asked), "closed");
    assert.equal(await outcome(client.publish("y")), "closed");
    await pass(3_600_000);
    assert.equal(sockets.length, 1);

    client.reconnect();
    await settled();
    socket().welcome();
    assert.equal(client.state.name, "open");
    assert.deepEqual(client.rooms, ["lobby"]);
  });

  test("4200 to 4299: at once, but with backoff if it closes again soon", async (t) => {
    const { sockets, socket, pass, told } = await scene(t);
    socket().welcome();
    socket().end(4200);
    await pass(0);
    assert.equal(sockets.length, 2);
    socket().welcome();
    socket().end(4299);
    assert.equal(told("state").at(-1).delay, 2_000);
    await pass(2_000);
    socket().welcome();
    await pass(5_000);
    socket().end(4200);
    assert.equal(told("state").at(-1).delay, 0);
  });

  test("4001: once more with another token, where there can be another one", async (t) => {
    let count = 0;
    const { client, socket, pass } = await scene(t, { token: async () => `token-${(count += 1)}` });
    assert.equal(socket().url.searchParams.get("token"), "token-1");
    socket().welcome();
    socket().end(4001);
    await pass(0);
    assert.equal(socket().url.searchParams.get("token"), "token-2");
    socket().end(4001, "expired");
    assert.deepEqual(client.state, { name: "closed", code: 4001, reason: "expired" });
  });

  test("4001 with a token that stays the same is the end", async (t) => {
    const { client, socket } = await scene(t, { token: "fixed" });
    assert.equal(socket().url.searchParams.get("token"), "fixed");
    socket().end(4001);
    assert.equal(client.state.name, "closed");
  });

  test("a token function that fails is tried again, one that hangs is given up", async (t) => {
    const answers = [() => Promise.reject(new Error("no network")), () => new Promise(() => {}), () => "at last"];
    const { client, sockets, pass, socket } = await scene(t, { token: () => answers.shift()() });
    assert.equal(client.state.code, "no_token");
    assert.equal(client.state.reason, "no network");
    await pass(1_000);
    assert.equal(client.state.name, "connecting");
    await pass(15_000);
    assert.equal(client.state.code, "silent");
    await pass(2_000);
    assert.equal(sockets.length, 1);
    assert.equal(socket().url.searchParams.get("token"), "at last");
  });

  test("a token that comes too late is not used", async (t) => {
    const asked = [];
    const { sockets, pass } = await scene(t, { token: () => new Promise((resolve) => asked.push(resolve)) });
    await pass(15_000);
    await pass(1_000);
    assert.equal(asked.length, 2);
    asked[1]("new");
    asked[0]("old");
    await settled();
    assert.deepEqual(sockets.map(({ url }) => url.searchParams.get("token")), ["new"]);
  });

  test("an attempt without a welcome is given up after its time", async (t) => {
    const { client, socket, pass } = await scene(t, { connectTimeout: 3_000 });
    await pass(2_999);
    assert.equal(client.state.name, "connecting");
    await pass(1);
    assert.deepEqual([client.state.name, client.state.code], ["waiting", "silent"]);
    assert.equal(socket().readyState, 3, "the socket is let go");
  });

  test("silence: asks, waits for the answer, gives up", async (t) => {
    const { client, socket, pass } = await scene(t, { heartbeatInterval: 10_000, heartbeatTimeout: 4_000 });
    socket().welcome();
    await pass(9_999);
    assert.deepEqual(socket().heard("ping"), []);
    socket().message(1);
    await pass(9_999);
    assert.deepEqual(socket().heard("ping"), [], "whatever is received is a sign of life");
    await pass(1);
    assert.equal(socket().heard("ping").length, 1);
    socket().tell({ type: "pong", payload: {} });
    await pass(10_000);
    assert.equal(socket().heard("ping").length, 1);
    await pass(3_000);
    await pass(999);
    assert.equal(client.state.name, "open");
    await pass(1);
    assert.deepEqual([client.state.name, client.state.code], ["waiting", "silent"]);
  });
});

describe("what the browser knows", () => {
  /** A browser's window and document, as far as they tell of network and tab. */
  function pretendBrowser(t) {
    const [window, document] = [new EventTarget(), new EventTarget()];
    document.visibilityState = "visible";
    for (const name of ["addEventListener", "removeEventListener"]) globalThis[name] = window[name].bind(window);
    globalThis.document = document;
    t.after(() => {
      for (const name of ["addEventListener", "removeEventListener", "document"]) delete globalThis[name];
    });
    return { window, document };
  }

  test("online and a page that is looked at end the wait, offline lengthens it", async (t) => {
    const { window, document } = pretendBrowser(t);
    const { client, sockets, socket, pass } = await scene(t);
    socket().end(1006);
    window.dispatchEvent(new Event("offline"));
    assert.equal(client.state.delay, 20_000);
    await pass(19_999);
    assert.equal(sockets.length, 1);
    await pass(1);
    assert.equal(sockets.length, 2, "but not for ever");
    socket().end(1006);
    assert.equal(client.state.delay, 20_000);
    window.dispatchEvent(new Event("online"));
    await settled();
    assert.equal(sockets.length, 3);
    socket().end(1006);
    document.visibilityState = "hidden";
    document.dispatchEvent(new Event("visibilitychange"));
    await settled();
    assert.equal(sockets.length, 3);
    document.visibilityState = "visible";
    document.dispatchEvent(new Event("visibilitychange"));
    await settled();
    assert.equal(sockets.length, 4);
    client.close();
    window.dispatchEvent(new Event("online"));
    await settled();
    assert.equal(sockets.length, 4, "a client that is closed hears nothing");
  });

  test("on an open connection they make it ask, once, whether anybody is there", async (t) => {
    const { window, document } = pretendBrowser(t);
    const { client, socket, pass } = await scene(t);
    socket().welcome();
    window.dispatchEvent(new Event("offline"));
    await pass(6_000);
    document.dispatchEvent(new Event("visibilitychange"));
    window.dispatchEvent(new Event("online"));
    assert.equal(socket().heard("ping").length, 1);
    await pass(3_000);
    await pass(1_000);
    assert.equal(client.state.code, "silent", "asking again does not lengthen the wait for an answer");

    await pass(client.state.delay);
    socket().welcome();
    window.dispatchEvent(new Event("online"));
    socket().tell({ type: "pong", payload: {} });
    window.dispatchEvent(new Event("online"));
    assert.equal(socket().heard("ping").length, 2);
  });
});

describe("the address", () => {
  test("names every room with its place, those without one last", async (t) => {
    const { client, socket, pass } = await scene(t, { rooms: ["new", { room: "old", since: 7, epoch: EPOCH }, { room: "some", since: 3 }] });
    const { searchParams } = socket().url;
    assert.deepEqual(searchParams.getAll("room"), ["old", "some", "new"]);
    assert.deepEqual(searchParams.getAll("since"), ["7", "3"]);
    assert.deepEqual(searchParams.getAll("epoch"), [EPOCH, ""]);
    assert.equal(searchParams.get("session"), client.session);
    assert.equal(socket().url.protocol, "ws:");

    const state = (room, offset) => ({ room, epoch: EPOCH, offset, recovered: true, members: 1 });
    socket().welcome([state("old", 7), state("some", 3), { ...state("new", 0), recovered: false }]);
    socket().message(8, "old");
    socket().message(1, "new");
    socket().end(1006);
    await pass(1_000);
    const again = socket().url.searchParams;
    assert.deepEqual(again.getAll("room"), ["new", "old", "some"]);
    assert.deepEqual(again.getAll("since"), ["1", "8", "3"]);
    assert.deepEqual(again.getAll("epoch"), [EPOCH, EPOCH, EPOCH]);
    assert.equal(again.get("session"), client.session);
  });

  test("stays short; the rooms that it does not hold are joined afterwards, from their place", async (t) => {
    const rooms = Array.from({ length: 30 }, (_, n) => ({ room: `${"房".repeat(60)}${n}`, since: n, epoch: EPOCH }));
    const { socket } = await scene(t, { rooms });
    assert.ok(socket().url.href.length <= 4_000, `${socket().url.href.length} characters`);
    const inAddress = socket().url.searchParams.getAll("room");
    assert.ok(inAddress.length > 0);

    socket().welcome();
    const joins = socket().heard("join");
    assert.deepEqual([...inAddress, ...joins.map(({ room }) => room)], rooms.map(({ room }) => room));
    for (const { room, since, epoch } of joins) {
      assert.deepEqual({ room, since, epoch }, rooms.find((wanted) => wanted.room === room));
    }
  });

  test("names one room only, now and then, when no attempt succeeds", async (t) => {
    const { sockets, socket, pass } = await scene(t, { rooms: ["a", "b", "c"] });
    for (let n = 0; n < 6; n += 1) {
      socket().end(1006);
      await pass(20_000);
    }
    assert.deepEqual(sockets.map(({ url }) => url.searchParams.getAll("room").length), [3, 3, 3, 3, 1, 3, 1]);
    socket().welcome();
    assert.deepEqual(socket().heard("join").map(({ room }) => room), ["b", "c"]);
  });
});

describe("listeners", () => {
  test("one that throws harms neither the client nor the others, and is not silent", async (t) => {
    const { client, socket, told } = await scene(t);
    const surprises = [];
    const crash = (error) => surprises.push(error.message);
    const usual = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", crash);
    t.after(() => {
      process.off("uncaughtException", crash);
      for (const listener of usual) process.on("uncaughtException", listener);
    });
    const broken = () => { throw new Error("a bug of the program"); };
    client.on("message", broken);
    let after = 0;
    client.on("message", () => { after += 1; });
    socket().welcome();
    socket().message(1);
    await settled();
    client.off("message", broken);
    socket().message(2);
    await settled();
    assert.deepEqual([told("message").length, after], [2, 2]);
    assert.deepEqual(surprises, ["a bug of the program"]);
  });

  test("one may close the client in whatever it is told", async (t) => {
    for (const name of ["state", "welcome", "joined", "message"]) {
      const { client, socket } = await scene(t);
      client.on(name, () => client.close());
      socket()?.welcome();
      socket()?.message(1);
      await settled();
      assert.equal(client.state.name, "closed", name);
      t.mock.timers.reset();
    }
  });
});

test("what is no use is refused when it is given", () => {
  class None {}
  assert.throws(() => new WscastClient("ws://server/ws", { WebSocket: None, session: "short" }), RangeError);
  assert.throws(() => new WscastClient("ws://server/ws", { WebSocket: None, rooms: ["two words"] }), { code: "invalid_room" });
  assert.throws(() => new WscastClient("not a url", { WebSocket: None }), TypeError);
});
