"""The documented HTTP interface, asked with curl, against the real binary."""

import json
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from server import DEADLINE_SECONDS, Certificate, Server


class Answer:
    """What curl got: `status`, `headers` (names in lower case) and `body`."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)


def curl(*arguments):
    """curl's own output; a failure of curl's is one of the test."""
    command = [shutil.which("curl") or "curl", "-sS", "--noproxy", "*"]
    command += ["--max-time", str(DEADLINE_SECONDS), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise AssertionError(f"{command} exited {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


class HttpInterface(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags())
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__)

    @classmethod
    def flags(cls):
        return ()

    def ask(self, path, *arguments):
        output = curl("-i", *arguments, self.server.http + path)
        head, body = output.split("\r\n\r\n", 1)
        status, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Answer(int(status.split()[1]), {k.lower(): v for k, v in headers.items()}, body)

    def assert_json(self, answer):
        self.assertEqual(answer.headers["content-type"].split(";")[0], "application/json")
        return answer.json()

    def assert_error(self, answer, status):
        self.assertEqual(answer.status, status)
        error = self.assert_json(answer)["error"]
        self.assertIsInstance(error["code"], str)
        self.assertIsInstance(error["message"], str)

    def test_health_as_documented(self):
        health = json.loads(curl(self.server.http + "/health"))

        self.assertEqual(health["status"], "healthy")
        self.assertEqual(health["connected_clients"], 0)
        self.assertIsInstance(health["message"], str)
        self.assertIsInstance(health["version"], str)
        self.assertGreaterEqual(health["uptime_seconds"], 0)
        self.assert_json(self.ask("/health"))

    def test_stats_as_documented(self):
        stats = json.loads(curl(self.server.http + "/stats"))

        self.assertEqual(stats["connected_clients"], 0)
        self.assertAlmostEqual(stats["server_time"], time.time(), delta=60)
        self.assert_json(self.ask("/stats"))

    def test_every_origin_may_read_every_answer(self):
        for path in ["/", "/health", "/stats", "/nope"]:
            for origin in [(), ("-H", "Origin: https://elsewhere.example")]:
                with self.subTest(path=path, origin=origin):
                    answer = self.ask(path, *origin)
                    self.assertEqual(answer.headers["access-control-allow-origin"], "*")

    def test_a_preflight_is_allowed(self):
        answer = self.ask(
            "/health",
            *("-X", "OPTIONS"),
            *("-H", "Origin: https://elsewhere.example"),
            *("-H", "Access-Control-Request-Method: GET"),
        )

        self.assertIn(answer.status, (200, 204))
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        self.assertIn("GET", answer.headers["access-control-allow-methods"])

    def test_the_page_is_html_and_its_files_are_served(self):
        page = self.ask("/")

        self.assertEqual(page.status, 200)
        self.assertEqual(page.headers["content-type"].split(";")[0], "text/html")
        self.assertRegex(page.body, r"(?i)^\s*<!doctype html>")
        files = re.findall(r"""(?:src|href)=["'](/?assets/[^"']+)["']""", page.body)
        self.assertTrue(files, "the page names its style and its script")
        kinds = {"css": "text/css", "js": "text/javascript"}
        for file in files:
            with self.subTest(file=file):
                answer = self.ask("/" + file.lstrip("/"))
                self.assertEqual(answer.status, 200)
                ending = file.rsplit(".", 1)[-1]
                if ending in kinds:
                    self.assertEqual(answer.headers["content-type"].split(";")[0], kinds[ending])

    def test_head_is_get_without_the_body(self):
        for path in ["/", "/health", "/stats"]:
            with self.subTest(path=path):
                get, head = self.ask(path), self.ask(path, "-I")
                self.assertEqual(head.status, 200)
                self.assertEqual(head.body, "")
                self.assertEqual(head.headers["content-type"], get.headers["content-type"])
        self.assertEqual(self.ask("/", "-I").headers["content-length"], str(len(self.ask("/").body.encode())))

    def test_the_socket_asks_for_an_upgrade(self):
        answer = self.ask("/ws")

        self.assert_error(answer, 426)
        self.assertEqual(answer.headers["upgrade"].lower(), "websocket")

    def test_there_is_nothing_elsewhere(self):
        for path in ["/nope", "/assets/nope", "/assets/../Cargo.toml", "/echo"]:
            with self.subTest(path=path):
                self.assert_error(self.ask(path, "--path-as-is"), 404)

    def test_a_method_that_is_not_allowed_is_told_which_are(self):
        answer = self.ask("/health", "-X", "POST", "-d", "x")

        self.assert_error(answer, 405)
        allowed = {method.strip() for method in answer.headers["allow"].split(",")}
        self.assertLessEqual({"GET", "HEAD"}, allowed)
        self.assertNotIn("POST", allowed)

    def test_one_connection_serves_many_requests(self):
        urls = [self.server.http + path for path in ["/health", "/nope", "/stats", "/"]]
        outputs = [part for url in urls for part in ("-o", "/dev/null", url)]

        connections = curl("-w", "%{num_connects} ", *outputs).split()

        self.assertEqual(connections, ["1", "0", "0", "0"])


class HttpInterfaceOverTls(HttpInterface):
    """The same, with https."""

    @classmethod
    def flags(cls):
        cls.certificate = Certificate().__enter__()
        cls.addClassCleanup(cls.certificate.__exit__)
        return cls.certificate.flags

    def test_both_versions_are_spoken_and_older_ones_are_not(self):
        for version in ["1.2", "1.3"]:
            health = curl("--tlsv" + version, "--tls-max", version, self.server.http + "/health")
            self.assertEqual(json.loads(health)["status"], "healthy")
        with self.assertRaises(AssertionError):
            curl("--tlsv1.0", "--tls-max", "1.1", self.server.http + "/health")

    def test_who_wants_to_negotiate_again_is_refused(self):
        address = f"127.0.0.1:{self.server.port}"
        command = ["openssl", "s_client", "-connect", address, "-tls1_2"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, **pipes) as client:
            client.stdin.write(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
            client.stdin.flush()
            answer = b""
            while b"healthy" not in answer:
                answer += client.stdout.read1() or self.fail(answer)
            # What s_client takes for a command.
            said = client.communicate(b"R\n", timeout=DEADLINE_SECONDS)[0]

        self.assertIn(b"no renegotiation", said)
        self.assertEqual(json.loads(curl(self.server.http + "/health"))["status"], "healthy")

    def test_plain_http_is_told_what_to_do(self):
        answer = json.loads(curl(f"http://127.0.0.1:{self.server.port}/health"))

        self.assertEqual(answer["error"]["code"], "tls_required")


class HttpInterfaceByPath(unittest.TestCase):
    def test_curl_reaches_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/wscast.sock"
            with Server("--listen", "unix:" + path):
                health = curl("--unix-socket", path, "http://wscast/health")

        self.assertEqual(json.loads(health)["status"], "healthy")


if __name__ == "__main__":
    unittest.main()
