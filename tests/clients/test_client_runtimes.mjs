// assets/client.js where the platform differs from a current browser: Node 18, React Native, Firefox, and pages
// in the back/forward cache.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { healthAddress, parameter, webSocketAddress, withParameters } from "../../assets/client/address.js";
import { byteLength, randomText } from "../../assets/client/text.js";
import { EPOCH, outcome, pretendBrowser, replaceGlobals, settled, startClient } from "./scripted.mjs";

describe("without a global crypto", () => {
  for (const [where, globals] of [["Node 18", {}], ["React Native", { Blob: undefined }]]) {
    test(`sessions and ids are random (${where})`, (t) => {
      replaceGlobals(t, { crypto: undefined, ...globals });
      for (const bytes of [1, 8, 16, 40]) {
        const texts = new Set(Array.from({ length: 50 }, () => randomText(bytes)));
        assert.ok([...texts].every((text) => new RegExp(`^[0-9a-f]{${2 * bytes}}$`).test(text)));
        assert.ok(bytes < 8 || texts.size === 50);
      }
    });
  }

  test("a program connects and publishes", (t) => {
    const program = fileURLToPath(new URL("old_runtime_program.mjs", import.meta.url));
    const { stdout, stderr, status } = spawnSync(process.execPath, [program], { encoding: "utf8" });
    assert.equal(stderr, "");
    assert.equal(stdout, "published\n");
    assert.equal(status, 0);
  });
});

test("byteLength counts as TextEncoder does", () => {
  for (const text of ["", "a", "é", "字", "😀", "a\ud800b", "\udc00", "x".repeat(1000) + "字"]) {
    assert.equal(byteLength(text), new TextEncoder().encode(text).length, JSON.stringify(text));
  }
});

describe("addresses without a complete URL class", () => {
  /** A URL class like that of React Native. */
  class PartialUrl {
    constructor(url) {
      this.href = `${url}/`;
    }

    get protocol() {
      throw new Error("URL.protocol is not implemented");
    }

    get searchParams() {
      throw new Error("URLSearchParams.set is not implemented");
    }
  }

  for (const [given, address, health] of [
    ["ws://server/ws", "ws://server/ws", "http://server/health"],
    ["wss://server:5000/chat/ws", "wss://server:5000/chat/ws", "https://server:5000/chat/health"],
    ["http://server/ws?lang=zh&token=old&room=a", "ws://server/ws?lang=zh", "http://server/health"],
    ["HTTPS://server/chat/ws/#top", "wss://server/chat/ws/", "https://server/chat/health"],
    ["ws://server", "ws://server", "http://server/health"],
  ]) {
    test(`${given} becomes ${address}`, (t) => {
      replaceGlobals(t, { URL: PartialUrl, URLSearchParams: undefined, TextEncoder: undefined });
      assert.equal(webSocketAddress(given), address);
      assert.equal(healthAddress(address), health);
    });
  }

  test("a client connects with every parameter in its address", async (t) => {
    const { URL } = globalThis;
    replaceGlobals(t, { URL: PartialUrl, URLSearchParams: undefined, TextEncoder: undefined, crypto: undefined });
    const addresses = [];
    await startClient(t, {
      rooms: ["房间"],
      token: "a+b/c=&d",
      WebSocket: class {
        constructor(address) {
          addresses.push(address);
        }

        close() {}
      },
    });
    const { searchParams } = new URL(addresses[0]);
    assert.deepEqual(searchParams.getAll("room"), ["房间"]);
    assert.equal(searchParams.get("token"), "a+b/c=&d");
  });

  test("relative addresses are resolved against the document", (t) => {
    replaceGlobals(t, { document: { baseURI: "https://example.com/chat/page?room=a#token=b" } });
    assert.equal(webSocketAddress("ws"), "wss://example.com/chat/ws");
    assert.equal(webSocketAddress("/ws"), "wss://example.com/ws");
  });

  test("relative addresses are rejected where there is no document", () => {
    assert.throws(() => webSocketAddress("/ws"), TypeError);
    assert.throws(() => webSocketAddress("ws://"), TypeError);
  });

  test("parameters are encoded, half a surrogate pair included", () => {
    assert.equal(withParameters("ws://a/ws?b=c", [parameter("d", "e f&\ud800")]), "ws://a/ws?b=c&d=e%20f%26%EF%BF%BD");
  });
});

