//! Listening: what any node publishes in a room that has members here comes back and is delivered, in order and
//! without a gap. One thread; it alone says which rooms are listened to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use redis::{Connection, FromRedisValue, Value};

use crate::protocol::{Position, Publication, RoomName};
use crate::rooms::RoomNumbering;

use super::super::api::HistoryQuery;
use super::super::delivery::Delivery;
use super::super::error::StoreError;
use super::answer::{Answer, told};
use super::backoff::Backoff;
use super::link::Link;
use super::presence::Told;
use super::shared::{Shared, aside, position};
use super::wake::Wake;
use super::way::connect_to;
use super::{control, history, record, scripts};

/// Silence after which the way back is taken for lost: this node tells itself something every second.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Channels in one command, and rooms asked for at once.
const ROOMS_AT_ONCE: usize = 200;
/// How often rooms are compared with what Redis has of them, at most; that also keeps their numbers there.
const SYNC_INTERVAL: Duration = Duration::from_secs(30);
/// The same where Redis could not say.
const RESYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Messages and bytes read at once to fill a gap.
const FILL_MESSAGES_MAX: usize = 1000;
const FILL_BYTES_MAX: usize = 1024 * 1024;

/// A client's thread wants a room to be listened to.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) room: RoomName,
    pub(super) answer: Sender<Result<Arc<RoomNumbering>, StoreError>>,
    /// When it gives up.
    pub(super) until: Instant,
}

/// A room that is listened to.
struct Room {
    stream: Arc<RoomNumbering>,
    /// The last offset handed to the broadcaster, or that was there before anybody was here.
    seen: u64,
    /// When the message at that offset was stored, if it was handed over: another message has another time.
    seen_ts: Option<u64>,
    /// The last offset that was read: up to there, messages come that are here already.
    read: u64,
}

/// What the thread owns.
pub(super) struct Listener {
    pub(super) shared: Arc<Shared>,
    pub(super) delivery: Arc<dyn Delivery>,
    pub(super) requests: Receiver<Open>,
    pub(super) told: Sender<Told>,
    pub(super) wake: Arc<Wake>,
    /// Whether what nodes have told did not come, or not in: it is to be read again.
    pub(super) owes_told: bool,
    /// For what must be read.
    pub(super) link: Link,
}

/// What outlasts a connection.
#[derive(Default)]
struct Known {
    rooms: HashMap<RoomName, Room>,
    /// Who waits for a room until it is listened to. They give up by themselves.
    opening: HashMap<RoomName, Vec<Open>>,
}

/// One connection that listens, and what it listens to.
struct Listening<'a> {
    to: &'a mut Listener,
    connection: Connection,
    known: &'a mut Known,
    /// By the names of their channels.
    channels: HashMap<Vec<u8>, RoomName>,
    /// Channels that Redis has yet to confirm.
    unconfirmed: usize,
    /// Rooms whose channels it has confirmed, to be compared with what it has of them.
    confirmed: Vec<RoomName>,
    sync_at: Instant,
    /// Whether rooms may have missed something.
    is_behind: bool,
}

/// Why a connection is given up.
type Lost = String;

impl Listener {
    /// Listens until the process ends.
    pub(super) fn run(mut self) {
        let mut known = Known::default();
        let mut backoff = Backoff::default();
        let mut begun = false;
        for client in self.shared.target.servers().to_vec().iter().cycle() {
            match connect_to(client) {
                Ok(connection) => {
                    if begun {
                        self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
                    }
                    begun = true;
                    let why = self.listen(connection, &mut known, &mut backoff);
                    backoff.failed(why, Instant::now());
                }
                Err(why) => backoff.failed(why.to_string(), Instant::now()),
            }
            self.shared.listening.failed(backoff.why().to_owned());
            std::thread::park_timeout(backoff.left(Instant::now()));
        }
    }

    fn listen(&mut self, connection: Connection, known: &mut Known, backoff: &mut Backoff) -> Lost {
        let mut listening = Listening {
            to: self,
            connection,
            known,
            channels: HashMap::new(),
            unconfirmed: 0,
            confirmed: Vec::new(),
            sync_at: Instant::now(),
            is_behind: true,
        };
        match listening.begin().and_then(|()| listening.go_on(backoff)) {
            Err(lost) => lost,
            Ok(never) => match never {},
        }
    }
}

