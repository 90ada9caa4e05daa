"""Runs a real nginx on free ports of 127.0.0.1, for one `with` block."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

from server import stop

DEPLOYED_CONFIG = pathlib.Path(__file__).resolve().parents[2] / "assets/deploy/nginx.conf"

STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
"""The stream module of Debian. In other builds it is often a part of the program."""

LISTEN_DIRECTIVE = re.compile(r"\blisten\s+(?:127\.0\.0\.1:)?(\d+)\b")

TEMPORARY_FOLDERS = "".join(
    f"{name}_temp_path {name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


def find_program():
    """Returns the path of nginx, or None. Debian has it in a folder that is often not on a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def deployed_config(*nodes):
    """Returns assets/deploy/nginx.conf with these nodes ("127.0.0.1:PORT") in its upstream."""
    config = DEPLOYED_CONFIG.read_text()
    servers = "".join(f"server {node} max_fails=0;\n" for node in nodes)
    config, count = re.subn(r"(?:^ *server [\d.:]+ max_fails=0;\n)+", servers, config, flags=re.MULTILINE)
    if count != 1:
        raise RuntimeError(f"{DEPLOYED_CONFIG} has no list of servers that this test knows")
    # Logs go to the scratch folder. The limit of descriptors is that of this process.
    config = config.replace("/var/log/nginx/", "")
    return re.sub(r"^worker_rlimit_nofile .*\n", "", config, flags=re.MULTILINE)


class Nginx:
    """One nginx process: `with Nginx(config) as nginx: nginx.ports[80]`.

    `config` is a complete configuration with `http`, `stream` or both. Each port that it listens on is replaced by
    a free one; `ports` maps the former to the latter.
    """

    def __init__(self, config):
        self.config = config
        self.ports = {}
        self.process = None

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        # nginx inherits listening sockets through the variable NGINX, as it does when it replaces its own binary.
        # So no other process can take the port in between, and clients can connect before nginx is ready.
        sockets = {}

        def with_free_port(directive):
            port = int(directive[1])
            if port not in sockets:
                sockets[port] = socket.create_server(("127.0.0.1", 0))
                self.ports[port] = sockets[port].getsockname()[1]
            return f"listen 127.0.0.1:{self.ports[port]}"

        without_comments = re.sub(r"^\s*#.*\n", "", self.config, flags=re.MULTILINE)
        config = LISTEN_DIRECTIVE.sub(with_free_port, without_comments)
        config = re.sub(r"^http \{", "http {\n" + TEMPORARY_FOLDERS, config, flags=re.MULTILINE)
        if re.search(r"^stream \{", config, re.MULTILINE) and STREAM_MODULE.exists():
            config = f"load_module {STREAM_MODULE};\n" + config
        if os.geteuid() == 0:
            # Otherwise the workers run as another user, who may not enter the scratch folder.
            config = "user root;\n" + config
        config = f"daemon off;\npid nginx.pid;\n{config}"
        folder = pathlib.Path(self._folder.name)
        (folder / "nginx.conf").write_text(config)
        self._log = (folder / "start.log").open("w+")
        descriptors = [listener.fileno() for listener in sockets.values()]
        self.process = subprocess.Popen(
            [find_program(), "-e", "stderr", "-p", self._folder.name, "-c", "nginx.conf"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=descriptors,
            env={**os.environ, "NGINX": "".join(f"{descriptor};" for descriptor in descriptors)},
        )
        # From now on only nginx holds the sockets. If it does not start, connections are refused.
        for listener in sockets.values():
            listener.close()
        return self

    def __exit__(self, *_):
        stop(self.process)
        self._log.close()
        self._folder.cleanup()

    def log(self):
        """Returns all logs, to explain a failed test."""
        files = sorted(pathlib.Path(self._folder.name).glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text(errors='replace')}" for file in files)
