// assets/client.js and the real server, through a network that fails.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Person, WebSocket, eventually, numbers, portOf, require, startAliceAndBob } from "./person.mjs";
import { Proxy } from "./proxy.mjs";
import { startServer, withinDeadline } from "./server.mjs";

/** Sends an Origin, and drops a connection whose server chooses no subprotocol, as browsers do. */
class BrowserWebSocket extends WebSocket {
  constructor(url, subprotocols = []) {
    super(url, subprotocols, { origin: "https://a.example" });
  }
}

describe("messages and rooms", () => {
  test("a publish resolves with its position, and members receive it once", async (t) => {
    const { alice, bob } = await startAliceAndBob(t);
    const messages = [];
    bob.client.on("message", (message) => messages.push(message));

    const stored = await alice.client.publish({ text: "你好" }, { type: "message" });
    await bob.receives("lobby", [{ text: "你好" }]);
    await alice.receives("lobby", [{ text: "你好" }]);

    assert.equal(stored.room, "lobby");
    assert.equal(stored.offset, 1);
    assert.deepEqual(alice.client.position("lobby"), { epoch: stored.epoch, offset: 1 });
    assert.equal(messages[0].from, alice.client.clientId);
    assert.equal(messages[0].own, false);
    assert.deepEqual(alice.eventsOf("ack").map(({ room, offset }) => ({ room, offset })), [{ room: "lobby", offset: 1 }]);
  });

  test("JSON text is relayed unchanged", async (t) => {
    const { alice, server } = await startAliceAndBob(t);
    await alice.client.publishJson('{"n": 12345678901234567890}', { type: "custom_event" });
    const page = await (await fetch(`${server.http}/rooms/lobby/messages?since=0`)).text();
    assert.match(page, /"payload":\{"n": 12345678901234567890\}/);
    await assert.rejects(alice.client.publishJson('1},"room":"other"'), { code: "invalid_json" });
  });

  test("join, leave, history and presence resolve with their replies", async (t) => {
    const { alice, bob } = await startAliceAndBob(t);
    const state = await alice.client.join("ops", { presence: true });
    assert.deepEqual({ room: state.room, members: state.members }, { room: "ops", members: 1 });
    await bob.client.join("ops");
    await eventually("the presence event about Bob", () => alice.eventsOf("presence").some(({ room, members }) => room === "ops" && members === 2));

    await bob.client.publish("one", { room: "ops" });
    await bob.client.publish("two", { room: "ops" });
    const history = await alice.client.history("ops", { since: 1 });
    assert.deepEqual(history.messages.map(({ payload }) => payload), ["two"]);
    assert.equal((await alice.client.presence("ops")).members, 2);

    await alice.client.leave("ops");
    await assert.rejects(alice.client.publish("x", { room: "ops" }), { code: "not_in_room" });
    await assert.rejects(alice.client.presence("ops"), { code: "not_in_room" });
    await assert.rejects(alice.client.join("a/b"), { code: "invalid_room" });
    assert.deepEqual(alice.client.rooms, ["lobby"]);
  });

  test("a join with since repeats messages, also of a room that was joined before", async (t) => {
    const { alice, bob } = await startAliceAndBob(t);
    for (const n of numbers(3)) await bob.client.publish(n);
    await alice.receives("lobby", [1, 2, 3]);

    const { recovered } = await alice.client.join("lobby", { since: 1 });
    assert.equal(recovered, true);
    await alice.receives("lobby", [1, 2, 3, 2, 3]);
    await bob.client.publish(4);
    await alice.receives("lobby", [1, 2, 3, 2, 3, 4]);
    assert.deepEqual(alice.eventsOf("gap"), []);
  });

  test("a client that left every room joins none after a reconnect", async (t) => {
    const { alice, bob, proxy } = await startAliceAndBob(t);
    await alice.client.leave("lobby");
    proxy.cut();
    await eventually("the second welcome", () => alice.eventsOf("welcome").length === 2);
    await eventually("Bob as the only member", async () => (await bob.client.presence("lobby")).members === 1);
    await bob.client.publish("hello");
    assert.deepEqual(alice.received("lobby"), []);
  });

  test("a server with a lower limit refuses the further rooms by name", async (t) => {
    const server = await startServer(t, "--max-rooms-per-connection", "2");
    const alice = new Person(t, server.ws, { rooms: ["a", "b", "c"] });
    await eventually("the refusal", () => alice.eventsOf("left").length > 0);
    assert.deepEqual(alice.eventsOf("left").map(({ room, error }) => [room, error.code]), [["c", "too_many_rooms"]]);
    assert.deepEqual(alice.client.rooms, ["a", "b"]);
    await alice.client.publish("still works", { room: "b" });
  });

  test("a browser's client is closed for too many rooms, and joins them one by one", async (t) => {
    const server = await startServer(t, "--max-rooms-per-connection", "2");
    const alice = new Person(t, server.ws, { rooms: ["a", "b", "c"], WebSocket: BrowserWebSocket });
    await eventually("the refusal", () => alice.eventsOf("left").length > 0);
    assert.deepEqual(alice.eventsOf("left").map(({ room, error }) => [room, error.code]), [["c", "too_many_rooms"]]);
    assert.equal(alice.eventsOf("state").find(({ name }) => name === "waiting").code, 4000);
    await alice.client.publish("still works", { room: "b" });
  });

  for (const [url, flags, code, reason] of [
    ["?since[]=1", [], 4000, /"since\[\]" is unknown; write `since`/],
    ["", ["--allow-origin", "https://b.example"], 4003, /the origin https:\/\/a\.example is not on --allow-origin/],
    ["/chat", [], 4004, /no WebSocket at \/ws\/chat; it is at \/ws/],
  ]) {
    test(`a browser's client stops with the reason: ${code}`, async (t) => {
      const server = await startServer(t, ...flags);
      const alice = new Person(t, server.ws + url, { WebSocket: BrowserWebSocket });
      await alice.waitForState("closed");
      assert.equal(alice.client.state.code, code);
      assert.match(alice.client.state.reason, reason);
      await assert.rejects(alice.client.publish("x"), { code: "closed", message: reason });
    });
  }

  for (const [name, Class] of [["ws", WebSocket], ["undici", require("undici").WebSocket]]) {
    test(`a program's client stops with the reason: ${name}`, async (t) => {
      const server = await startServer(t);
      for (const [url, code, reason] of [["?since[]=1", 4000, /write `since`/], ["/chat", 4004, /it is at \/ws/]]) {
        const alice = new Person(t, server.ws + url, { WebSocket: Class });
        await alice.waitForState("closed");
        assert.equal(alice.client.state.code, code);
        assert.match(alice.client.state.reason, reason);
      }
    });
  }

  test("the client works with the WebSocket of undici", async (t) => {
    const server = await startServer(t);
    const proxy = await Proxy.start(t, portOf(server));
    const alice = await Person.connect(t, proxy.ws, { WebSocket: require("undici").WebSocket });
    proxy.mode = "refuse";
    proxy.cut();
    await alice.waitForState("waiting");
    const published = alice.client.publish("hello");
    proxy.mode = "pass";
    assert.equal((await withinDeadline(published, "acknowledgement")).offset, 1);
    await alice.receives("lobby", ["hello"]);
  });
});