describe("the back/forward cache", () => {
  const event = (name, persisted) => Object.assign(new Event(name), { persisted });

  test("a page that comes back reconnects at once", async (t) => {
    const { window, document } = pretendBrowser(t);
    const { client, sockets, socket, advance, received } = await startClient(t);
    socket().welcome();
    socket().message(1);
    window.dispatchEvent(event("pagehide", true));
    assert.equal(socket().readyState, 3, "an open connection would keep the page out of the cache");
    assert.equal(client.state.code, "cached");

    document.dispatchEvent(new Event("visibilitychange"));
    window.dispatchEvent(event("pageshow", true));
    await settled();
    assert.equal(sockets.length, 2, "one attempt for both events");
    assert.equal(socket().url.searchParams.get("since"), "1");
    socket().welcome([{ room: "lobby", epoch: EPOCH, offset: 1, recovered: true, members: 1 }]);
    assert.equal(client.state.name, "open");
    await advance(60_000);
    assert.equal(sockets.length, 2, "the wait is over");
    assert.deepEqual(received("gap"), []);
  });

  test("a page whose connection the browser has closed in the cache reconnects at once", async (t) => {
    const { window } = pretendBrowser(t);
    const { sockets, socket } = await startClient(t);
    socket().welcome();
    socket().readyState = 3;
    window.dispatchEvent(event("pageshow", true));
    await settled();
    assert.equal(sockets.length, 2);
    socket().welcome();
    sockets[0].closeByServer(1006);
    assert.equal(sockets.length, 2, "the late close event is ignored");
  });

  test("a page that is loaded or unloaded without the cache keeps its connection", async (t) => {
    const { window } = pretendBrowser(t);
    const { client, sockets, socket } = await startClient(t);
    socket().welcome();
    for (const name of ["pageshow", "pagehide"]) window.dispatchEvent(event(name, false));
    await settled();
    assert.equal(client.state.name, "open");
    assert.equal(sockets.length, 1);
  });

  test("a page that is not cached after all reconnects later", async (t) => {
    const { window } = pretendBrowser(t);
    const { client, sockets, socket, advance } = await startClient(t);
    socket().welcome();
    window.dispatchEvent(event("pagehide", true));
    await advance(20_000);
    assert.equal(sockets.length, 2);
    client.close();
    window.dispatchEvent(event("pageshow", true));
    await settled();
    assert.equal(sockets.length, 2, "a closed client stays closed");
  });
});

