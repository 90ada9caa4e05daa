"""Tests of Python clients of the original protocol, which use the `websockets` package, against the real binary."""

import asyncio
import json
import pathlib
import sys
import unittest
import urllib.request

import websockets

import runner
from server import DEADLINE_SECONDS, Certificate, Server

ORIGINAL_TYPES = {"message", "custom_event"}


class Client:
    """A WebSocket client. A wait that takes too long fails the test."""

    def __init__(self, websocket):
        self.websocket = websocket

    async def send(self, kind, payload, **fields):
        await self.send_text(json.dumps({"type": kind, "payload": payload, **fields}))

    async def send_text(self, text):
        await self.websocket.send(text)

    async def text(self):
        return await within_deadline(self.websocket.recv())

    async def frame(self):
        return json.loads(await self.text())

    async def frames_until(self, payload):
        """Returns the frames up to and including the one with this payload."""
        frames = []
        while not frames or frames[-1]["payload"] != payload:
            frames.append(await self.frame())
        return frames

    async def close_code(self):
        """Reads until the connection closes and returns the close code."""
        close = await self.close_frame()
        return close.code if close else None

    async def close_frame(self):
        """Reads until the connection closes and returns the Close frame; None if there was none."""
        while True:
            try:
                await self.text()
            except websockets.ConnectionClosed as closed:
                return closed.rcvd


async def within_deadline(awaitable):
    return await asyncio.wait_for(awaitable, DEADLINE_SECONDS)


