//! `POST /messages`: publishes messages to several rooms, and answers for each.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tiny_http::ResponseBox;

use super::body::{self, BodyKind};
use super::publishing::HttpPublisher;
use crate::admission::PublishedOver;
use crate::app::App;
use crate::broker::ReplyTo;
use crate::http::Parameters;
use crate::http::request::Admitted;
use crate::http::response::{bad_request, json};
use crate::protocol::{
    ErrorCode, Position, PublishRequest, Refusal, RequestId, RoomName, invalid_room,
};
use crate::store::StoreError;
use crate::threads::REPLY_TIMEOUT;

/// Messages in one request, counted once for each room.
const MESSAGES_MAX: usize = 1000;
/// Rooms of one entry.
const ROOMS_MAX: usize = 100;
/// The parameters beside the messages, which have the others as fields.
const PARAMETERS: Parameters = Parameters {
    used: &["session", "token"],
    unused: &[
        ("id", "write `id` in each message of the body"),
        ("ttl", "write `ttl` in each message of the body"),
        ("echo", "write `echo` in each message of the body"),
        ("type", "write `type` in each message of the body"),
        ("payload", "write `payload` in each message of the body"),
        ("room", "write `room` in each message of the body"),
        ("rooms", "write `rooms` in each message of the body"),
    ],
};

/// Longest pause while clients lag. A client that never reads fills its outbox within five pauses and is evicted.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Longest time of all pauses of a request. A client that reads just enough to stay must not hold up publishers for
/// longer.
const PAUSES_MAX: Duration = Duration::from_secs(5);
/// Time after which a pause looks again whether clients lag.
const PAUSE_STEP: Duration = Duration::from_millis(1);

/// An entry of the request: a message and its rooms.
struct BatchEntry<'a> {
    message: PublishRequest<'a>,
    id: Option<RequestId>,
    rooms: Vec<RoomName>,
    /// True if the entry has `rooms`, so that its result has them too.
    has_list: bool,
}

/// The rooms of an entry that has several.
#[derive(Deserialize)]
struct EntryRooms {
    #[serde(default)]
    rooms: Option<Vec<String>>,
}

#[derive(Serialize)]
struct BatchBody {
    published: usize,
    failed: usize,
    results: Vec<EntryResult>,
}

/// The result of an entry, in the order of the request.
#[derive(Serialize)]
#[serde(untagged)]
enum EntryResult {
    Room(RoomResult),
    Rooms { rooms: Vec<RoomResult> },
    Refused { error: Refusal },
}

/// The result of a message in one room.
#[derive(Serialize)]
struct RoomResult {
    room: RoomName,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Stored(Position),
    Failed { error: Refusal },
}

/// `POST /messages?session=`: 200 with a result for each entry, whether it was published or not.
pub(in crate::http) fn publish(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<ResponseBox, ResponseBox> {
    let texts = match BodyKind::of(admitted.request) {
        BodyKind::Json => parse_array(body::without_mark(body::text(admitted)?))?,
        BodyKind::JsonLines => split_lines(body::without_mark(body::text(admitted)?))?,
        BodyKind::Text | BodyKind::Form | BodyKind::Other => {
            let message = "send a JSON array with Content-Type: application/json, or lines of JSON with application/x-ndjson";
            return Err(body::unsupported(message));
        }
    };
    let names = PARAMETERS.check(&admitted.request.head.query);
    names.map_err(|why| bad_request(&why))?;
    let bytes_max = app.config.get().limits.max_message_bytes;
    let entries = texts.into_iter().map(|text| parse_entry(text, bytes_max));
    let entries: Vec<Result<BatchEntry<'_>, Refusal>> = entries.collect();
    let messages: usize = entries
        .iter()
        .flatten()
        .map(|entry| entry.rooms.len())
        .sum();
    if messages > MESSAGES_MAX {
        return Err(too_many());
    }
    let mut batch = Batch::new(messages, admitted, app)?;
    let queued: Vec<Result<QueuedEntry, Refusal>> = entries
        .into_iter()
        .map(|entry| entry.map(|entry| batch.queue(&entry)))
        .collect();
    let results = queued.into_iter().map(|entry| match entry {
        Ok(entry) => batch.result(entry),
        Err(error) => {
            batch.failed += 1;
            EntryResult::Refused { error }
        }
    });
    let results = results.collect();
    Ok(json(&BatchBody {
        published: batch.published,
        failed: batch.failed,
        results,
    }))
}

/// An entry whose messages are queued or refused.
struct QueuedEntry {
    rooms: Vec<(RoomName, Result<(), Refusal>)>,
    has_list: bool,
}

/// The messages of a request on their way through the store.
struct Batch<'a> {
    app: &'a App,
    admitted: &'a Admitted<'a>,
    publisher: HttpPublisher,
    /// Publishes of one thread are answered in their order.
    reply: Sender<Result<Position, StoreError>>,
    replies: Receiver<Result<Position, StoreError>>,
    /// Replies that were received before their entry's turn.
    received: VecDeque<Result<Position, StoreError>>,
    /// Messages without a reply so far.
    outstanding: usize,
    /// Bytes that were published since the last pause. A client may be in every room.
    burst_bytes: usize,
    /// The time that is left for pauses.
    pause_left: Duration,
    /// True once a message was counted: the first one counts as the request.
    is_counted: bool,
    /// The error of the store's queue, after which no message is queued.
    stopped: Option<StoreError>,
    /// The error of the first missing reply, after which none is waited for.
    unanswered: Option<StoreError>,
    published: usize,
    failed: usize,
}

