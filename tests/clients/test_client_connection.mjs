// When assets/client.js connects, waits and gives up, and which events it emits.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WscastClient } from "../../assets/client.js";
import { EPOCH, mayReject, outcome, pretendBrowser, settled, startClient } from "./scripted.mjs";

describe("reconnecting", () => {
  test("the backoff grows up to its limit, and a stable connection resets it", async (t) => {
    const { sockets, socket, advance, received } = await startClient(t);
    socket().welcome();
    for (const [code, wait] of [[1000, 1_000], [1001, 2_000], [1006, 4_000], [1011, 8_000], [1012, 16_000], [1013, 20_000], [4100, 20_000], [4199, 20_000]]) {
      const count = sockets.length;
      socket().closeByServer(code);
      assert.equal(received("state").at(-1).delay, wait, `after ${code}`);
      await advance(wait - 1);
      assert.equal(sockets.length, count, `${code} waits ${wait} ms`);
      await advance(1);
      assert.equal(sockets.length, count + 1);
      socket().welcome();
    }
    await advance(4_999);
    socket().closeByServer(1006);
    assert.equal(received("state").at(-1).delay, 20_000, "a connection is stable after five seconds, not earlier");
    await advance(20_000);
    socket().welcome();
    await advance(5_000);
    socket().closeByServer(1006);
    assert.equal(received("state").at(-1).delay, 1_000);
  });

  test("the backoff is random between its limits", async (t) => {
    const draws = [0, 0.5, 1];
    const { socket, advance, received } = await startClient(t, { random: () => draws.shift(), backoffMin: 100, backoffMax: 1_000 });
    for (const delay of [100, 250, 800]) {
      socket().closeByServer(1006);
      assert.equal(received("state").at(-1).delay, delay);
      await advance(delay);
    }
  });

  test("codes 4000 to 4099 close the client until reconnect, and reject what is pending", async (t) => {
    const { client, sockets, socket, advance } = await startClient(t);
    socket().welcome();
    const published = mayReject(client.publish("x"));
    const history = mayReject(client.history("lobby"));
    socket().closeByServer(4003, "forbidden");
    assert.deepEqual(client.state, { name: "closed", code: 4003, reason: "forbidden" });
    assert.equal(await outcome(published), "unknown_outcome", "it was sent");
    assert.equal(await outcome(history), "closed");
    assert.equal(await outcome(client.publish("y")), "closed");
    await advance(3_600_000);
    assert.equal(sockets.length, 1);

    client.reconnect();
    await settled();
    socket().welcome();
    assert.equal(client.state.name, "open");
    assert.deepEqual(client.rooms, ["lobby"]);
  });

  for (const reason of ["the origin https://a.example is not on --allow-origin", "since must be a whole number"]) {
    test(`a close code 4000 to 4099 passes its reason on: ${reason}`, async (t) => {
      const { client, socket } = await startClient(t);
      const published = mayReject(client.publish("x"));
      socket().closeByServer(4003, reason);
      assert.equal(client.state.reason, reason);
      await assert.rejects(published, { code: "closed", message: reason });
      await assert.rejects(client.join("ops"), { code: "closed", message: reason });
    });
  }

  test("codes 4200 to 4299 reconnect at once, and with backoff the second time", async (t) => {
    const { sockets, socket, advance, received } = await startClient(t);
    socket().welcome();
    socket().closeByServer(4200);
    await advance(0);
    assert.equal(sockets.length, 2);
    socket().welcome();
    socket().closeByServer(4299);
    assert.equal(received("state").at(-1).delay, 2_000);
    await advance(2_000);
    socket().welcome();
    await advance(5_000);
    socket().closeByServer(4200);
    assert.equal(received("state").at(-1).delay, 0);
  });

  test("code 4001 is retried once with a renewed token", async (t) => {
    let count = 0;
    const { client, socket, advance } = await startClient(t, { token: async () => `token-${(count += 1)}` });
    assert.equal(socket().url.searchParams.get("token"), "token-1");
    socket().welcome();
    socket().closeByServer(4001);
    await advance(0);
    assert.equal(socket().url.searchParams.get("token"), "token-2");
    socket().closeByServer(4001, "expired");
    assert.deepEqual(client.state, { name: "closed", code: 4001, reason: "expired" });
  });

  test("code 4001 closes a client with a fixed token", async (t) => {
    const { client, socket } = await startClient(t, { token: "fixed" });
    assert.equal(socket().url.searchParams.get("token"), "fixed");
    socket().closeByServer(4001);
    assert.equal(client.state.name, "closed");
  });

  test("a token function that fails or hangs is called again", async (t) => {
    const results = [() => Promise.reject(new Error("no network")), () => new Promise(() => {}), () => "at last"];
    const { client, sockets, advance, socket } = await startClient(t, { token: () => results.shift()() });
    assert.equal(client.state.code, "no_token");
    assert.equal(client.state.reason, "no network");
    await advance(1_000);
    assert.equal(client.state.name, "connecting");
    await advance(15_000);
    assert.equal(client.state.code, "silent");
    await advance(2_000);
    assert.equal(sockets.length, 1);
    assert.equal(socket().url.searchParams.get("token"), "at last");
  });

  test("a late token is not used", async (t) => {
    const resolvers = [];
    const { sockets, advance } = await startClient(t, { token: () => new Promise((resolve) => resolvers.push(resolve)) });
    await advance(15_000);
    await advance(1_000);
    assert.equal(resolvers.length, 2);
    resolvers[1]("new");
    resolvers[0]("old");
    await settled();
    assert.deepEqual(sockets.map(({ url }) => url.searchParams.get("token")), ["new"]);
  });

  test("an attempt without a welcome times out", async (t) => {
    const { client, socket, advance } = await startClient(t, { connectTimeout: 3_000 });
    await advance(2_999);
    assert.equal(client.state.name, "connecting");
    await advance(1);
    assert.deepEqual([client.state.name, client.state.code], ["waiting", "silent"]);
    assert.equal(socket().readyState, 3, "the socket is closed");
  });

  test("the client sends a ping after silence, and reconnects without a reply", async (t) => {
    const { client, socket, advance } = await startClient(t, { heartbeatInterval: 10_000, heartbeatTimeout: 4_000 });
    socket().welcome();
    await advance(9_999);
    assert.deepEqual(socket().takeSent("ping"), []);
    socket().message(1);
    await advance(9_999);
    assert.deepEqual(socket().takeSent("ping"), [], "every received frame resets the heartbeat");
    await advance(1);
    assert.equal(socket().takeSent("ping").length, 1);
    socket().deliver({ type: "pong", payload: {} });
    await advance(10_000);
    assert.equal(socket().takeSent("ping").length, 1);
    await advance(3_000);
    await advance(999);
    assert.equal(client.state.name, "open");
    await advance(1);
    assert.deepEqual([client.state.name, client.state.code], ["waiting", "silent"]);
  });
});