describe("outages", () => {
  test("missed messages arrive once and in order", async (t) => {
    const { alice, bob, proxy } = await startAliceAndBob(t, { rooms: ["lobby", "ops", "房间"] });
    for (const room of alice.client.rooms) await bob.client.publish(0, { room });
    for (const room of alice.client.rooms) await alice.receives(room, [0]);

    proxy.mode = "refuse";
    proxy.cut();
    await alice.waitForState("waiting");
    for (const n of numbers(50)) {
      for (const room of alice.client.rooms) await bob.client.publish(n, { room });
    }
    proxy.mode = "pass";

    for (const room of alice.client.rooms) await alice.receives(room, [0, ...numbers(50)]);
    assert.deepEqual(alice.eventsOf("recovered").map(({ room }) => room).sort(), [...alice.client.rooms].sort());
    assert.deepEqual(alice.eventsOf("gap"), []);
  });

  test("a room joined during an outage starts now, and the other rooms resume", async (t) => {
    const { alice, bob, proxy } = await startAliceAndBob(t);
    await bob.client.join("ops");
    proxy.mode = "refuse";
    proxy.cut();
    await alice.waitForState("waiting");
    await bob.client.publish("before", { room: "ops" });
    await bob.client.publish("missed", { room: "lobby" });
    const joined = alice.client.join("ops");
    proxy.mode = "pass";
    await withinDeadline(joined, "joined");
    await bob.client.publish("after", { room: "ops" });
    await alice.receives("ops", ["after"]);
    await alice.receives("lobby", ["missed"]);
  });

  test("rooms that do not fit into the address resume too", async (t) => {
    const rooms = numbers(60).map((n) => `房间-${n}`);
    const { alice, bob, proxy } = await startAliceAndBob(t, { rooms }, "--max-rooms-per-connection", "100");
    for (const room of rooms) await bob.client.publish(1, { room });
    for (const room of rooms) await alice.receives(room, [1]);

    proxy.mode = "refuse";
    proxy.cut();
    await alice.waitForState("waiting");
    for (const room of rooms) await bob.client.publish(2, { room });
    proxy.mode = "pass";
    for (const room of rooms) await alice.receives(room, [1, 2]);
    assert.deepEqual(alice.eventsOf("gap"), []);
    assert.deepEqual(alice.eventsOf("error"), []);
  });

  test("messages published during an outage are stored once and in order", async (t) => {
    const { alice, bob, proxy } = await startAliceAndBob(t);
    proxy.mode = "refuse";
    proxy.cut();
    await alice.waitForState("waiting");
    const published = numbers(300).map((n) => alice.client.publish(n));
    assert.equal(alice.client.waiting, 300);
    proxy.mode = "pass";

    const places = await withinDeadline(Promise.all(published), "acknowledgements");
    assert.deepEqual(places.map(({ offset }) => offset), numbers(300));
    await bob.receives("lobby", numbers(300));
    assert.equal(alice.client.waiting, 0);
  });

  test("a publish whose acknowledgement was lost is stored once", async (t) => {
    const { alice, bob, proxy } = await startAliceAndBob(t);
    proxy.dropReplies();
    const published = alice.client.publish("only once");
    await bob.receives("lobby", ["only once"]);
    proxy.cut();

    assert.equal((await withinDeadline(published, "acknowledgement")).offset, 1);
    await alice.client.publish("next");
    await bob.receives("lobby", ["only once", "next"]);
    await alice.receives("lobby", ["only once", "next"]);
  });

  test("the client replaces a half-open connection", async (t) => {
    const { alice, bob, proxy } = await startAliceAndBob(t, { heartbeatInterval: 50, heartbeatTimeout: 50 });
    proxy.stall();
    await bob.client.publish("missed");
    await alice.receives("lobby", ["missed"]);
    assert.ok(alice.eventsOf("state").some(({ name, code }) => name === "waiting" && code === "silent"));
  });

  test("the client keeps a quiet connection while the server replies to pings", async (t) => {
    const { alice } = await startAliceAndBob(t, { heartbeatInterval: 10, heartbeatTimeout: 5_000 });
    const ping = new Promise((done) => {
      const send = WebSocket.prototype.send;
      let pings = 0;
      t.mock.method(WebSocket.prototype, "send", function (text, ...rest) {
        if (text === '{"type":"ping"}' && (pings += 1) === 5) done();
        return send.call(this, text, ...rest);
      });
    });
    await withinDeadline(ping, "fifth ping");
    assert.equal(alice.eventsOf("welcome").length, 1);
  });

  test("the client gives up an attempt without a reply", async (t) => {
    const server = await startServer(t);
    const proxy = await Proxy.start(t, portOf(server));
    proxy.mode = "hang";
    const alice = new Person(t, proxy.ws, { connectTimeout: 50 });
    await eventually("the end of the attempt", () => alice.eventsOf("state").some(({ name, code }) => name === "waiting" && code === "silent"));
    proxy.mode = "pass";
    await alice.waitForState("open");
  });
});

