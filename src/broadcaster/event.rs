//! Every event that the broadcaster thread handles, in one closed enum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, CloseCode, MemberState, Publication, RequestId, RoomName, RoomState, SessionHash,
    StateChange,
};
use crate::rooms::{
    ClientSelector, Exclusion, LocalMembers, PresenceSubject, RemoteMembers, RoomNumbering,
    StreamPositions, UserCount,
};
use crate::store::Acknowledgement;

use super::reply::{ClientDetail, ReleaseOutcome, RoomDetail, RoomSummary};

/// An event for the broadcaster thread. Events take effect in the order in which they were sent.
#[derive(Debug)]
pub(crate) enum Event {
    /// Sends a stored publication to its room's members. A room's offsets must arrive in order.
    Deliver {
        /// The numbering that the publication's offset belongs to.
        numbering: Arc<RoomNumbering>,
        /// The stored publication.
        publication: Arc<Publication>,
        /// The members that do not receive it.
        except: Option<Exclusion>,
        /// When this node received it.
        received: Instant,
    },
    /// Acknowledges a publish whose client does not receive the message; see [`Delivery::acknowledge`].
    ///
    /// [`Delivery::acknowledge`]: crate::store::Delivery::acknowledge
    Acknowledge(Acknowledgement),
    /// Registers a client that has connected without a token. Until [`Event::Connect`] it can only be closed.
    AwaitAuth {
        /// The client's outbox.
        outbox: Arc<Outbox>,
    },
    /// Registers a client and makes it a member of its first rooms. Without `hold` it is sent the welcome.
    Connect {
        /// The client's outbox.
        outbox: Arc<Outbox>,
        /// The `sub` of the client's token, if it has one.
        user: Option<Arc<str>>,
        /// The session that the client chose, if it chose one.
        session: Option<SessionHash>,
        /// The positions in all rooms, if the client reads them as one event stream.
        positions: Option<Arc<StreamPositions>>,
        /// The numberings of the client's first rooms.
        rooms: Vec<Arc<RoomNumbering>>,
        /// Holds the member in every room and receives the rooms' states; the client's thread then sends the welcome.
        hold: Option<Sender<Vec<RoomState>>>,
    },
    /// Makes a client a member of one more room. Without `hold` it is sent `joined`.
    Join {
        /// The client that joins.
        client: ClientId,
        /// The numbering of the room.
        numbering: Arc<RoomNumbering>,
        /// True if the member is subscribed to presence updates.
        presence: bool,
        /// Holds the member and receives the room's state; the client's thread then sends `joined`.
        hold: Option<Sender<Vec<RoomState>>>,
        /// The state that the member shows to the others.
        state: StateChange,
        /// The id of the client's request, for the reply.
        id: Option<RequestId>,
    },
    /// Releases a held member after its thread has read the missed publications from the store.
    Release {
        /// The held member.
        client: ClientId,
        /// The room in which it is held.
        room: RoomName,
        /// The last offset that the client has been sent.
        reached: u64,
        /// Receives whether the member is live now.
        reply: Sender<ReleaseOutcome>,
    },
    /// Removes a member from a room and sends it `left`.
    Leave {
        /// The client that leaves.
        client: ClientId,
        /// The room that it leaves.
        room: RoomName,
        /// The id of the client's request, for the reply.
        id: Option<RequestId>,
    },
    /// Changes the state that a member shows to the others, and replies `state` to the member.
    State {
        /// The member.
        client: ClientId,
        /// The room in which it shows the state.
        room: RoomName,
        /// The state; `None` to show none.
        state: Option<MemberState>,
        /// The id of the client's request, for the reply.
        id: Option<RequestId>,
    },
    /// Sends a client the members of a room.
    Presence {
        /// The client that asked.
        client: ClientId,
        /// The room it asked about.
        room: RoomName,
        /// The id of the client's request, for the reply.
        id: Option<RequestId>,
    },
    /// Forgets a client whose connection has ended and removes it from all its rooms.
    Disconnect {
        /// The client whose connection has ended.
        client: ClientId,
    },
    /// Closes a room's members with [`CloseCode::Restarted`], so that they reconnect and receive the new position.
    /// Sent after the room's numbering restarted or some of its publications were lost.
    Restart {
        /// The numbering that has ended. Members that joined with the new one stay.
        ended: Arc<RoomNumbering>,
    },
    /// Sets the members that a room has on other nodes.
    RemoteMembers {
        room: RoomName,
        /// The room's members on all other nodes together.
        remote: RemoteMembers,
    },
    /// Requests the rooms whose local members changed since the last such request. The first request starts the
    /// record of changes.
    ChangedRooms {
        /// True to return every room with local members instead.
        all: bool,
        /// Receives the local members of each room.
        reply: Sender<Vec<LocalMembers>>,
    },
    /// Sets how many clients a user has on all other nodes together.
    RemoteUser(UserCount),
    /// Requests the users whose local clients changed, as [`Event::ChangedRooms`] does rooms. There are none unless their
    /// presence is recorded.
    ChangedUsers {
        /// True to return every user with local clients instead.
        all: bool,
        /// Receives the local clients of each user.
        reply: Sender<Vec<UserCount>>,
    },
    /// Requests the rooms and users that are present on any node, as far as their changes are recorded.
    PresentSubjects(Sender<Vec<PresenceSubject>>),
    /// Requests the rooms that have members on any node.
    Rooms(Sender<Vec<RoomSummary>>),
    /// Requests the members of one room.
    Room {
        name: RoomName,
        /// Receives the members, or `None` if the room has none on any node.
        reply: Sender<Option<RoomDetail>>,
    },
    /// Requests a page of the connected clients, in the order of their ids.
    Clients {
        /// The last client id of the previous page.
        after: Option<ClientId>,
        /// The maximum number of clients in the page.
        limit: usize,
        /// Receives the clients.
        reply: Sender<Vec<ClientDetail>>,
    },
    /// Closes clients.
    Close {
        /// Selects the clients.
        selector: ClientSelector,
        /// The code of their Close frame.
        code: CloseCode,
        /// Receives the number of clients selected.
        reply: Sender<usize>,
    },
    /// Sends the pending batches, then replies.
    Flush(Sender<()>),
    /// Closes every client with [`CloseCode::GoingAway`], in random order and spread evenly over `duration`.
    Drain {
        /// The time until the last client is closed.
        duration: Duration,
    },
    /// Sends the pending batches and ends the thread.
    Stop,
}
