//! One client's conversation: requests are understood, answered or handed on, in order.

use std::sync::Arc;

use crate::app::App;
use crate::broadcaster::{Event, RoomStream};
use crate::broker::Publish as BrokerPublish;
use crate::metrics::GaugeGuard;
use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, ClientMessage, CloseCode, ErrorCode, Publish, Refusal, Request, RequestId, RoomName,
    ServerMessage,
};

use super::Upgraded;
use super::transport::{End, Incoming, Transport};

pub(super) fn serve(upgraded: Upgraded, rooms: Vec<Arc<RoomStream>>, app: &App) {
    let Upgraded {
        client,
        peer,
        socket,
        rest,
    } = upgraded;
    let metrics = Arc::clone(&app.metrics);
    let outbox = Outbox::new(client, socket, app.outbox_limits(), metrics);
    let Ok(mut transport) = Transport::new(rest, Arc::clone(&outbox), app) else {
        return;
    };
    // Shutdown waits for it, so it is held until the socket is done with.
    let _slot = app.sessions.take();
    log::debug!("{client} {peer} connected");
    let mut session = Session::begin(app, Arc::clone(&outbox), rooms);
    let end = session.converse(&mut transport);
    log::debug!("{client} {peer} disconnected: {}", session.reason(end));
    drop(session);
    if end != End::Gone {
        transport.linger();
    }
    outbox.abort();
}

/// What a client's thread knows of it; the members themselves are the broadcaster's.
struct Session<'a> {
    app: &'a App,
    client: ClientId,
    outbox: Arc<Outbox>,
    /// In the order joined: the first is where a message without a room goes.
    rooms: Vec<Arc<RoomStream>>,
    _counted: GaugeGuard,
}

impl<'a> Session<'a> {
    fn begin(app: &'a App, outbox: Arc<Outbox>, rooms: Vec<Arc<RoomStream>>) -> Self {
        let session = Self {
            app,
            client: outbox.client(),
            outbox: Arc::clone(&outbox),
            rooms: rooms.clone(),
            _counted: app.metrics.clients.hold(),
        };
        app.metrics.handshakes.add(1);
        app.broadcaster.send(Event::Connect { outbox, rooms });
        session
    }

    fn converse(&mut self, transport: &mut Transport) -> End {
        loop {
            match transport.next() {
                Incoming::Text(text) => self.request(text.as_str()),
                Incoming::Binary(_) => {
                    let message = "send text; binary frames are not relayed";
                    self.refuse(None, &Refusal::new(ErrorCode::BinaryUnsupported, message));
                }
                Incoming::End(end) => {
                    self.say_why(end);
                    return end;
                }
            }
        }
    }

    fn say_why(&self, end: End) {
        match end {
            End::Failed(code) => {
                if code == CloseCode::TooBig {
                    let most = self.app.config.limits.max_message_bytes;
                    let message = format!("a message may have at most {most} bytes");
                    self.refuse(None, &Refusal::new(ErrorCode::MessageTooLarge, message));
                }
                self.outbox.close(code);
            }
            End::Silent => {
                self.app.metrics.silent.add(1);
                self.outbox.close(CloseCode::GoingAway);
            }
            End::ClosedByClient | End::ClosedByServer | End::Gone => {}
        }
    }

    fn reason(&self, end: End) -> String {
        match (self.outbox.closing(), end) {
            (Some(code), End::Silent) => format!("{} silent after a ping", code.number()),
            (Some(code), _) => format!("{} {}", code.number(), code.reason()),
            (None, End::ClosedByClient) => "closed by the client".to_owned(),
            (None, _) => "the socket ended without a close".to_owned(),
        }
    }

    fn request(&mut self, text: &str) {
        self.app.metrics.requests.add(1);
        match ClientMessage::parse(text) {
            Ok(Request { id, message }) => {
                if let Err(refusal) = self.act(message, id.clone()) {
                    self.refuse(id.as_ref(), &refusal);
                }
            }
            Err(refused) => self.refuse(refused.id.as_ref(), &refused.refusal),
        }
    }

    fn refuse(&self, id: Option<&RequestId>, refusal: &Refusal) {
        self.app.metrics.requests_refused.add(1);
        self.outbox
            .push(&ServerMessage::Error(refusal).to_frames(id));
    }

    /// `Err` is answered by the caller; every `Ok` has been or will be answered once by whoever took
    /// the request on.
    fn act(&mut self, message: ClientMessage<'_>, id: Option<RequestId>) -> Result<(), Refusal> {
        match message {
            ClientMessage::Publish(publish) => self.publish(publish, id),
            ClientMessage::Join { room, presence } => self.join(room, presence, id),
            ClientMessage::Leave { room } => self.leave(room, id),
            ClientMessage::Presence { room } => {
                self.joined(&room)?;
                let client = self.client;
                self.app
                    .broadcaster
                    .send(Event::Presence { client, room, id });
                Ok(())
            }
            ClientMessage::Ping => {
                self.outbox
                    .push(&ServerMessage::Pong.to_frames(id.as_ref()));
                Ok(())
            }
        }
    }

    fn publish(&self, publish: Publish<'_>, id: Option<RequestId>) -> Result<(), Refusal> {
        let stream = match &publish.room {
            Some(room) => self.joined(room)?,
            None => self.rooms.first().ok_or_else(not_in_any_room)?,
        };
        let publish = BrokerPublish {
            stream: Arc::clone(stream),
            from: self.client,
            kind: publish.kind,
            payload: publish.payload.into(),
            id,
            answer: Arc::clone(&self.outbox),
        };
        self.app.broker.publish(publish).map_err(Refusal::from)
    }

    fn join(
        &mut self,
        room: RoomName,
        presence: bool,
        id: Option<RequestId>,
    ) -> Result<(), Refusal> {
        let stream = match self.joined(&room) {
            Ok(stream) => Arc::clone(stream),
            Err(_) => {
                let most = self.app.config.limits.max_rooms_per_connection;
                if self.rooms.len() >= most {
                    let message = format!("leave a room first; a connection may join {most}");
                    return Err(Refusal::new(ErrorCode::TooManyRooms, message));
                }
                let stream = self.app.broker.open(&room)?;
                self.rooms.push(Arc::clone(&stream));
                stream
            }
        };
        let client = self.client;
        self.app.broadcaster.send(Event::Join {
            client,
            stream,
            presence,
            id,
        });
        Ok(())
    }

    fn leave(&mut self, room: RoomName, id: Option<RequestId>) -> Result<(), Refusal> {
        self.joined(&room)?;
        self.rooms.retain(|stream| *stream.name() != room);
        self.app.broadcaster.send(Event::Leave {
            client: self.client,
            room,
            id,
        });
        Ok(())
    }

    fn joined(&self, room: &RoomName) -> Result<&Arc<RoomStream>, Refusal> {
        let stream = self.rooms.iter().find(|stream| stream.name() == room);
        stream.ok_or_else(|| {
            Refusal::new(
                ErrorCode::NotInRoom,
                format!("you are not in {room}; join it first"),
            )
        })
    }
}

fn not_in_any_room() -> Refusal {
    Refusal::new(ErrorCode::NotInRoom, "you are in no room; join one first")
}

/// The end of a session, however it came: the broadcaster forgets the client first, so that nothing
/// more is sent to it, then whoever counts it does.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.app.broadcaster.send(Event::Disconnect {
            client: self.client,
        });
    }
}
