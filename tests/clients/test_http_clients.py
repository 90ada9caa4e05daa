"""Tests of Python's HTTP libraries against the real binary: bodies in chunks, and clients of event streams."""

import http.client
import importlib.util
import json
import pathlib
import threading
import unittest

import requests
import sseclient  # the package of sseclient-py

import runner
from server import DEADLINE_SECONDS, Server

MESSAGES = "/rooms/ops/messages"
EVENTS = "/rooms/ops/events"
JSON = {"Content-Type": "application/json"}


def reconnecting_client():
    """Returns the class of the package `sseclient`, whose module the package of sseclient-py hides."""
    path = pathlib.Path(sseclient.__file__).parent.parent / "sseclient.py"
    spec = importlib.util.spec_from_file_location("reconnecting_sseclient", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SSEClient


class HttpClients(unittest.TestCase):
    FLAGS = ()

    def setUp(self):
        self.server = Server(*self.FLAGS)
        self.server.__enter__()
        self.addCleanup(self.server.__exit__)

    def session(self):
        session = requests.Session()
        session.trust_env = False
        self.addCleanup(session.close)
        return session

    def publish(self, payload):
        message = {"type": "message", "payload": payload}
        response = self.session().post(self.server.http + MESSAGES, json=message, timeout=DEADLINE_SECONDS)
        self.assertEqual(response.status_code, 201, response.text)

    def payloads(self):
        page = self.session().get(self.server.http + MESSAGES, timeout=DEADLINE_SECONDS).json()
        return [message["payload"] for message in page["messages"]]

    def stream(self, **headers):
        headers = {"Accept": "text/event-stream", **headers}
        response = self.session().get(
            self.server.http + EVENTS, headers=headers, stream=True, timeout=DEADLINE_SECONDS
        )
        self.addCleanup(response.close)
        return response


class ChunkedBodies(HttpClients):
    def test_requests_sends_what_a_generator_yields(self):
        def parts(payload):
            yield b'{"type":"message","payload":'
            for part in json.dumps(payload).encode():
                yield bytes([part])
            yield b"}"

        session = self.session()
        payloads = ["short", {"deep": ["你好", 1.5]}, "x" * 2000]
        for payload in payloads:
            response = session.post(
                self.server.http + MESSAGES, data=parts(payload), headers=JSON, timeout=DEADLINE_SECONDS
            )
            self.assertEqual(response.status_code, 201, response.text)
        self.assertEqual(self.payloads(), payloads)

    def test_http_client_sends_an_iterable_and_the_connection_goes_on(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=DEADLINE_SECONDS)
        self.addCleanup(connection.close)
        for number in range(3):
            body = [b'{"type":"message",', b'"payload":', str(number).encode(), b"}"]
            connection.request("POST", MESSAGES, body=iter(body), headers=JSON, encode_chunked=True)
            response = connection.getresponse()
            self.assertEqual((response.status, json.loads(response.read())["offset"]), (201, number + 1))
        self.assertEqual(self.payloads(), [0, 1, 2])

    def test_body_over_the_limit_is_413(self):
        def endless():
            yield b'{"type":"message","payload":"'
            while True:
                yield b"x" * 10_000

        # The server closes while the client still sends, so the client may see the end before the response.
        try:
            response = self.session().post(
                self.server.http + MESSAGES, data=endless(), headers=JSON, timeout=DEADLINE_SECONDS
            )
            self.assertEqual(response.status_code, 413)
        except requests.ConnectionError:
            pass
        self.assertEqual(self.session().get(self.server.http + "/health").status_code, 200)


class EventStreams(HttpClients):
    FLAGS = ("--max-members-per-room", "1")

    def test_sseclient_py_reads_messages_in_any_script(self):
        response = self.stream()
        self.assertEqual(response.encoding, "utf-8")
        events = sseclient.SSEClient(response).events()
        joined = next(events)
        self.assertEqual((joined.event, json.loads(joined.data)["recovered"]), ("joined", False))
        self.publish("你好, ðe")
        message = next(events)
        self.assertEqual(json.loads(message.data)["payload"], "你好, ðe")
        self.assertEqual(message.id, f"{json.loads(joined.data)['epoch']}-1")

    def test_sseclient_py_receives_the_reason_and_the_time_to_retry(self):
        with self.stream() as response:
            # Kept, because the stream is closed with its iterator.
            events = sseclient.SSEClient(response).events()
            next(events)
            refused = list(sseclient.SSEClient(self.stream()).events())
        self.assertEqual([event.event for event in refused], ["error"])
        self.assertEqual((json.loads(refused[0].data)["code"], int(refused[0].retry)), ("room_full", 2000))

    def test_sseclient_comes_back_until_there_is_room_and_misses_nothing(self):
        self.publish("first")
        holder = self.stream()
        events = sseclient.SSEClient(holder).events()
        next(events)
        client = reconnecting_client()(self.server.http + EVENTS, last_id="0", session=self.session())
        refused = next(client)
        self.assertEqual((refused.event, client.retry), ("error", 2000))
        holder.close()
        payloads = []
        timer = threading.Timer(DEADLINE_SECONDS, client.resp.close)
        timer.start()
        self.addCleanup(timer.cancel)
        while not payloads:
            event = next(client)
            if event.event == "message":
                payloads.append(json.loads(event.data)["payload"])
        self.addCleanup(client.resp.close)
        self.assertEqual(payloads, ["first"])


if __name__ == "__main__":
    runner.main()
