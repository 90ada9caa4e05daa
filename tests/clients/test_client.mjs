// assets/client.js against the real binary, through a network that fails.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { WscastClient } from "../../assets/client.js";
import { Proxy } from "./proxy.mjs";
import { DEADLINE_MS, startServer, withinDeadline } from "./server.mjs";

const modules = process.env.CLIENT_MODULES;
if (!modules) throw new Error("set CLIENT_MODULES to the node_modules folder, or run `make test-clients`");
const require = createRequire(path.resolve(modules, "..", "package.json"));
const { WebSocket } = require("ws");

/** Waits between two attempts are short, so that a test sees many of them. */
const QUICK = { backoffMin: 1, backoffMax: 20 };

/** A client that keeps what it is told. */
class Person {
  /** Payloads by room, in the order in which they came. */
  heard = new Map();
  /** Every event but the messages, by name. */
  events = [];

  static async connect(t, url, options = {}) {
    const person = new Person(t, url, options);
    await person.is("open");
    return person;
  }

  constructor(t, url, options = {}) {
    this.client = new WscastClient(url, { WebSocket, ...QUICK, ...options });
    t.after(() => this.client.close());
    for (const type of ["message", "custom_event"]) {
      this.client.on(type, ({ room, payload }) => this.hears(room).push(payload));
    }
    for (const name of ["state", "welcome", "joined", "left", "recovered", "gap", "presence", "ack", "error", "other"]) {
      this.client.on(name, (event) => this.events.push({ name, event }));
    }
  }

  hears(room) {
    if (!this.heard.has(room)) this.heard.set(room, []);
    return this.heard.get(room);
  }

  told(name) {
    return this.events.filter((event) => event.name === name).map(({ event }) => event);
  }

  is(name) {
    return eventually(`the state ${name}`, () => this.client.state.name === name);
  }

  /** Waits until it has heard as much, and checks that it is this, in this order, and nothing else. */
  async hearsExactly(room, payloads) {
    await eventually(`${payloads.length} messages of ${room}`, () => this.hears(room).length >= payloads.length);
    assert.deepEqual(this.hears(room), payloads);
  }
}