describe("a server restart", () => {
  test("the client reports the gap, and publishes once what it had not sent before", async (t) => {
    const { alice, bob, proxy, server } = await startAliceAndBob(t);
    await bob.client.publish("before");
    await alice.receives("lobby", ["before"]);
    const from = alice.client.position("lobby");

    proxy.mode = "refuse";
    server.terminate();
    await server.exited();
    await alice.waitForState("waiting");
    const published = alice.client.publish("mine");
    const restarted = await startServer(t);
    const carol = await Person.connect(t, restarted.ws);
    await carol.client.publish("hers");
    proxy.target = portOf(restarted);
    proxy.mode = "pass";

    const stored = await withinDeadline(published, "acknowledgement");
    await alice.receives("lobby", ["before", "hers", "mine"]);
    const [gap, ...others] = alice.eventsOf("gap");
    assert.deepEqual(others, []);
    assert.deepEqual(gap, { room: "lobby", from, to: { epoch: stored.epoch, offset: 0 } });
    assert.notEqual(stored.epoch, from.epoch);
  });

  test("a publish that may have been stored before the restart is reported and not repeated", async (t) => {
    const { alice, bob, proxy, server } = await startAliceAndBob(t);
    proxy.dropReplies();
    const published = alice.client.publish("perhaps");
    published.catch(() => {});
    await bob.receives("lobby", ["perhaps"]);
    proxy.mode = "refuse";
    server.terminate();
    await server.exited();
    proxy.cut();
    const restarted = await startServer(t);
    proxy.target = portOf(restarted);
    proxy.mode = "pass";

    await assert.rejects(withinDeadline(published, "rejection"), { code: "unknown_outcome" });
    assert.equal((await alice.client.publish("sure")).offset, 1);
    await alice.receives("lobby", ["sure"]);
  });
});

