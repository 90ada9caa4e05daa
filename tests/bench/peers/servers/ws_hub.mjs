// Rooms with the package ws on Node: a loop over the room's sockets per message.
//
//     ws_hub.mjs PORT

import { WebSocketServer } from "ws";

const WELCOME = '{"type":"message","payload":"welcome","from":"server"}';
const rooms = new Map();

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
server.on("connection", (socket, request) => {
    const name = new URL(request.url, "http://localhost").searchParams.get("room") ?? "lobby";
    let members = rooms.get(name);
    if (!members) {
        rooms.set(name, (members = new Set()));
    }
    members.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => {
        members.delete(socket);
        if (members.size === 0 && rooms.get(name) === members) {
            rooms.delete(name);
        }
    });
    socket.on("message", (data) => {
        for (const member of members) {
            member.send(data, { binary: false });
        }
    });
    socket.send(WELCOME);
});
