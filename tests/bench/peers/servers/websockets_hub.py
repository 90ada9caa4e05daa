"""Rooms with the Python package websockets: asyncio, and its own `broadcast`.

    websockets_hub.py PORT
"""

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import broadcast, serve

WELCOME = '{"type":"message","payload":"welcome","from":"server"}'
rooms = {}


async def relay(client):
    query = parse_qs(urlsplit(client.request.path).query)
    name = query.get("room", ["lobby"])[0]
    members = rooms.setdefault(name, set())
    members.add(client)
    try:
        await client.send(WELCOME)
        async for message in client:
            broadcast(members, message)
    finally:
        members.discard(client)
        if not members:
            rooms.pop(name, None)


async def main():
    async with serve(relay, "127.0.0.1", int(sys.argv[1]), compression=None) as server:
        await server.serve_forever()


asyncio.run(main())