describe("ping", () => {
  test("ping measures the reply of the server", async (t) => {
    const { client, socket, received } = await startClient(t);
    await assert.rejects(client.ping(), { code: "disconnected" });
    socket().welcome();
    const latency = client.ping();
    await settled();
    const [{ id }] = socket().takeSent("ping");
    socket().deliver({ type: "pong", id, payload: {} });
    assert.ok(await latency >= 0);
    assert.equal(received("other").length, 0);

    const lost = mayReject(client.ping());
    socket().closeByServer(1006);
    assert.equal(await outcome(lost), "disconnected", "it was to measure the connection that ended");
  });

  test("a ping without any frame in reply gives the connection up", async (t) => {
    const { client, sockets, socket, advance } = await startClient(t);
    socket().welcome();
    const ping = mayReject(client.ping());
    await advance(9_000);
    await advance(999);
    assert.equal(client.state.name, "open");
    await advance(1);
    assert.equal(client.state.name, "waiting");
    assert.equal(await outcome(ping), "disconnected");
    await advance(1_000);
    assert.equal(sockets.length, 2);
  });
});

describe("browser events", () => {
  test("online and a visible page end the wait, and offline lengthens it", async (t) => {
    const { window, document } = pretendBrowser(t);
    const { client, sockets, socket, advance } = await startClient(t);
    socket().closeByServer(1006);
    window.dispatchEvent(new Event("offline"));
    assert.equal(client.state.delay, 20_000);
    await advance(19_999);
    assert.equal(sockets.length, 1);
    await advance(1);
    assert.equal(sockets.length, 2, "attempts go on");
    socket().closeByServer(1006);
    assert.equal(client.state.delay, 20_000);
    window.dispatchEvent(new Event("online"));
    await settled();
    assert.equal(sockets.length, 3);
    socket().closeByServer(1006);
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
    assert.equal(sockets.length, 4, "a closed client ignores the event");
  });

  test("the events send one ping on an open connection", async (t) => {
    const { window, document } = pretendBrowser(t);
    const { client, socket, advance } = await startClient(t);
    socket().welcome();
    window.dispatchEvent(new Event("offline"));
    await advance(6_000);
    document.dispatchEvent(new Event("visibilitychange"));
    window.dispatchEvent(new Event("online"));
    assert.equal(socket().takeSent("ping").length, 1);
    await advance(3_000);
    await advance(1_000);
    assert.equal(client.state.code, "silent", "the events do not prolong the timeout of the ping");

    await advance(client.state.delay);
    socket().welcome();
    window.dispatchEvent(new Event("online"));
    socket().deliver({ type: "pong", payload: {} });
    window.dispatchEvent(new Event("online"));
    assert.equal(socket().takeSent("ping").length, 2);
  });
});

