"""Runs a real Caddy on a free port of 127.0.0.1, for one `with` block."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from server import DEADLINE_SECONDS, stop

DEPLOYED_CONFIG = pathlib.Path(__file__).resolve().parents[2] / "assets/deploy/Caddyfile"


def find_program():
    """Returns the path of caddy, or None."""
    return shutil.which("caddy")


def deployed_config(*nodes):
    """Returns assets/deploy/Caddyfile with these nodes ("127.0.0.1:PORT")."""
    config, count = re.subn(
        r"^\treverse_proxy [\d.:]+ [\d.:]+ \{", f"\treverse_proxy {' '.join(nodes)} {{", DEPLOYED_CONFIG.read_text(), flags=re.M
    )
    if count != 1:
        raise RuntimeError(f"{DEPLOYED_CONFIG} has no list of nodes that this test knows")
    return config


class Caddy:
    """One Caddy process: `with Caddy(config) as proxy: proxy.port`. The name of the site is replaced by a free port."""

    def __init__(self, config):
        self.config = config

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self._folder.name)
        # Caddy cannot inherit a socket, so another process may take the port in between: then the next one is tried.
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.port = listener.getsockname()[1]
            # Without TLS, certificates and the port of Caddy's own interface.
            config = self.config.replace("chat.example.com {", f"http://:{self.port} {{\n\tbind 127.0.0.1")
            config = config.replace("\n{\n", "\n{\n\tadmin off\n\tauto_https off\n", 1)
            (folder / "Caddyfile").write_text(config)
            self._log = (folder / "log").open("w+")
            self.process = subprocess.Popen(
                [find_program(), "run", "--config", str(folder / "Caddyfile")],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
            )
            if self._serves(end):
                return self
            if time.monotonic() > end:
                raise RuntimeError(f"caddy does not start: {self.log()}")

    def _serves(self, end):
        """Waits until the port accepts connections. False if the process has ended instead."""
        while self.process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), DEADLINE_SECONDS).close()
                return True
            except ConnectionRefusedError:
                time.sleep(0.02)
        stop(self.process)
        return False

    def __exit__(self, *_):
        # Its graceful end would wait for open WebSockets.
        self.process.kill()
        self.process.wait()
        self._log.close()
        self._folder.cleanup()

    def log(self):
        """Returns the log, to explain a failed test."""
        self._log.flush()
        return pathlib.Path(self._log.name).read_text(errors="replace")
