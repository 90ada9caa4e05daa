"""Starts the server and makes certificates for the Python tests. Both last for one `with` block."""

import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time

DEADLINE_SECONDS = 20
"""The longest that a test waits for anything."""

SOCKET_LINE = re.compile(r"\bwss?://127\.0\.0\.1:(\d+)/ws\b")


class Certificate:
    """A self-signed certificate for 127.0.0.1, in files that last for one `with` block.

    Inside the block, Python and curl trust it through variables of the environment.
    """

    VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE")

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.cert, self.key = (os.path.join(self._folder.name, name) for name in ("cert.pem", "key.pem"))
        # The command that assets/docs/deploy.md documents.
        subprocess.run(
            [
                *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365".split(),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", self.key, "-out", self.cert),
            ],
            check=True,
            capture_output=True,
        )
        self._before = {name: os.environ.get(name) for name in self.VARIABLES}
        os.environ.update(dict.fromkeys(self.VARIABLES, self.cert))
        return self

    def __exit__(self, *_):
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        self._folder.cleanup()

    @property
    def flags(self):
        return ("--tls-cert", self.cert, "--tls-key", self.key)


class Server:
    """One server process on a free port of 127.0.0.1: `with Server("--echo") as server: server.port`.

    WSCAST_BIN names the binary. An error at start or exit shows the server's log.
    """

    def __init__(self, *arguments):
        binary = os.environ.get("WSCAST_BIN")
        if not binary:
            raise RuntimeError("set WSCAST_BIN to the wscast binary, or run `make test-clients`")
        self.command = [binary, "--host", "127.0.0.1", "--port", "0", *arguments]
        self.secure = "s" if "--tls-cert" in arguments else ""
        self.process = None
        self.port = None

    def __enter__(self):
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment_without_settings(),
        )
        # A thread reads the pipe, because a read has no time-out. It also keeps the pipe from filling.
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()
        try:
            self.port = self._printed_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        stop(self.process)
        self._reader.join(DEADLINE_SECONDS)
        self.process.stdout.close()
        self._log.close()

    @property
    def http(self):
        return f"http{self.secure}://127.0.0.1:{self.port}"

    @property
    def ws(self):
        return f"ws{self.secure}://127.0.0.1:{self.port}/ws"

    def terminate(self):
        """Sends SIGTERM, as an init system does. Does not wait for the exit."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self):
        """Waits for the server to exit and returns its exit code."""
        try:
            return self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not exit; its log:\n{self.log()}") from None

    def log(self):
        # Without moving the offset at which the server writes, because both use one open file.
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    def _read_lines(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _printed_port(self):
        end = time.monotonic() + DEADLINE_SECONDS
        printed = []
        while True:
            try:
                line = self._lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(
                    f"{' '.join(self.command)} did not print its socket URL; "
                    f"it printed {''.join(printed)!r}, its log:\n{self.log()}"
                )
            printed.append(line)
            found = SOCKET_LINE.search(line)
            if found:
                return int(found[1])


def stop(process):
    """Asks a process to exit, and kills it if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment_without_settings():
    """Returns the environment without variables that the server reads as settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WSCAST_") and name not in ("HOST", "PORT")
    }