describe("the address", () => {
  test("the address has every room with its position, and rooms without one last", async (t) => {
    const { client, socket, advance } = await startClient(t, { rooms: ["new", { room: "old", since: 7, epoch: EPOCH }, { room: "some", since: 3 }] });
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
    socket().closeByServer(1006);
    await advance(1_000);
    const again = socket().url.searchParams;
    assert.deepEqual(again.getAll("room"), ["new", "old", "some"]);
    assert.deepEqual(again.getAll("since"), ["1", "8", "3"]);
    assert.deepEqual(again.getAll("epoch"), [EPOCH, EPOCH, EPOCH]);
    assert.equal(again.get("session"), client.session);
  });

  test("the address stays short, and the other rooms are joined afterwards from their positions", async (t) => {
    const rooms = Array.from({ length: 30 }, (_, n) => ({ room: `${"房".repeat(60)}${n}`, since: n, epoch: EPOCH }));
    const { socket } = await startClient(t, { rooms });
    assert.ok(socket().url.href.length <= 4_000, `${socket().url.href.length} characters`);
    const inAddress = socket().url.searchParams.getAll("room");
    assert.ok(inAddress.length > 0);

    socket().welcome();
    const joins = socket().takeSent("join");
    assert.deepEqual([...inAddress, ...joins.map(({ room }) => room)], rooms.map(({ room }) => room));
    for (const { room, since, epoch } of joins) {
      assert.deepEqual({ room, since, epoch }, rooms.find((wanted) => wanted.room === room));
    }
  });

  test("every second address has one room only after failed attempts", async (t) => {
    const { sockets, socket, advance } = await startClient(t, { rooms: ["a", "b", "c"] });
    for (let n = 0; n < 6; n += 1) {
      socket().closeByServer(1006);
      await advance(20_000);
    }
    assert.deepEqual(sockets.map(({ url }) => url.searchParams.getAll("room").length), [3, 3, 3, 3, 1, 3, 1]);
    socket().welcome();
    assert.deepEqual(socket().takeSent("join").map(({ room }) => room), ["b", "c"]);
  });
});

describe("listeners", () => {
  test("a listener that throws does not disturb the others, and its error is reported", async (t) => {
    const { client, socket, received } = await startClient(t);
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
    assert.deepEqual([received("message").length, after], [2, 2]);
    assert.deepEqual(surprises, ["a bug of the program"]);
  });

  test("a listener may close the client in every event", async (t) => {
    for (const name of ["state", "welcome", "joined", "message"]) {
      const { client, socket } = await startClient(t);
      client.on(name, () => client.close());
      socket()?.welcome();
      socket()?.message(1);
      await settled();
      assert.equal(client.state.name, "closed", name);
      t.mock.timers.reset();
    }
  });
});

test("the constructor rejects invalid arguments", () => {
  class None {}
  assert.throws(() => new WscastClient("ws://server/ws", { WebSocket: None, session: "short" }), RangeError);
  assert.throws(() => new WscastClient("ws://server/ws", { WebSocket: None, rooms: ["two words"] }), { code: "invalid_room" });
  assert.throws(() => new WscastClient("not a url", { WebSocket: None }), TypeError);
});