class OriginalProtocol(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.server = Server(*self.flags()).__enter__()
        self.addCleanup(self.server.__exit__)

    def flags(self):
        return ()

    async def connect(self, **options):
        """Connects a client and reads its welcome."""
        client = await self.connect_without_reading(**options)
        await client.frame()
        return client

    async def connect_without_reading(self, **options):
        websocket = await within_deadline(websockets.connect(self.server.ws, **options))
        self.addAsyncCleanup(websocket.close)
        return Client(websocket)

    async def connected_clients(self):
        def fetch():
            with urllib.request.urlopen(self.server.http + "/stats", timeout=DEADLINE_SECONDS) as response:
                return json.load(response)["connected_clients"]

        return await asyncio.to_thread(fetch)

    async def test_documented_client_runs_unchanged(self):
        script = pathlib.Path(__file__).with_name("original_client.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, self.server.ws, stdout=asyncio.subprocess.PIPE
        )
        self.addCleanup(lambda: process.returncode is None and process.kill())

        frames = [json.loads(await within_deadline(process.stdout.readline())) for _ in range(3)]

        welcome, greeting, event = frames
        self.assertEqual(welcome["type"], "message")
        self.assertIsInstance(welcome["payload"], str)
        self.assertEqual(greeting["type"], "message")
        self.assertEqual(greeting["payload"], "Good morning from Python")
        self.assertEqual(event["type"], "custom_event")
        self.assertEqual(event["payload"], {"action": "wave", "data": "with both hands"})
        # Close code 1001 ends `async for` without an exception, so the script exits with 0.
        self.server.terminate()
        self.assertEqual(await within_deadline(process.wait()), 0)

    async def test_welcome_is_the_first_frame_and_needs_no_request(self):
        client = await self.connect_without_reading()

        welcome = await client.frame()

        self.assertEqual(welcome["type"], "message")
        self.assertIsInstance(welcome["payload"], str)
        self.assertTrue(welcome["payload"])

    async def test_client_receives_its_own_messages(self):
        client = await self.connect()

        for kind in sorted(ORIGINAL_TYPES):
            for payload in ["你好, 🌍", {"a": [1, 2.5, None, True], "b": {}}, [], 0, False, None, ""]:
                with self.subTest(kind=kind, payload=payload):
                    await client.send(kind, payload)
                    frame = await client.frame()
                    self.assertEqual((frame["type"], frame["payload"]), (kind, payload))

    async def test_clients_receive_each_others_messages(self):
        alice, bob = await self.connect(), await self.connect()

        await alice.send("message", "hello from alice")
        self.assertEqual((await bob.frame())["payload"], "hello from alice")
        self.assertEqual((await alice.frame())["payload"], "hello from alice")

        await bob.send("custom_event", {"from": "bob"})
        for client in (alice, bob):
            frame = await client.frame()
            self.assertEqual((frame["type"], frame["payload"]), ("custom_event", {"from": "bob"}))

    async def test_messages_arrive_in_the_order_sent(self):
        alice, bob = await self.connect(), await self.connect()

        for number in range(200):
            await alice.send("message", number)

        for client in (alice, bob):
            received = [(await client.frame())["payload"] for _ in range(200)]
            self.assertEqual(received, list(range(200)))

    async def test_payload_is_relayed_byte_for_byte(self):
        alice, bob = await self.connect(), await self.connect()

        for payload in [
            r'{"n":1.0e400,"s":"\ud83d\ude00"}',
            r'{"b":1,"a":2,"b":3}',
            r"12345678901234567890.10",
            r'"\u00e9\/\u0000 é"',
            r'"\ud83d"',
        ]:
            with self.subTest(payload=payload):
                await alice.send_text('{"type":"message","payload":' + payload + "}")
                for client in (alice, bob):
                    self.assertIn('"payload":' + payload, await client.text())

    async def test_client_of_the_original_protocol_receives_no_newer_types(self):
        plain = await self.connect()

        newer = await self.connect()
        for kind, fields in [
            ("join", {"room": "lobby", "presence": True}),
            ("join", {"room": "other", "presence": True}),
            ("presence", {"room": "lobby"}),
            ("history", {"room": "lobby"}),
            ("ping", {}),
            ("leave", {"room": "other"}),
            ("leave", {"room": "lobby"}),
        ]:
            await newer.send_text(json.dumps({"type": kind, "id": kind, **fields}))
        await newer.send_text('{"type":"ping","id":"last request"}')
        while (await newer.frame()).get("id") != "last request":
            pass
        await newer.websocket.close()
        dropped = await self.connect()
        dropped.websocket.transport.abort()
        later = await self.connect()
        await later.send("custom_event", "marker")

        frames = await plain.frames_until("marker")

        self.assertEqual([frame["type"] for frame in frames], ["custom_event"])

    async def test_invalid_message_gets_an_error_and_the_connection_stays_open(self):
        alice, bob = await self.connect(), await self.connect()

        for text in [
            "not json",
            "",
            "[]",
            "null",
            '{"type":"message"',
            '{"payload":"no type"}',
            '{"type":"no such type","payload":1}',
        ]:
            with self.subTest(text=text):
                await alice.send_text(text)
                frame = await alice.frame()
                self.assertEqual(frame["type"], "error")
                self.assertIsInstance(frame["payload"]["code"], str)
                self.assertIsInstance(frame["payload"]["message"], str)

        await alice.send("message", "still here")
        self.assertEqual((await alice.frame())["payload"], "still here")
        self.assertEqual((await bob.frame())["payload"], "still here", "bob received the error of alice")

    async def test_page_of_any_origin_may_connect(self):
        client = await self.connect(origin="https://other.example")

        await client.send("message", "from another origin")

        self.assertEqual((await client.frame())["payload"], "from another origin")

    async def test_page_reads_why_it_may_not_connect_and_a_program_reads_the_response(self):
        cases = [("?since=None", "`since` must be a whole number"), ("?room[]=a", "write `room`"), ("?room=a/b", "U+002F")]
        for query, reason in cases:
            connecting = websockets.connect(self.server.ws + query, origin="https://elsewhere.example", subprotocols=["json"])
            page = Client(await within_deadline(connecting))
            self.assertEqual(page.websocket.subprotocol, "json")
            close = await page.close_frame()
            self.assertEqual(close.code, 4000, query)
            self.assertIn(reason, close.reason)
            with self.assertRaises(websockets.InvalidStatus) as refused:
                await within_deadline(websockets.connect(self.server.ws + query))
            self.assertEqual(refused.exception.response.status_code, 400)
            self.assertIn(reason, json.loads(refused.exception.response.body)["error"]["message"])

    async def test_server_chooses_a_subprotocol(self):
        cases = [
            (["wscast"], "wscast"),
            (["json", "wscast"], "wscast"),
            (["v2.json", "json"], "v2.json"),
            (["wscast", "wscast.token.a.b.c"], "wscast"),
            (None, None),
        ]
        for offers, chosen in cases:
            client = await self.connect(subprotocols=offers)
            self.assertEqual(client.websocket.subprotocol, chosen)

    async def test_ping_is_answered(self):
        client = await self.connect()

        pong = await client.websocket.ping(b"are you there")

        await within_deadline(pong)

    async def test_disconnected_clients_are_forgotten_and_others_stay_connected(self):
        staying, leaving, dropped = [await self.connect() for _ in range(3)]
        self.assertEqual(await self.connected_clients(), 3)

        await leaving.websocket.close()
        dropped.websocket.transport.abort()

        async def one_client_left():
            while await self.connected_clients() != 1:
                pass

        await within_deadline(one_client_left())
        await staying.send("message", "anyone?")
        self.assertEqual((await staying.frame())["payload"], "anyone?")

    async def test_sigterm_closes_every_connection_with_1001(self):
        clients = [await self.connect() for _ in range(5)]

        self.server.terminate()

        for client in clients:
            self.assertEqual(await client.close_code(), 1001)
        self.assertEqual(self.server.exit_code(), 0)


class OriginalProtocolOverTls(OriginalProtocol):
    """The same tests over wss."""

    def flags(self):
        certificate = Certificate().__enter__()
        self.addCleanup(certificate.__exit__)
        return certificate.flags


if __name__ == "__main__":
    runner.main()
