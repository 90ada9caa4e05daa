"""The design of the original server: Flask with flask-sock, a thread per client, and a loop over all clients per message.

    flask_hub.py PORT
"""

import json
import logging
import sys
import threading

from flask import Flask, request
from flask_sock import Sock

WELCOME = '{"type":"message","payload":"welcome","from":"server"}'

app = Flask(__name__)
sock = Sock(app)
rooms = {}
lock = threading.Lock()


@sock.route("/ws")
def relay(client):
    name = request.args.get("room", "lobby")
    with lock:
        rooms.setdefault(name, set()).add(client)
    try:
        client.send(WELCOME)
        while True:
            message = json.loads(client.receive())
            broadcast(name, json.dumps({"type": message["type"], "payload": message["payload"]}))
    finally:
        with lock:
            rooms[name].discard(client)
            if not rooms[name]:
                del rooms[name]


def broadcast(name, text):
    with lock:
        members = list(rooms[name])
    for member in members:
        try:
            member.send(text)
        except Exception:
            # Its own thread removes it.
            pass


if __name__ == "__main__":
    # A line per request would be a part of the cost.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run(host="127.0.0.1", port=int(sys.argv[1]), threaded=True)