describe("Firefox, which delays a WebSocket after failed ones", () => {
  /** Installs Firefox's name and a server that can be up, down or behind a proxy that responds for it. */
  function pretendFirefox(t) {
    const server = { status: 0, probes: [] };
    const fetch = async (address) => {
      server.probes.push(address);
      if (server.status === 0) throw new TypeError("NetworkError");
      return { status: server.status };
    };
    replaceGlobals(t, { fetch, navigator: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0" } });
    return server;
  }

  test("no WebSocket is opened while the server is down, and one as soon as it responds", async (t) => {
    const server = pretendFirefox(t);
    const { client, sockets, socket, advance } = await startClient(t);
    assert.deepEqual(server.probes, [], "the first attempt needs no probe");
    socket().welcome();
    socket().closeByServer(1006);
    for (const status of [0, 502, 504]) {
      server.status = status;
      await advance(client.state.delay);
      assert.equal(sockets.length, 1, `status ${status}`);
      assert.equal(client.state.code, 1006);
    }
    assert.deepEqual(new Set(server.probes), new Set(["http://server/health"]));
    server.status = 200;
    await advance(client.state.delay);
    assert.equal(sockets.length, 2, "three failed probes are believed, then a WebSocket is tried");
    socket().closeByServer(1006);
    await advance(client.state.delay);
    assert.equal(sockets.length, 3);
    socket().welcome();
    assert.equal(client.state.name, "open");
  });

  test("failed probes are believed for ever once a probe has succeeded", async (t) => {
    const server = pretendFirefox(t);
    const { client, sockets, socket, advance } = await startClient(t);
    server.status = 200;
    socket().closeByServer(1006);
    await advance(client.state.delay);
    assert.equal(sockets.length, 2);
    socket().closeByServer(1006);
    server.status = 0;
    for (let attempt = 0; attempt < 20; attempt += 1) await advance(client.state.delay);
    assert.equal(sockets.length, 2);
    assert.equal(server.probes.length, 21);
  });

  test("a page that may not send probes still reconnects", async (t) => {
    const server = pretendFirefox(t);
    const { client, sockets, socket, advance } = await startClient(t);
    socket().closeByServer(1006);
    for (let attempt = 0; attempt < 8; attempt += 1) {
      await advance(client.state.delay);
      if (client.state.name === "connecting") socket().closeByServer(1006);
    }
    assert.equal(server.probes.length, 6);
    assert.equal(sockets.length, 3);
  });

  test("a WebSocket that Firefox delays is replaced without backoff while the server responds", async (t) => {
    const server = pretendFirefox(t);
    const { client, sockets, socket, advance, received } = await startClient(t, { connectTimeout: 2_000 });
    server.status = 200;
    socket().closeByServer(1006);
    await advance(client.state.delay);
    assert.equal(sockets.length, 2);
    for (let attempt = 3; attempt < 8; attempt += 1) {
      await advance(2_000);
      await advance(0);
      assert.equal(sockets.length, attempt);
      assert.equal(received("state").findLast(({ name }) => name === "waiting").delay, 0);
    }
    server.status = 0;
    await advance(2_000);
    await advance(0);
    assert.equal(client.state.name, "waiting");
    assert.ok(client.state.delay > 0, "the server responds no longer");
  });

  test("other browsers send no probe", async (t) => {
    const server = pretendFirefox(t);
    replaceGlobals(t, { navigator: { userAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36" } });
    const { client, sockets, socket, advance } = await startClient(t);
    socket().closeByServer(1006);
    await advance(client.state.delay);
    assert.equal(sockets.length, 2);
    assert.deepEqual(server.probes, []);
  });
});

test("a client without a token is closed with code 4001 by a server that requires one", async (t) => {
  const { client, socket, advance, received } = await startClient(t);
  socket().readyState = 1;
  socket().onopen();
  await advance(999);
  assert.deepEqual(socket().sent, []);
  await advance(1);
  assert.equal(socket().takeSent("presence").length, 1);
  socket().deliver({ type: "error", payload: { code: "unauthorized", message: "send your token first" } });
  assert.deepEqual(client.state, { name: "closed", code: 4001, reason: "the server requires a token" });
  assert.deepEqual(received("error"), []);
});

test("a slow welcome is waited for", async (t) => {
  const { client, socket, advance, received } = await startClient(t);
  socket().readyState = 1;
  socket().onopen();
  await advance(1_000);
  const [{ id }] = socket().takeSent("presence");
  const refusal = { type: "error", id, payload: { code: "not_in_room", message: "join it first" } };
  socket().deliver(refusal);
  assert.equal(client.state.name, "connecting");
  socket().welcome();
  assert.equal(client.state.name, "open");
  socket().deliver(refusal);
  assert.deepEqual(received("error"), [], "the program did not ask");
});

test("an empty token is not sent", async (t) => {
  for (const token of ["", undefined, null, () => "", async () => undefined]) {
    const { client, socket } = await startClient(t, { token });
    assert.equal(socket().url.searchParams.has("token"), false);
    socket().welcome();
    assert.equal(await outcome(client.authenticate()), "no_token");
    assert.deepEqual(socket().takeSent("auth"), []);
    client.close();
    t.mock.timers.reset();
  }
});