impl<'a> Batch<'a> {
    fn new(messages: usize, admitted: &'a Admitted<'a>, app: &'a App) -> Result<Self, ResponseBox> {
        let (reply, replies) = bounded(messages);
        Ok(Self {
            app,
            admitted,
            publisher: HttpPublisher::of(admitted, app)?,
            reply,
            replies,
            received: VecDeque::new(),
            outstanding: 0,
            burst_bytes: 0,
            pause_left: PAUSES_MAX,
            is_counted: false,
            stopped: None,
            unanswered: None,
            published: 0,
            failed: 0,
        })
    }

    fn queue(&mut self, entry: &BatchEntry<'_>) -> QueuedEntry {
        let queued = |room: &RoomName| (room.clone(), self.queue_in(room, entry));
        QueuedEntry {
            rooms: entry.rooms.iter().map(queued).collect(),
            has_list: entry.has_list,
        }
    }

    /// Checks a message for one room and queues it.
    fn queue_in(&mut self, room: &RoomName, entry: &BatchEntry<'_>) -> Result<(), Refusal> {
        let (identity, peer) = (&self.admitted.identity, self.admitted.request.peer);
        identity.may_publish(room)?;
        let bytes = entry.message.payload.len();
        self.app
            .admission
            .check_publish(room, identity, PublishedOver::Http, bytes)?;
        if std::mem::replace(&mut self.is_counted, true)
            && let Err(wait) = self.app.admission.count_request(peer)
        {
            let message = "this address sends too many requests; this message was not published";
            return Err(Refusal {
                retry_after: Some(wait),
                ..Refusal::new(ErrorCode::RateLimited, message)
            });
        }
        self.app.admission.count_new_room(room, peer)?;
        if let Some(why) = self.stopped {
            return Err(why.into());
        }
        let publish = self
            .publisher
            .publish(room, &entry.message, entry.id.clone())?;
        self.pause_after_burst(bytes);
        let reply_to = ReplyTo::Thread(self.reply.clone());
        self.app.broker.publish(publish, reply_to).map_err(|why| {
            self.stopped = Some(why);
            Refusal::from(why)
        })?;
        self.outstanding += 1;
        Ok(())
    }

    /// Lets clients read what was published so far, if these bytes would make it more than they can take at once.
    /// Otherwise a single request could evict readers that are fast.
    fn pause_after_burst(&mut self, bytes: usize) {
        self.burst_bytes += bytes;
        if self.burst_bytes <= self.app.config.get().limits.outbox_bytes / 4 {
            return;
        }
        self.burst_bytes = bytes;
        while self.outstanding > 0 {
            let reply = self.receive_reply();
            self.received.push_back(reply);
        }
        self.app.broadcaster.flush();
        let (begin, pause) = (Instant::now(), self.pause_left.min(PAUSE_MAX));
        while self.app.metrics.lagging.get() > 0 && begin.elapsed() < pause {
            thread::sleep(PAUSE_STEP);
        }
        self.pause_left = self.pause_left.saturating_sub(begin.elapsed());
    }

