//! What the broadcaster's thread owns, clients and rooms, and what it does with each event.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, CloseCode, ErrorCode, Publication, Refusal, RequestId, RoomName, RoomState,
    ServerMessage,
};
use crate::rooms::{LocalMembers, RemoteMembers, RoomNumbering};

use super::drain::Drain;
use super::presence::PresenceSchedule;
use super::room::Room;
use super::{ClientDetail, ClientSelector, Event, Released, RoomDetail, RoomSummary};

/// Events taken before pending batches go out: what waits is taken, nothing is waited for.
const BATCH_EVENTS_MAX: usize = 1024;

/// A connected client as the broadcaster knows it.
struct Client {
    outbox: Arc<Outbox>,
    user: Option<Arc<str>>,
    rooms: Vec<RoomName>,
    connected: Instant,
}

/// What the thread owns.
pub(super) struct Rooms {
    welcome: String,
    metrics: Arc<Metrics>,
    clients: HashMap<ClientId, Client>,
    rooms: HashMap<RoomName, Room>,
    /// Members of rooms on other nodes, whether there are members here or not.
    elsewhere: HashMap<RoomName, RemoteMembers>,
    /// Rooms that others are to be told of, if anyone ever asked for them.
    moved: Option<HashSet<RoomName>>,
    /// Rooms with a batch that has not gone out.
    pending: Vec<RoomName>,
    presence: PresenceSchedule,
    drain: Option<Drain>,
}

impl Rooms {
    pub(super) fn new(welcome: String, metrics: Arc<Metrics>) -> Self {
        Self {
            welcome,
            metrics,
            clients: HashMap::new(),
            rooms: HashMap::new(),
            elsewhere: HashMap::new(),
            moved: None,
            pending: Vec::new(),
            presence: PresenceSchedule::default(),
            drain: None,
        }
    }