impl Known {
    fn len(&self) -> usize {
        self.rooms.len() + self.opening.len()
    }
}

impl Open {
    fn answer_with(self, answer: Result<Arc<RoomNumbering>, StoreError>) {
        let _gave_up = self.answer.try_send(answer);
    }
}

impl Listening<'_> {
    fn begin(&mut self) -> Result<(), Lost> {
        let names = &self.to.shared.names;
        let ours = vec![names.echo(), names.presence(), names.control()];
        self.connection
            .set_read_timeout(Some(SILENCE_MAX))
            .map_err(|why| why.to_string())?;
        self.subscribe(ours)?;
        // While there was no connection, nobody told those who gave up from those who wait.
        let now = Instant::now();
        self.known.opening.retain(|_, waiting| {
            waiting.retain(|open| now < open.until);
            !waiting.is_empty()
        });
        let Known { rooms, opening } = &*self.known;
        let rooms: Vec<RoomName> = rooms.keys().chain(opening.keys()).cloned().collect();
        self.listen_to(rooms)?;
        // Who called in between was not heard.
        self.to.wake.heard();
        self.open_what_is_wanted()
    }

    fn go_on(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, Lost> {
        loop {
            let value = self.connection.recv_response();
            self.take(value.map_err(|why| why.to_string())?)?;
            if self.unconfirmed == 0 && !self.confirmed.is_empty() {
                let confirmed = std::mem::take(&mut self.confirmed);
                self.compare(&confirmed)?;
            }
            if self.is_behind && self.unconfirmed == 0 {
                // All rooms have what they missed.
                self.is_behind = false;
                backoff.succeeded();
                self.to.shared.listening.succeeded();
                self.to.owes_told = true;
            }
        }
    }

    fn listen_to(&mut self, rooms: Vec<RoomName>) -> Result<(), Lost> {
        for some in rooms.chunks(ROOMS_AT_ONCE) {
            let mut channels = Vec::with_capacity(some.len());
            for room in some {
                let channel = self.to.shared.names.channel(room);
                self.channels
                    .insert(channel.clone().into_bytes(), room.clone());
                channels.push(channel);
            }
            self.subscribe(channels)?;
        }
        Ok(())
    }

    fn subscribe(&mut self, channels: Vec<String>) -> Result<(), Lost> {
        self.unconfirmed += channels.len();
        self.send("SUBSCRIBE", &channels)
    }

    fn send(&mut self, command: &str, channels: &[String]) -> Result<(), Lost> {
        let mut command = redis::cmd(command);
        let packed = command.arg(channels).get_packed_command();
        let sent = self.connection.send_packed_command(&packed);
        sent.map_err(|why| why.to_string())
    }

    /// What Redis tells on a connection that listens (RESP2): a kind, a channel, and what the kind needs.
    fn take(&mut self, value: Value) -> Result<(), Lost> {
        let parts = match value {
            Value::Array(parts) => parts,
            Value::ServerError(why) => return Err(told(&why)),
            _ => return Err("what came is no message".to_owned()),
        };
        let mut parts = parts.into_iter();
        let (Some(Value::BulkString(kind)), Some(Value::BulkString(channel)), what) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err("what came is no message".to_owned());
        };
        match (kind.as_slice(), what) {
            (b"message", Some(Value::BulkString(told))) => self.hear(&channel, &told),
            (b"subscribe", _) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                self.confirmed.extend(self.channels.get(&channel).cloned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn hear(&mut self, channel: &[u8], told: &[u8]) -> Result<(), Lost> {
        if let Some(room) = self.channels.get(channel).cloned() {
            return self.relay(&room, told);
        }
        let names = &self.to.shared.names;
        if channel == names.echo().as_bytes() {
            self.to.wake.heard();
            self.to.shared.note_echo(told);
            self.open_what_is_wanted()?;
            self.tick()
        } else if channel == names.presence().as_bytes() {
            let taken = self.to.told.try_send(Told::Presence(told.to_vec()));
            self.to.owes_told |= taken.is_err();
            Ok(())
        } else {
            control::obey(told, &self.to.shared.names.node, &*self.to.delivery);
            Ok(())
        }
    }

    fn open_what_is_wanted(&mut self) -> Result<(), Lost> {
        let mut new = Vec::new();
        let now = Instant::now();
        let wanted = self.to.requests.try_iter();
        let wanted: Vec<Open> = wanted.filter(|open| now < open.until).collect();
        for open in wanted {
            if let Some(room) = self.known.rooms.get(&open.room) {
                open.answer_with(Ok(Arc::clone(&room.stream)));
            } else if let Some(waiting) = self.known.opening.get_mut(&open.room) {
                waiting.push(open);
            } else if self.known.len() >= self.to.shared.rooms_max {
                open.answer_with(Err(StoreError::TooManyRooms));
            } else {
                new.push(open.room.clone());
                self.known.opening.insert(open.room.clone(), vec![open]);
            }
        }
        self.listen_to(new)
    }

    /// What is done about once a second.
    fn tick(&mut self) -> Result<(), Lost> {
        let idle = self.to.shared.rooms.take_idle();
        self.listen_no_more_to(&idle)?;
        if !self.is_behind {
            // Said again, since a line in the log may not have been due before.
            self.to.shared.listening.succeeded();
        }
        if self.to.owes_told {
            self.to.owes_told = self.to.told.try_send(Told::Lost).is_err();
        }
        if Instant::now() >= self.sync_at {
            let rooms: Vec<RoomName> = self.known.rooms.keys().cloned().collect();
            let interval = SYNC_INTERVAL.min(self.to.shared.limits.age / 2);
            self.sync_at = Instant::now() + interval;
            self.compare(&rooms)?;
        }
        Ok(())
    }

    fn listen_no_more_to(&mut self, rooms: &[RoomName]) -> Result<(), Lost> {
        for some in rooms.chunks(ROOMS_AT_ONCE) {
            let channels: Vec<String> = some
                .iter()
                .map(|room| self.to.shared.names.channel(room))
                .collect();
            for (room, channel) in some.iter().zip(&channels) {
                self.known.rooms.remove(room);
                self.channels.remove(channel.as_bytes());
            }
            self.send("UNSUBSCRIBE", &channels)?;
        }
        Ok(())
    }

    /// Finds out where rooms are in Redis: those that are new here begin there, others are given what they
    /// missed, and those whose numbering is another one begin anew.
    fn compare(&mut self, rooms: &[RoomName]) -> Result<(), Lost> {
        self.to.link.ready().map_err(|why| why.to_string())?;
        for some in rooms.chunks(ROOMS_AT_ONCE) {
            let commands: Vec<_> = some
                .iter()
                .map(|room| {
                    let known = self.known.rooms.get(room);
                    let seen_ts = known.and_then(|room| room.seen_ts);
                    let seen = known.map(Room::position);
                    let shared = &self.to.shared;
                    let mut command = shared.call_numbering(&scripts::OPEN, room, seen);
                    let seen_ts = seen_ts.map_or(String::new(), |ts| ts.to_string());
                    command.arg(seen_ts).arg(shared.numbers_kept());
                    command
                })
                .collect();
            let answers = self.to.link.run_ready(&commands);
            for (room, answer) in some.iter().zip(answers) {
                let place = self.place(answer)?;
                self.settle(room, place)?;
            }
        }
        Ok(())
    }

    /// Where a room is, if Redis says so. One server of several that does not answer loses nobody the rooms of the
    /// others: it is asked again soon.
    fn place(&mut self, answer: Answer) -> Result<Option<Position>, Lost> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if self.to.shared.target.is_cluster() => {
                self.sync_at = self.sync_at.min(Instant::now() + RESYNC_INTERVAL);
                return Ok(None);
            }
            Err(why) => return Err(why.to_string()),
        };
        let place = <(String, u64)>::from_redis_value(answer).ok();
        Ok(place.and_then(|(epoch, offset)| position(&epoch, offset)))
    }

    fn settle(&mut self, name: &RoomName, place: Option<Position>) -> Result<(), Lost> {
        let Some(place) = place else {
            // Redis refuses to say: it is full, or may not be written. Who is there stays.
            for open in self.known.opening.remove(name).into_iter().flatten() {
                open.answer_with(Err(StoreError::Unavailable));
            }
            return match self.known.rooms.contains_key(name) {
                true => Ok(()),
                false => self.listen_no_more_to(std::slice::from_ref(name)),
            };
        };
        match self.known.rooms.get(name).map(Room::position) {
            // One that was left since it was asked for is not listened to.
            None if !self.known.opening.contains_key(name) => {}
            None => self.begin_room(name, place),
            Some(ours) if ours.epoch != place.epoch => self.restart(name, place),
            Some(ours) if ours.offset < place.offset => return self.fill(name, place.offset),
            Some(_) => {}
        }
        Ok(())
    }

    fn begin_room(&mut self, name: &RoomName, place: Position) {
        let stream = aside(name, place);
        let seen = place.offset;
        self.to.shared.rooms.set(Arc::clone(&stream));
        for open in self.known.opening.remove(name).into_iter().flatten() {
            open.answer_with(Ok(Arc::clone(&stream)));
        }
        let room = Room {
            stream,
            seen,
            seen_ts: None,
            read: seen,
        };
        self.known.rooms.insert(name.clone(), room);
    }

    /// Members are told to come back; who comes from now on begins at this place.
    fn restart(&mut self, name: &RoomName, place: Position) {
        log::warn!(
            "{name} begins anew at offset {}: its members come back",
            place.offset
        );
        self.to.delivery.restart(name);
        self.begin_room(name, place);
    }

    /// Delivers what was published in a room, and before that what was missed.
    fn relay(&mut self, name: &RoomName, told: &[u8]) -> Result<(), Lost> {
        let Some((place, ts, message)) = record::split_relayed(told) else {
            log::debug!("{name}: not understood: {} bytes", told.len());
            return Ok(());
        };
        let Some(room) = self.known.rooms.get(name) else {
            return Ok(());
        };
        let is_known = place.offset <= room.seen;
        if place.epoch != room.stream.epoch() || (is_known && place.offset > room.read) {
            // Either that is new or this is old; or an offset was given out twice.
            return self.compare(std::slice::from_ref(name));
        }
        if place.offset > room.seen + 1 {
            self.fill(name, place.offset - 1)?;
        }
        let Some(room) = self.known.rooms.get_mut(name) else {
            return Ok(());
        };
        if place.epoch != room.stream.epoch() || place.offset != room.seen + 1 {
            // It has been read before it came.
            return Ok(());
        }
        let Some(message) = record::decode(name, place.offset, ts, message) else {
            return Err(format!(
                "{name}: offset {} was not written by us",
                place.offset
            ));
        };
        room.deliver(Arc::new(message), &*self.to.delivery);
        Ok(())
    }

    /// Reads what did not come by itself, up to an offset. What Redis no longer has is lost to the members
    /// here: they come back, and hear that it is.
    fn fill(&mut self, name: &RoomName, up_to: u64) -> Result<(), Lost> {
        while let Some(room) = self
            .known
            .rooms
            .get_mut(name)
            .filter(|room| room.seen < up_to)
        {
            let slice = HistoryQuery {
                since: Some(room.seen),
                messages_max: FILL_MESSAGES_MAX,
                bytes_max: FILL_BYTES_MAX,
            };
            let page = history::read(&mut self.to.link, &self.to.shared, name, slice);
            let page = page.map_err(|why| why.to_string())?;
            let epoch = room.stream.epoch();
            let Some(page) = page.filter(|page| page.epoch == epoch) else {
                // The numbering is another one by now.
                return self.compare(std::slice::from_ref(name));
            };
            if !page.contiguous || page.messages.is_empty() {
                let offset = up_to;
                self.restart(name, Position { epoch, offset });
                return Ok(());
            }
            let filled = page.messages.len() as u64;
            self.to
                .shared
                .gap_fills
                .fetch_add(filled, Ordering::Relaxed);
            for message in page.messages {
                room.deliver(message, &*self.to.delivery);
            }
            room.read = room.seen;
        }
        Ok(())
    }
}

impl Room {
    fn position(&self) -> Position {
        Position {
            epoch: self.stream.epoch(),
            offset: self.seen,
        }
    }

    fn deliver(&mut self, publication: Arc<Publication>, delivery: &dyn Delivery) {
        self.seen = publication.offset;
        self.seen_ts = Some(publication.ts);
        delivery.deliver(&self.stream, publication);
    }
}