async function eventually(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > end) assert.fail(`waited in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

const portOf = (server) => Number(new URL(server.ws).port);
const numbers = (count, from = 1) => Array.from({ length: count }, (_, n) => from + n);

/** A server, a proxy before it, a person behind the proxy and one who is connected directly. */
async function scene(t, options = {}, ...flags) {
  const server = await startServer(t, ...flags);
  const proxy = await Proxy.start(t, portOf(server));
  const alice = await Person.connect(t, proxy.ws, options);
  const bob = await Person.connect(t, server.ws, { rooms: options.rooms });
  return { server, proxy, alice, bob };
}

describe("talking", () => {
  test("a publish resolves with its place, and is heard once with what belongs to it", async (t) => {
    const { alice, bob } = await scene(t);
    const heard = [];
    bob.client.on("message", (message) => heard.push(message));

    const place = await alice.client.publish({ text: "你好" }, { type: "message" });
    await bob.hearsExactly("lobby", [{ text: "你好" }]);
    await alice.hearsExactly("lobby", [{ text: "你好" }]);

    assert.equal(place.room, "lobby");
    assert.equal(place.offset, 1);
    assert.deepEqual(alice.client.position("lobby"), { epoch: place.epoch, offset: 1 });
    assert.equal(heard[0].from, alice.client.clientId);
    assert.equal(heard[0].own, false);
    assert.deepEqual(alice.told("ack").map(({ room, offset }) => ({ room, offset })), [{ room: "lobby", offset: 1 }]);
  });

  test("JSON text is relayed as it stands", async (t) => {
    const { alice, server } = await scene(t);
    await alice.client.publishJson('{"n": 12345678901234567890}', { type: "custom_event" });
    const page = await (await fetch(`${server.http}/rooms/lobby/messages?since=0`)).text();
    assert.match(page, /"payload":\{"n": 12345678901234567890\}/);
    await assert.rejects(alice.client.publishJson('1},"room":"other"'), { code: "invalid_json" });
  });

  test("join, leave, history, presence", async (t) => {
    const { alice, bob } = await scene(t);
    const state = await alice.client.join("ops", { presence: true });
    assert.deepEqual({ room: state.room, members: state.members }, { room: "ops", members: 1 });
    await bob.client.join("ops");
    await eventually("the news that bob came", () => alice.told("presence").some(({ room, members }) => room === "ops" && members === 2));

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

  test("a join may ask for the past, also of a room it is in", async (t) => {
    const { alice, bob } = await scene(t);
    for (const n of numbers(3)) await bob.client.publish(n);
    await alice.hearsExactly("lobby", [1, 2, 3]);

    const { recovered } = await alice.client.join("lobby", { since: 1 });
    assert.equal(recovered, true);
    await alice.hearsExactly("lobby", [1, 2, 3, 2, 3]);
    await bob.client.publish(4);
    await alice.hearsExactly("lobby", [1, 2, 3, 2, 3, 4]);
    assert.deepEqual(alice.told("gap"), []);
  });

  test("whoever has left every room is in none after a reconnect either", async (t) => {
    const { alice, bob, proxy } = await scene(t);
    await alice.client.leave("lobby");
    proxy.cut();
    await eventually("the second welcome", () => alice.told("welcome").length === 2);
    await eventually("that bob is alone", async () => (await bob.client.presence("lobby")).members === 1);
    await bob.client.publish("hello");
    assert.deepEqual(alice.hears("lobby"), []);
  });

  test("a server that takes fewer rooms refuses the others by name", async (t) => {
    const server = await startServer(t, "--max-rooms-per-connection", "2");
    const alice = new Person(t, server.ws, { rooms: ["a", "b", "c"] });
    await eventually("the refusal", () => alice.told("left").length > 0);
    assert.deepEqual(alice.told("left").map(({ room, error }) => [room, error.code]), [["c", "too_many_rooms"]]);
    assert.deepEqual(alice.client.rooms, ["a", "b"]);
    await alice.client.publish("still works", { room: "b" });
  });

  test("the WebSocket of undici does too", async (t) => {
    const server = await startServer(t);
    const proxy = await Proxy.start(t, portOf(server));
    const alice = await Person.connect(t, proxy.ws, { WebSocket: require("undici").WebSocket });
    proxy.mode = "refuse";
    proxy.cut();
    await alice.is("waiting");
    const published = alice.client.publish("hello");
    proxy.mode = "pass";
    assert.equal((await withinDeadline(published, "acknowledgement")).offset, 1);
    await alice.hearsExactly("lobby", ["hello"]);
  });
});

describe("outages", () => {
  test("what others said meanwhile arrives once and in order", async (t) => {
    const { alice, bob, proxy } = await scene(t, { rooms: ["lobby", "ops", "房间"] });
    for (const room of alice.client.rooms) await bob.client.publish(0, { room });
    for (const room of alice.client.rooms) await alice.hearsExactly(room, [0]);

    proxy.mode = "refuse";
    proxy.cut();
    await alice.is("waiting");
    for (const n of numbers(50)) {
      for (const room of alice.client.rooms) await bob.client.publish(n, { room });
    }
    proxy.mode = "pass";

    for (const room of alice.client.rooms) await alice.hearsExactly(room, [0, ...numbers(50)]);
    assert.deepEqual(alice.told("recovered").map(({ room }) => room).sort(), [...alice.client.rooms].sort());
    assert.deepEqual(alice.told("gap"), []);
  });

  test("a room joined meanwhile starts now, the others where they were", async (t) => {
    const { alice, bob, proxy } = await scene(t);
    await bob.client.join("ops");
    proxy.mode = "refuse";
    proxy.cut();
    await alice.is("waiting");
    await bob.client.publish("before", { room: "ops" });
    await bob.client.publish("missed", { room: "lobby" });
    const joined = alice.client.join("ops");
    proxy.mode = "pass";
    await withinDeadline(joined, "joined");
    await bob.client.publish("after", { room: "ops" });
    await alice.hearsExactly("ops", ["after"]);
    await alice.hearsExactly("lobby", ["missed"]);
  });

  test("more rooms than an address holds continue all the same", async (t) => {
    const rooms = numbers(60).map((n) => `房间-${n}`);
    const { alice, bob, proxy } = await scene(t, { rooms }, "--max-rooms-per-connection", "100");
    for (const room of rooms) await bob.client.publish(1, { room });
    for (const room of rooms) await alice.hearsExactly(room, [1]);

    proxy.mode = "refuse";
    proxy.cut();
    await alice.is("waiting");
    for (const room of rooms) await bob.client.publish(2, { room });
    proxy.mode = "pass";
    for (const room of rooms) await alice.hearsExactly(room, [1, 2]);
    assert.deepEqual(alice.told("gap"), []);
    assert.deepEqual(alice.told("error"), []);
  });

  test("what is published meanwhile is published once, in order, and acknowledged", async (t) => {
    const { alice, bob, proxy } = await scene(t);
    proxy.mode = "refuse";
    proxy.cut();
    await alice.is("waiting");
    const published = numbers(300).map((n) => alice.client.publish(n));
    assert.equal(alice.client.waiting, 300);
    proxy.mode = "pass";

    const places = await withinDeadline(Promise.all(published), "acknowledgements");
    assert.deepEqual(places.map(({ offset }) => offset), numbers(300));
    await bob.hearsExactly("lobby", numbers(300));
    assert.equal(alice.client.waiting, 0);
  });

  test("a publish whose acknowledgement was lost is not published again", async (t) => {
    const { alice, bob, proxy } = await scene(t);
    proxy.swallowAnswers();
    const published = alice.client.publish("only once");
    await bob.hearsExactly("lobby", ["only once"]);
    proxy.cut();

    assert.equal((await withinDeadline(published, "acknowledgement")).offset, 1);
    await alice.client.publish("next");
    await bob.hearsExactly("lobby", ["only once", "next"]);
    await alice.hearsExactly("lobby", ["only once", "next"]);
  });

  test("a link that is half open is noticed by its silence", async (t) => {
    const { alice, bob, proxy } = await scene(t, { heartbeatInterval: 50, heartbeatTimeout: 50 });
    proxy.stall();
    await bob.client.publish("missed");
    await alice.hearsExactly("lobby", ["missed"]);
    assert.ok(alice.told("state").some(({ name, code }) => name === "waiting" && code === "silent"));
  });

  test("a quiet link that answers is kept", async (t) => {
    const { alice } = await scene(t, { heartbeatInterval: 10, heartbeatTimeout: 5_000 });
    const ping = new Promise((done) => {
      const send = WebSocket.prototype.send;
      let pings = 0;
      t.mock.method(WebSocket.prototype, "send", function (text, ...rest) {
        if (text === '{"type":"ping"}' && (pings += 1) === 5) done();
        return send.call(this, text, ...rest);
      });
    });
    await withinDeadline(ping, "fifth ping");
    assert.equal(alice.told("welcome").length, 1);
  });

  test("an attempt that nobody answers is given up", async (t) => {
    const server = await startServer(t);
    const proxy = await Proxy.start(t, portOf(server));
    proxy.mode = "hang";
    const alice = new Person(t, proxy.ws, { connectTimeout: 50 });
    await eventually("that it is given up", () => alice.told("state").some(({ name, code }) => name === "waiting" && code === "silent"));
    proxy.mode = "pass";
    await alice.is("open");
  });
});

describe("a server that is started again", () => {
  test("the gap is told, and what was never sent is published once", async (t) => {
    const { alice, bob, proxy, server } = await scene(t);
    await bob.client.publish("before");
    await alice.hearsExactly("lobby", ["before"]);
    const from = alice.client.position("lobby");

    proxy.mode = "refuse";
    server.terminate();
    await server.exited();
    await alice.is("waiting");
    const published = alice.client.publish("mine");
    const again = await startServer(t);
    const carol = await Person.connect(t, again.ws);
    await carol.client.publish("hers");
    proxy.target = portOf(again);
    proxy.mode = "pass";

    const place = await withinDeadline(published, "acknowledgement");
    await alice.hearsExactly("lobby", ["before", "hers", "mine"]);
    const [gap, ...others] = alice.told("gap");
    assert.deepEqual(others, []);
    assert.deepEqual(gap, { room: "lobby", from, to: { epoch: place.epoch, offset: 0 } });
    assert.notEqual(place.epoch, from.epoch);
  });

  test("a publish that it may have had before is reported, not repeated", async (t) => {
    const { alice, bob, proxy, server } = await scene(t);
    proxy.swallowAnswers();
    const published = alice.client.publish("perhaps");
    published.catch(() => {});
    await bob.hearsExactly("lobby", ["perhaps"]);
    proxy.mode = "refuse";
    server.terminate();
    await server.exited();
    proxy.cut();
    const again = await startServer(t);
    proxy.target = portOf(again);
    proxy.mode = "pass";

    await assert.rejects(withinDeadline(published, "the truth"), { code: "unknown_outcome" });
    assert.equal((await alice.client.publish("sure")).offset, 1);
    await alice.hearsExactly("lobby", ["sure"]);
  });
});

describe("the end", () => {
  test("whoever waits is told, and nothing is sent any more", async (t) => {
    const { alice, proxy } = await scene(t);
    proxy.mode = "refuse";
    proxy.cut();
    await alice.is("waiting");
    const waiting = [alice.client.publish(1), alice.client.join("ops"), alice.client.history("lobby")];
    alice.client.close();
    for (const promise of waiting) await assert.rejects(promise, { code: "closed" });
    await assert.rejects(alice.client.publish(2), { code: "closed" });
    assert.throws(() => alice.client.reconnect(), { code: "closed" });
    assert.equal(alice.client.state.name, "closed");
  });

  for (const [how, mode] of [["on a good link", "open"], ["on a link that is half open", "stalled"], ["while it connects", "connecting"], ["while it waits", "waiting"]]) {
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
      await withinDeadline(new Promise((done) => child.stdout.once("data", done)), "word that it is there");
      if (mode === "stalled") proxy.stall();
      child.stdin.end("close\n");
      assert.equal(await withinDeadline(ended, "end of the process"), 0);
    });
  }
});

test("cut again and again at random, nothing is lost, doubled or out of order", async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed} repeats this`);
  const random = generator(seed);
  const cuts = 400;
  const rooms = ["red", "green", "蓝"];
  const server = await startServer(t, "--history-messages", "100000");
  const witness = await Person.connect(t, server.ws, { rooms });
  const proxy = await Proxy.start(t, portOf(server));
  // Some are cut before the welcome, some while they catch up, some in between.
  proxy.cutAfter = () => Math.floor(random() ** 2 * 12_000);
  const fromTheBeginning = rooms.map((room) => ({ room, since: 0 }));
  const people = numbers(3).map(() => new Person(t, proxy.ws, { rooms: fromTheBeginning, random }));

  const said = new Map(rooms.map((room) => [room, 0]));
  const speak = async (person, name) => {
    for (let n = 1; proxy.cuts < cuts; n += 1) {
      const burst = rooms.map((room) => person.client.publish([name, n], { room }));
      await Promise.all(burst);
      for (const room of rooms) said.set(room, said.get(room) + 1);
    }
  };
  await withinDeadline(Promise.all(people.map((person, name) => speak(person, name))), `end after ${proxy.cuts} cuts`);
  proxy.cutAfter = () => Infinity;
  proxy.cut();

  for (const room of rooms) {
    const count = said.get(room);
    await eventually(`${count} messages of ${room}`, () => witness.hears(room).length >= count);
    const truth = witness.hears(room);
    assert.equal(truth.length, count, `${room}: published once each`);
    for (const name of people.keys()) {
      const own = truth.filter(([who]) => who === name).map(([, n]) => n);
      assert.deepEqual(own, numbers(own.length), `${room}: person ${name} in order`);
    }
    for (const person of people) await person.hearsExactly(room, truth);
  }
  for (const person of people) assert.deepEqual(person.told("gap"), []);
  t.diagnostic(`${proxy.cuts} cuts, ${[...said.values()].reduce((sum, n) => sum + n)} messages`);
});

/** Mulberry32: random numbers that a seed repeats. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