    pub(super) fn run(mut self, events: &Receiver<Event>) {
        loop {
            let first = match self.next_wake() {
                None => events.recv().ok(),
                Some(at) => match events.recv_deadline(at) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => {
                        self.tick(Instant::now());
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => None,
                },
            };
            let Some(first) = first else { return };
            // Readers that can run already add to this batch: that is worth more system calls than
            // it costs, and unlike a sleep it adds no delay when there is nobody else.
            std::thread::yield_now();
            for event in std::iter::once(first)
                .chain(events.try_iter())
                .take(BATCH_EVENTS_MAX)
            {
                if matches!(event, Event::Stop) {
                    self.flush_all();
                    return;
                }
                self.handle(event);
            }
            self.flush_all();
            self.tick(Instant::now());
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().map(Drain::next_wake);
        [drain, self.presence.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    fn tick(&mut self, now: Instant) {
        for name in self.presence.take_due(now) {
            if let Some(room) = self.rooms.get(&name) {
                room.send_presence_to_watchers();
            }
        }
        if let Some(drain) = &mut self.drain {
            for client in drain.take_due(now) {
                if let Some(client) = self.clients.get(&client) {
                    client.outbox.close(CloseCode::GoingAway);
                }
            }
            if drain.take_overdue(now) {
                self.abort_finished();
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver {
                stream,
                publication,
            } => self.deliver(&stream, &publication),
            Event::Await { outbox } => {
                self.admit(Arc::clone(&outbox), None);
                self.turn_away_if_draining(&outbox);
            }
            Event::Connect {
                outbox,
                user,
                rooms,
                hold,
            } => {
                self.admit(Arc::clone(&outbox), user);
                self.connect(&outbox, rooms, hold);
                self.turn_away_if_draining(&outbox);
            }
            Event::Clients {
                after,
                limit,
                answer,
            } => {
                let _gone = answer.try_send(self.list_clients(after, limit));
            }
            Event::Close { who, code, answer } => {
                let _gone = answer.try_send(self.close(&who, code));
            }
            Event::Join {
                client,
                stream,
                presence,
                hold,
                id,
            } => self.join(client, stream, presence, hold, id.as_ref()),
            Event::Release {
                client,
                room,
                reached,
                answer,
            } => self.release(client, &room, reached, &answer),
            Event::Leave { client, room, id } => self.leave(client, &room, id.as_ref()),
            Event::Presence { client, room, id } => {
                self.answer_presence(client, &room, id.as_ref());
            }
            Event::Disconnect { client } => self.disconnect(client),
            Event::Restart { room } => self.restart(&room),
            Event::RemoteMembers { room, elsewhere } => self.set_elsewhere(&room, elsewhere),
            Event::ChangedRooms { all, answer } => {
                let _gone = answer.try_send(self.take_moved(all));
            }
            Event::Rooms(answer) => {
                let _gone = answer.try_send(self.list_rooms());
            }
            Event::Room { name, answer } => {
                let _gone = answer.try_send(self.detail(&name));
            }
            Event::Drain { over } => self.start_drain(over),
            Event::Stop => {}
        }
    }

    fn deliver(&mut self, stream: &Arc<RoomNumbering>, publication: &Publication) {
        stream.set_delivered(publication.offset);
        let Some(room) = self.rooms.get_mut(&publication.room) else {
            return;
        };
        if !room.follows(stream) {
            return self.restart(&publication.room);
        }
        if !room.has_pending() {
            self.pending.push(publication.room.clone());
        }
        room.add_pending(publication);
        if room.pending_is_full() {
            self.metrics.deliveries.add(room.flush());
        }
    }

    fn flush_all(&mut self) {
        let mut delivered = 0;
        for name in self.pending.drain(..) {
            if let Some(room) = self.rooms.get_mut(&name) {
                delivered += room.flush();
            }
        }
        self.metrics.deliveries.add(delivered);
    }

    fn admit(&mut self, outbox: Arc<Outbox>, user: Option<Arc<str>>) {
        let client = Client {
            user,
            rooms: Vec::new(),
            connected: Instant::now(),
            outbox,
        };
        self.clients.insert(client.outbox.client(), client);
    }

    fn turn_away_if_draining(&self, outbox: &Arc<Outbox>) {
        if self.drain.is_some() {
            outbox.close(CloseCode::GoingAway);
        }
    }

    fn list_clients(&self, after: Option<ClientId>, limit: usize) -> Vec<ClientDetail> {
        let names = self.clients.keys().copied();
        let mut names: Vec<_> = names
            .filter(|name| after.is_none_or(|a| *name > a))
            .collect();
        names.sort_unstable();
        let clients = names.into_iter().take(limit).filter_map(|client| {
            let Client {
                user,
                rooms,
                connected,
                ..
            } = self.clients.get(&client)?;
            Some(ClientDetail {
                client,
                user: user.clone(),
                rooms: rooms.clone(),
                connected: *connected,
            })
        });
        clients.collect()
    }

    fn close(&self, who: &ClientSelector, code: CloseCode) -> usize {
        let chosen = self.clients.iter().filter(|(id, client)| match who {
            ClientSelector::Client(wanted) => *id == wanted,
            ClientSelector::User(user) => client.user.as_ref() == Some(user),
        });
        chosen.map(|(_, client)| client.outbox.close(code)).count()
    }

    fn connect(
        &mut self,
        outbox: &Arc<Outbox>,
        streams: Vec<Arc<RoomNumbering>>,
        hold: Option<Sender<Vec<RoomState>>>,
    ) {
        let client = outbox.client();
        let states: Vec<RoomState> = streams
            .into_iter()
            .filter_map(|stream| self.add_member(client, stream, false, hold.is_some()))
            .collect();
        match hold {
            Some(hold) => {
                let _gave_up = hold.try_send(states);
            }
            None => {
                let welcome = ServerMessage::Welcome {
                    text: &self.welcome,
                    client,
                    rooms: &states,
                };
                outbox.push(&welcome.to_frames(None));
            }
        }
    }

    fn join(
        &mut self,
        client: ClientId,
        stream: Arc<RoomNumbering>,
        presence: bool,
        hold: Option<Sender<Vec<RoomState>>>,
        id: Option<&RequestId>,
    ) {
        let Some(state) = self.add_member(client, stream, presence, hold.is_some()) else {
            return;
        };
        if let Some(hold) = hold {
            let _gave_up = hold.try_send(vec![state]);
        } else if let Some(member) = self.clients.get(&client) {
            member
                .outbox
                .push(&ServerMessage::Joined(&state).to_frames(id));
        }
    }

    /// Joining a room one is in already changes only whether presence is wanted.
    fn add_member(
        &mut self,
        id: ClientId,
        stream: Arc<RoomNumbering>,
        presence: bool,
        held: bool,
    ) -> Option<RoomState> {
        let name = stream.name().clone();
        let follows = |room: &Room| room.follows(&stream);
        if !self.rooms.get(&name).is_none_or(follows) {
            // Who joined before the numbering restarted is not to be with those who joined after it.
            self.restart(&name);
        }
        let client = self.clients.get_mut(&id)?;
        let room = self.rooms.entry(name.clone()).or_insert_with(|| {
            let elsewhere = self.elsewhere.get(&name).cloned();
            Room::new(stream, elsewhere.unwrap_or_else(RemoteMembers::nobody))
        });
        self.metrics.deliveries.add(room.flush());
        if room.add(Arc::clone(&client.outbox), presence, held) {
            client.rooms.push(name.clone());
            if let Some(moved) = &mut self.moved {
                moved.insert(name.clone());
            }
        }
        self.presence.changed(room, Instant::now());
        Some(RoomState {
            room: name,
            position: room.position(),
            recovered: false,
            members: room.members(),
        })
    }

    fn release(
        &mut self,
        client: ClientId,
        name: &RoomName,
        reached: u64,
        answer: &Sender<Released>,
    ) {
        let Some(room) = self.rooms.get_mut(name) else {
            // It has restarted, and the client was closed with it.
            let _gave_up = answer.try_send(Released::Live);
            return;
        };
        self.metrics.deliveries.add(room.flush());
        let _gave_up = answer.try_send(room.release(client, reached));
    }

    fn leave(&mut self, id: ClientId, name: &RoomName, request: Option<&RequestId>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.rooms.retain(|room| room != name);
        let outbox = Arc::clone(&client.outbox);
        self.remove_member(id, name);
        outbox.push(&ServerMessage::Left(name).to_frames(request));
    }

    fn remove_member(&mut self, client: ClientId, name: &RoomName) {
        let Entry::Occupied(mut entry) = self.rooms.entry(name.clone()) else {
            return;
        };
        let room = entry.get_mut();
        self.metrics.deliveries.add(room.flush());
        room.remove(client);
        if let Some(moved) = &mut self.moved {
            moved.insert(name.clone());
        }
        if room.local_members() == 0 {
            entry.remove();
        } else {
            self.presence.changed(entry.get_mut(), Instant::now());
        }
    }

    fn disconnect(&mut self, client: ClientId) {
        let Some(gone) = self.clients.remove(&client) else {
            return;
        };
        for name in &gone.rooms {
            self.remove_member(client, name);
        }
    }

    /// Closed members leave as all closed clients do, and find the room gone.
    fn restart(&mut self, name: &RoomName) {
        let Some(mut room) = self.rooms.remove(name) else {
            return;
        };
        self.metrics.deliveries.add(room.flush());
        room.close_members(CloseCode::Restarted);
        if let Some(moved) = &mut self.moved {
            moved.insert(name.clone());
        }
    }

    fn set_elsewhere(&mut self, name: &RoomName, elsewhere: RemoteMembers) {
        let nobody = RemoteMembers::nobody();
        if *self.elsewhere.get(name).unwrap_or(&nobody) == elsewhere {
            return;
        }
        match elsewhere.members {
            0 => drop(self.elsewhere.remove(name)),
            _ => drop(self.elsewhere.insert(name.clone(), elsewhere.clone())),
        }
        if let Some(room) = self.rooms.get_mut(name) {
            room.set_elsewhere(elsewhere);
            self.presence.changed(room, Instant::now());
        }
    }

    fn take_moved(&mut self, all: bool) -> Vec<LocalMembers> {
        let moved = self.moved.replace(HashSet::new()).unwrap_or_default();
        if all {
            return self.rooms.values().map(Room::local).collect();
        }
        let nobody = |room: &RoomName| LocalMembers {
            room: room.clone(),
            members: 0,
            clients: Some(Vec::new()),
        };
        let local = |room| self.rooms.get(room).map_or(nobody(room), Room::local);
        moved.iter().map(local).collect()
    }

    fn detail(&self, name: &RoomName) -> Option<RoomDetail> {
        let elsewhere = |elsewhere: &RemoteMembers| RoomDetail {
            members: elsewhere.members,
            clients: elsewhere.clients.clone(),
            position: None,
        };
        let here = self.rooms.get(name).map(Room::detail);
        here.or_else(|| self.elsewhere.get(name).map(elsewhere))
    }

    /// Those that have members anywhere.
    fn list_rooms(&self) -> Vec<RoomSummary> {
        let here = self.rooms.values().map(Room::summary);
        let only_elsewhere = self
            .elsewhere
            .iter()
            .filter(|(name, _)| !self.rooms.contains_key(*name));
        let summary = |(name, elsewhere): (&RoomName, &RemoteMembers)| RoomSummary {
            name: name.clone(),
            members: elsewhere.members,
        };
        here.chain(only_elsewhere.map(summary)).collect()
    }

    fn answer_presence(&self, client: ClientId, name: &RoomName, id: Option<&RequestId>) {
        let Some(client) = self.clients.get(&client) else {
            return;
        };
        match self.rooms.get(name) {
            Some(room) => client.outbox.push(&room.presence_frames(id)),
            None => {
                let refusal = Refusal::new(ErrorCode::NotInRoom, "you are not in that room");
                client
                    .outbox
                    .push(&ServerMessage::Error(&refusal).to_frames(id));
            }
        }
    }

    /// Clients that have all they were sent, the Close frame last, and do not close themselves.
    fn abort_finished(&self) {
        let outboxes = self.clients.values().map(|client| &client.outbox);
        outboxes
            .filter(|outbox| outbox.is_finished())
            .for_each(|outbox| outbox.abort());
    }

    fn start_drain(&mut self, over: Duration) {
        if self.drain.is_none() {
            let clients = self.clients.keys().copied().collect();
            self.drain = Some(Drain::new(clients, Instant::now(), over));
        }
    }
}
