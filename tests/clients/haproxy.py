"""Runs a real HAProxy on a free port of 127.0.0.1, for one `with` block."""

import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

from server import stop

DEPLOYED_CONFIG = pathlib.Path(__file__).resolve().parents[2] / "assets/deploy/haproxy.cfg"


def find_program():
    """Returns the path of haproxy, or None. Debian has it in a folder that is often not on a user's PATH."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


def deployed_config(*nodes):
    """Returns assets/deploy/haproxy.cfg with these nodes ("127.0.0.1:PORT") in its backend."""
    config = DEPLOYED_CONFIG.read_text()
    servers = "".join(f"    server node-{n} {node}\n" for n, node in enumerate(nodes))
    config, count = re.subn(r"(?:^    server \w+ [\d.:]+\n)+", servers, config, flags=re.MULTILINE)
    if count != 1:
        raise RuntimeError(f"{DEPLOYED_CONFIG} has no list of servers that this test knows")
    # The limit of descriptors is that of this process.
    return config.replace("maxconn 16384", "maxconn 1000")


class HAProxy:
    """One HAProxy process: `with HAProxy(config) as proxy: proxy.port`. The port of its `bind` is replaced by a free one."""

    def __init__(self, config):
        self.config = config

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self._folder.name) / "haproxy.cfg"
        self._log = (pathlib.Path(self._folder.name) / "log").open("w+")
        # HAProxy inherits the listening socket, so no other process can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            config, count = re.subn(r"^    bind :80$", f"    bind fd@{listener.fileno()}", self.config, flags=re.MULTILINE)
            if count != 1:
                raise RuntimeError("the configuration has no `bind :80`")
            path.write_text(config)
            self.process = subprocess.Popen(
                [find_program(), "-db", "-f", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[listener.fileno()],
            )
        return self

    def __exit__(self, *_):
        # SIGTERM ends it at once; its graceful end waits for open WebSockets.
        stop(self.process)
        self._log.close()
        self._folder.cleanup()

    def log(self):
        """Returns the log, to explain a failed test."""
        self._log.flush()
        return pathlib.Path(self._log.name).read_text(errors="replace")