describe("closing", () => {
  test("close rejects every pending promise, and every later call", async (t) => {
    const { alice, proxy } = await startAliceAndBob(t);
    proxy.mode = "refuse";
    proxy.cut();
    await alice.waitForState("waiting");
    const waiting = [alice.client.publish(1), alice.client.join("ops"), alice.client.history("lobby")];
    alice.client.close();
    for (const promise of waiting) await assert.rejects(promise, { code: "closed" });
    await assert.rejects(alice.client.publish(2), { code: "closed" });
    assert.throws(() => alice.client.reconnect(), { code: "closed" });
    assert.equal(alice.client.state.name, "closed");
  });

  for (const [how, mode] of [["on a working connection", "open"], ["on a half-open connection", "stalled"], ["while it connects", "connecting"], ["while it waits", "waiting"]]) {
    test(`a client that is closed ${how} keeps no process alive`, async (t) => {
      const server = await startServer(t);
      const proxy = await Proxy.start(t, portOf(server));
      if (mode === "connecting") proxy.mode = "hang";
      if (mode === "waiting") proxy.mode = "refuse";
      const child = spawn(process.execPath, [fileURLToPath(new URL("closing_program.mjs", import.meta.url)), proxy.ws, mode], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      t.after(() => child.kill("SIGKILL"));
      const ended = new Promise((done) => child.once("exit", done));
      await withinDeadline(new Promise((done) => child.stdout.once("data", done)), "line of the program");
      if (mode === "stalled") proxy.stall();
      child.stdin.end("close\n");
      assert.equal(await withinDeadline(ended, "end of the process"), 0);
    });
  }
});

test("clients lose, duplicate and reorder nothing while their connections are cut at random", async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed} repeats this`);
  const random = generator(seed);
  const cuts = 400;
  const rooms = ["red", "green", "蓝"];
  const server = await startServer(t, "--history-messages", "100000");
  const witness = await Person.connect(t, server.ws, { rooms });
  const proxy = await Proxy.start(t, portOf(server));
  // Some connections are cut before the welcome, some during a resume, some later.
  proxy.cutAfter = () => Math.floor(random() ** 2 * 12_000);
  const fromTheStart = rooms.map((room) => ({ room, since: 0 }));
  const people = numbers(3).map(() => new Person(t, proxy.ws, { rooms: fromTheStart, random }));

  const published = new Map(rooms.map((room) => [room, 0]));
  const publishUntilCut = async (person, name) => {
    for (let n = 1; proxy.cuts < cuts; n += 1) {
      const burst = rooms.map((room) => person.client.publish([name, n], { room }));
      await Promise.all(burst);
      for (const room of rooms) published.set(room, published.get(room) + 1);
    }
  };
  await withinDeadline(Promise.all(people.map((person, name) => publishUntilCut(person, name))), `end after ${proxy.cuts} cuts`);
  proxy.cutAfter = () => Infinity;
  proxy.cut();

  for (const room of rooms) {
    const count = published.get(room);
    await eventually(`${count} messages of ${room}`, () => witness.received(room).length >= count);
    const expected = witness.received(room);
    assert.equal(expected.length, count, `${room}: each is stored once`);
    for (const name of people.keys()) {
      const own = expected.filter(([who]) => who === name).map(([, n]) => n);
      assert.deepEqual(own, numbers(own.length), `${room}: person ${name} in order`);
    }
    for (const person of people) await person.receives(room, expected);
  }
  for (const person of people) assert.deepEqual(person.eventsOf("gap"), []);
  t.diagnostic(`${proxy.cuts} cuts, ${[...published.values()].reduce((sum, n) => sum + n)} messages`);
});

/** Mulberry32: repeatable random numbers. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