    /// Waits for the results of an entry.
    fn result(&mut self, entry: QueuedEntry) -> EntryResult {
        let QueuedEntry { rooms, has_list } = entry;
        let results = rooms.into_iter().map(|(room, queued)| {
            let stored = queued.and_then(|()| self.next_reply().map_err(Refusal::from));
            let outcome = match stored {
                Ok(position) => {
                    self.published += 1;
                    Outcome::Stored(position)
                }
                Err(error) => {
                    self.failed += 1;
                    Outcome::Failed { error }
                }
            };
            RoomResult { room, outcome }
        });
        let mut rooms: Vec<RoomResult> = results.collect();
        match rooms.pop() {
            Some(only) if !has_list => EntryResult::Room(only),
            last => {
                rooms.extend(last);
                EntryResult::Rooms { rooms }
            }
        }
    }

    fn next_reply(&mut self) -> Result<Position, StoreError> {
        let received = self.received.pop_front();
        received.unwrap_or_else(|| self.receive_reply())
    }

    fn receive_reply(&mut self) -> Result<Position, StoreError> {
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(why) = self.unanswered {
            return Err(why);
        }
        let reply = self.replies.recv_timeout(REPLY_TIMEOUT);
        reply.unwrap_or_else(|why| {
            let why = match why {
                RecvTimeoutError::Timeout => StoreError::Unknown,
                RecvTimeoutError::Disconnected => StoreError::Stopped,
            };
            self.unanswered = Some(why);
            Err(why)
        })
    }
}

/// Returns the entries of a JSON array, or a single object, as JSON texts.
fn parse_array(text: &str) -> Result<Vec<&str>, ResponseBox> {
    if text.trim_start().starts_with('{') {
        return Ok(vec![text]);
    }
    let entries: Entries<'_> = serde_json::from_str(text).map_err(|why| {
        if why.to_string().starts_with(TOO_MANY) {
            return too_many();
        }
        let message = format!("the body is not a JSON array of messages: {why}");
        bad_request(&Refusal::new(ErrorCode::InvalidJson, message))
    })?;
    Ok(entries.0)
}

/// Returns the lines that are not blank.
fn split_lines(text: &str) -> Result<Vec<&str>, ResponseBox> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.take(MESSAGES_MAX + 1).collect();
    match lines.len() > MESSAGES_MAX {
        true => Err(too_many()),
        false => Ok(lines),
    }
}

const TOO_MANY: &str = "too many messages";

fn too_many() -> ResponseBox {
    let message = format!(
        "{TOO_MANY}; send at most {MESSAGES_MAX} at once, where a message counts once for each of its rooms"
    );
    bad_request(&Refusal::new(ErrorCode::InvalidField, message))
}

fn parse_entry(text: &str, bytes_max: usize) -> Result<BatchEntry<'_>, Refusal> {
    if text.len() > bytes_max {
        let message = format!("the message exceeds {bytes_max} bytes");
        return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
    }
    let (message, id) = PublishRequest::parse(text)?;
    let invalid = |why: &'static str| Refusal::new(ErrorCode::InvalidField, why);
    let listed: EntryRooms =
        serde_json::from_str(text).map_err(|_| invalid("`rooms` must be a list of room names"))?;
    let has_list = listed.rooms.is_some();
    let rooms = match (message.room.clone(), listed.rooms) {
        (Some(room), None) => vec![room],
        (None, Some(names)) => parse_rooms(&names)?,
        (Some(_), Some(_)) => return Err(invalid("send `room` or `rooms`, not both")),
        (None, None) => {
            let why = "`room` or `rooms` is missing";
            return Err(Refusal::new(ErrorCode::MissingField, why));
        }
    };
    Ok(BatchEntry {
        message,
        id,
        rooms,
        has_list,
    })
}

/// Parses the list of an entry's rooms, each of which must be there once.
fn parse_rooms(names: &[String]) -> Result<Vec<RoomName>, Refusal> {
    let refuse = |why: String| Refusal::new(ErrorCode::InvalidField, why);
    if names.is_empty() || names.len() > ROOMS_MAX {
        return Err(refuse(format!("`rooms` must be 1 to {ROOMS_MAX} names")));
    }
    let parse = |name: &String| RoomName::parse(name).map_err(|why| invalid_room(name, why));
    let rooms: Vec<RoomName> = names.iter().map(parse).collect::<Result<_, _>>()?;
    let mut known = HashSet::new();
    match rooms.iter().find(|room| !known.insert(*room)) {
        Some(room) => Err(refuse(format!("`rooms` has {room} twice"))),
        None => Ok(rooms),
    }
}

/// The JSON texts of an array's elements, at most as many as a request may have.
struct Entries<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element::<&'de RawValue>()? {
                    if entries.len() == MESSAGES_MAX {
                        return Err(de::Error::custom(TOO_MANY));
                    }
                    entries.push(entry.get());
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
    }
}
