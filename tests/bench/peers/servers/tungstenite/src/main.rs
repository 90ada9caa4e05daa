//! Rooms with tokio-tungstenite: two tasks and an unbounded channel per client, like the crate's server example.
//!
//! ```text
//! tungstenite-hub PORT
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const WELCOME: &str = r#"{"type":"message","payload":"welcome","from":"server"}"#;

type Members = HashMap<u64, UnboundedSender<Message>>;
type Rooms = Arc<Mutex<HashMap<String, Members>>>;

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .expect("a free port");
    let rooms = Rooms::default();
    for id in 0.. {
        if let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, id, Arc::clone(&rooms)));
        }
    }
}

/// Relays one client's messages. An error only ends this client.
async fn serve(socket: TcpStream, id: u64, rooms: Rooms) {
    let _ = socket.set_nodelay(true);
    let mut room = "lobby".to_owned();
    // The error type is the one of the crate.
    #[allow(clippy::result_large_err)]
    let read_room = |request: &Request, response: Response| {
        let query = request.uri().query().unwrap_or_default();
        let name = query.split('&').find_map(|pair| pair.strip_prefix("room="));
        if let Some(name) = name {
            room = name.to_owned();
        }
        Ok(response)
    };
    let Ok(stream) = accept_hdr_async(socket, read_room).await else {
        return;
    };
    let (mut write, mut read) = stream.split();
    let (sender, mut queue) = unbounded_channel();
    // The receiver still exists.
    let _ = sender.send(Message::text(WELCOME));
    with_members(&rooms, &room, |members| members.insert(id, sender));
    let writer = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if write.send(message).await.is_err() {
                break;
            }
        }
    });
    while let Some(Ok(message)) = read.next().await {
        match message {
            Message::Text(_) => with_members(&rooms, &room, |members| {
                for member in members.values() {
                    // A member whose writer has ended is about to leave.
                    let _ = member.send(message.clone());
                }
            }),
            Message::Close(_) => break,
            _ => {}
        }
    }
    with_members(&rooms, &room, |members| members.remove(&id));
    let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
    if rooms.get(&room).is_some_and(HashMap::is_empty) {
        rooms.remove(&room);
    }
    drop(rooms);
    writer.abort();
}

fn with_members<T>(rooms: &Rooms, room: &str, act: impl FnOnce(&mut Members) -> T) -> T {
    let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
    act(rooms.entry(room.to_owned()).or_default())
}
