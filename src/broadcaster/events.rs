//! Everything the broadcaster can be told, in one closed enum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::outbox::Outbox;
use crate::protocol::{ClientId, CloseCode, Position, Publication, RequestId, RoomName, RoomState};

use crate::rooms::RoomNumbering;
use crate::rooms::{LocalMembers, RemoteMembers};

/// One thing for the broadcaster to do; taken in the order sent.
#[derive(Debug)]
pub enum Event {
    /// A stored message goes to its room's members. Offsets of a room come in order.
    Deliver {
        /// The room's numbering.
        stream: Arc<RoomNumbering>,
        /// The message.
        publication: Arc<Publication>,
    },
    /// A client is there that has yet to say who it is: it can be closed, and nothing else.
    Await {
        /// Where its frames go.
        outbox: Arc<Outbox>,
    },
    /// A client is there: it joins these rooms and is welcomed, or, held, its thread welcomes it.
    Connect {
        /// Where its frames go.
        outbox: Arc<Outbox>,
        /// Who it is, if its token says so.
        user: Option<Arc<str>>,
        /// Its first rooms.
        rooms: Vec<Arc<RoomNumbering>>,
        /// Where the states of the rooms go if the client is to be held in all of them.
        hold: Option<Sender<Vec<RoomState>>>,
    },
    /// A client becomes a member of a room and is told `joined`, or, held, its thread tells it.
    Join {
        /// Who.
        client: ClientId,
        /// The room.
        stream: Arc<RoomNumbering>,
        /// Whether it wants presence updates.
        presence: bool,
        /// Where the state of the room goes if the client is to be held.
        hold: Option<Sender<Vec<RoomState>>>,
        /// For the answer.
        id: Option<RequestId>,
    },
    /// A held member has what it missed: what was held follows, and from now on it is live.
    Release {
        /// Who.
        client: ClientId,
        /// The room.
        room: RoomName,
        /// The last offset it has.
        reached: u64,
        /// Whether that is so.
        answer: Sender<Released>,
    },
    /// A client stops being a member of a room and is told `left`.
    Leave {
        /// Who.
        client: ClientId,
        /// The room.
        room: RoomName,
        /// For the answer.
        id: Option<RequestId>,
    },
    /// A client asks who is in a room.
    Presence {
        /// ClientSelector asks.
        client: ClientId,
        /// The room.
        room: RoomName,
        /// For the answer.
        id: Option<RequestId>,
    },
    /// A client is gone: out of all its rooms.
    Disconnect {
        /// Who.
        client: ClientId,
    },
    /// The numbering of a room has restarted, or messages of it were lost: its members are closed, so that
    /// they come back and hear where they stand, and whoever joins from now on begins anew.
    Restart {
        /// The room.
        room: RoomName,
    },
    /// Other nodes have said who is in a room.
    RemoteMembers {
        /// The room.
        room: RoomName,
        /// Its members there.
        elsewhere: RemoteMembers,
    },
    /// Which rooms have other members than when this was last asked?
    ChangedRooms {
        /// Whether all rooms that have members are asked for instead.
        all: bool,
        /// Where the answer goes.
        answer: Sender<Vec<LocalMembers>>,
    },
    /// Which rooms have members?
    Rooms(Sender<Vec<RoomSummary>>),
    /// Who is in this room?
    Room {
        /// The room.
        name: RoomName,
        /// Where the answer goes: `None` if it has no members.
        answer: Sender<Option<RoomDetail>>,
    },
    /// Who is connected?
    Clients {
        /// Only those named after this one.
        after: Option<ClientId>,
        /// Most of them.
        limit: usize,
        /// Where the answer goes, by name.
        answer: Sender<Vec<ClientDetail>>,
    },
    /// Close clients.
    Close {
        /// Which.
        who: ClientSelector,
        /// What they are told.
        code: CloseCode,
        /// Where it goes how many they were.
        answer: Sender<usize>,
    },
    /// Close every client with 1001, in random order, spread over this time.
    Drain {
        /// The time.
        over: Duration,
    },
    /// Flush what is pending and end the thread.
    Stop,
}

/// What became of a held member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is live.
    Live,
    /// More was published than is held back: it is held anew from this offset, up to which its thread
    /// must read on.
    ReadOn(u64),
    /// It has more than this node: it comes from another one, which was faster. It is still held.
    Behind,
}

/// Clients to be closed.
#[derive(Clone, Debug)]
pub enum ClientSelector {
    /// This one.
    Client(ClientId),
    /// All of a user.
    User(Arc<str>),
}

/// A client in a list.
#[derive(Clone, Debug)]
pub struct ClientDetail {
    /// Its name.
    pub client: ClientId,
    /// Who it is, if its token says so.
    pub user: Option<Arc<str>>,
    /// The rooms it is in.
    pub rooms: Vec<RoomName>,
    /// When it came.
    pub connected: Instant,
}

/// A room in a list.
#[derive(Clone, Debug)]
pub struct RoomSummary {
    /// Its name.
    pub name: RoomName,
    /// How many members.
    pub members: usize,
}

/// A room, looked at closely.
#[derive(Clone, Debug)]
pub struct RoomDetail {
    /// How many members.
    pub members: usize,
    /// ClientSelector, unless they are too many to list.
    pub clients: Option<Vec<ClientId>>,
    /// The last offset delivered, if it has members on this node.
    pub position: Option<Position>,
}
