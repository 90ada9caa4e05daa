// Rooms with Bun's own server, which has µWebSockets inside: its topics do the fan-out.
//
//     bun_hub.js PORT

const WELCOME = '{"type":"message","payload":"welcome","from":"server"}';

const server = Bun.serve({
    hostname: "127.0.0.1",
    port: Number(process.argv[2]),
    fetch(request, server) {
        const room = new URL(request.url).searchParams.get("room") ?? "lobby";
        return server.upgrade(request, { data: { room } }) ? undefined : new Response(null, { status: 426 });
    },
    websocket: {
        open(socket) {
            socket.subscribe(socket.data.room);
            socket.send(WELCOME);
        },
        message(socket, message) {
            server.publish(socket.data.room, message);
        },
    },
});
