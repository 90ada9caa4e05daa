"""A client of the original protocol, as the documentation of that protocol shows it.

    python3 original_client.py ws://localhost:5000/ws

It prints each frame as a line of JSON and exits when the server closes the connection.
"""

import asyncio
import json
import sys

import websockets


async def client(uri):
    async with websockets.connect(uri) as websocket:
        greeting = {"type": "message", "payload": "Good morning from Python"}
        await websocket.send(json.dumps(greeting))

        event = {"type": "custom_event", "payload": {"action": "wave", "data": "with both hands"}}
        await websocket.send(json.dumps(event))

        async for message in websocket:
            print(json.dumps(json.loads(message)), flush=True)


if __name__ == "__main__":
    asyncio.run(client(sys.argv[1]))
