//! What the threads that deal with Redis have in common.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use redis::{Cmd, FromRedisValue, Value};

use crate::config::HistoryLimits;
use crate::protocol::{Epoch, Position, RoomName};
use crate::rooms::RoomNumbering;

use super::super::health::Health;
use super::answer::{LinkError, accepted};
use super::link::{Link, Target};
use super::names::Names;
use super::rooms::Rooms;
use super::scripts;
use super::slots::{self, Range, SLOTS};
use super::way::{Greeting, Talk};

/// Starts of servers that are remembered. One that is forgotten counts as one that may have lost something.
const STARTS_MAX: usize = 1024;

/// Shared by all of them.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) names: Names,
    pub(super) limits: HistoryLimits,
    pub(super) rooms_max: usize,
    pub(super) rooms: Rooms,
    /// Whether messages can be stored.
    pub(super) storing: Health,
    /// Whether they come back.
    pub(super) listening: Health,
    pub(super) nodes: AtomicUsize,
    pub(super) lag_micros: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) gap_fills: AtomicU64,
    /// How often Redis was started anew without what it may have had, by slot: the servers of a cluster are
    /// started each by itself.
    runs: Box<[AtomicU64]>,
    /// The names of the starts that were seen last, by the keys that count them.
    starts: Mutex<HashMap<String, String>>,
    /// Connections that were made.
    made: Arc<AtomicU64>,
    clock: Clock,
    leaving: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        target: Target,
        names: Names,
        limits: HistoryLimits,
        rooms_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            target,
            names,
            limits,
            rooms_max,
            rooms: Rooms::default(),
            storing: Health::of_publishing(),
            listening: Health::new(
                "what is published does not come back from Redis, and waits there",
                "what was published comes back from Redis again",
            ),
            nodes: AtomicUsize::new(1),
            lag_micros: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            gap_fills: AtomicU64::new(0),
            runs: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            starts: Mutex::default(),
            made: Arc::default(),
            clock: Clock::new(),
            leaving: AtomicBool::new(false),
        })
    }

    /// A link that learns, with every connection it makes, what may be another since: the server.
    pub(super) fn link(self: &Arc<Self>) -> Link {
        let shared = Arc::downgrade(self);
        let greeting: Greeting = Arc::new(move |talk, slots| {
            talk.run(&scripts::load_all())?;
            let Some(shared) = shared.upgrade() else {
                return Ok(());
            };
            shared.learn_run(talk, slots)?;
            if !shared.target.is_cluster() {
                shared.learn_time(|commands| talk.run(commands))?;
            }
            Ok(())
        });
        Link::new(self.target.clone(), greeting, Arc::clone(&self.made))
    }

    /// Finds out whether this start of the server has all that the last one had: only a file that every
    /// command is appended to says so, and not of a server that was a replica, which may have got less. A server
    /// that does not tell is taken to have it; what nodes have seen is compared in any case.
    fn learn_run(&self, talk: &mut Talk<'_>, slots: &[Range]) -> Result<(), LinkError> {
        let info = |section| {
            let mut command = redis::cmd("INFO");
            command.arg(section);
            command
        };
        let told: Vec<String> = talk
            .run(&["server", "persistence", "replication"].map(info))?
            .into_iter()
            .filter_map(|answer| String::from_redis_value(answer).ok())
            .collect();
        let field = |name: &str| {
            let mut lines = told.iter().flat_map(|text| text.lines());
            lines.find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')
                    .map(str::to_owned)
            })
        };
        let (Some(start), Some(appends)) = (field("run_id"), field("aof_enabled")) else {
            return Ok(());
        };
        // It goes on under a name of its own where another server stopped.
        let was_replica = field("master_replid2").is_some_and(|id| id.contains(|c| c != '0'));
        let keeps = appends == "1" && !was_replica;
        let known = slots.iter().cloned().flatten().map(|slot| self.run(slot));
        let name = self.names.run(slots);
        let mut command = scripts::RUN.call(std::slice::from_ref(&name));
        command
            .arg(&start)
            .arg(u8::from(keeps))
            .arg(known.max().unwrap_or_default())
            .arg(self.starts().get(&name).map_or("", String::as_str));
        // One that cannot say yet, since it waits for its cluster or is full, must not be written to as if nothing
        // had been lost.
        let answer = accepted(talk.run(&[command])?.pop().unwrap_or_default())?;
        if let Ok(run) = u64::from_redis_value(answer) {
            let runs = slots.iter().cloned().flatten();
            runs.for_each(|slot| self.runs[usize::from(slot)].store(run, Ordering::Relaxed));
            let mut starts = self.starts();
            if starts.len() >= STARTS_MAX {
                starts.clear();
            }
            starts.insert(name, start);
        }
        Ok(())
    }

    fn starts(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.starts.lock()
    }

    fn run(&self, slot: u16) -> u64 {
        self.runs[usize::from(slot)].load(Ordering::Relaxed)
    }

    /// Compares clocks.
    fn learn_time(
        &self,
        mut run: impl FnMut(&[Cmd]) -> Result<Vec<Value>, LinkError>,
    ) -> Result<(), LinkError> {
        let answer = run(&[redis::cmd("TIME")])?.pop().unwrap_or_default();
        let answer = accepted(answer)?;
        if let Ok((seconds, micros)) = <(i64, i64)>::from_redis_value(answer) {
            self.clock.set(seconds * 1000 + micros / 1000);
        }
        Ok(())
    }

    /// The same on a link that stands; also finds out whether it does.
    pub(super) fn check(&self, link: &mut Link) -> Result<(), LinkError> {
        if self.target.is_cluster() {
            return link.check();
        }
        self.learn_time(|commands| link.run(commands))
    }

    /// A moment so far from now, by the clock of Redis, in milliseconds. The servers of a cluster have a
    /// clock each, so that there no moment is too late.
    pub(super) fn deadline(&self, from_now: Duration) -> i64 {
        match self.target.is_cluster() {
            true => i64::MAX,
            false => self.clock.now() + from_now.as_millis() as i64,
        }
    }

    /// What the script says that `numbers` stands before: an epoch should numbering begin, the run, and what
    /// this node has seen.
    pub(super) fn call_numbering(
        &self,
        script: &scripts::Script,
        room: &RoomName,
        seen: Option<Position>,
    ) -> Cmd {
        let keys = self.names.room(room);
        let mut command = script.call(&keys);
        command
            .arg(Epoch::random().to_string())
            .arg(self.run(slots::slot(keys[0].as_bytes())));
        match seen {
            Some(seen) => command.arg(seen.epoch.to_string()).arg(seen.offset),
            None => command.arg("").arg(0),
        };
        command
    }

    /// This node is about to say farewell, and nothing after that.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// What this node tells itself to see how long the way through Redis is: its clock, in microseconds.
    pub(super) fn echo(&self) -> redis::Cmd {
        let mut command = redis::cmd("PUBLISH");
        command
            .arg(self.names.echo())
            .arg(self.clock.begin.elapsed().as_micros() as u64);
        command
    }

    /// Takes what came back; a mere call says nothing.
    pub(super) fn note_echo(&self, told: &[u8]) {
        let sent = std::str::from_utf8(told).ok().and_then(|t| t.parse().ok());
        if let Some(sent) = sent {
            let now = self.clock.begin.elapsed().as_micros() as u64;
            self.lag_micros
                .store(now.saturating_sub(sent), Ordering::Relaxed);
        }
    }

    /// How long the numbers of a room outlast its last message.
    pub(super) fn numbers_kept(&self) -> u64 {
        2 * self.limits.age.as_millis() as u64
    }
}

/// A place as the scripts give it.
pub(super) fn position(epoch: &str, offset: u64) -> Option<Position> {
    let epoch = epoch.parse().ok()?;
    Some(Position { epoch, offset })
}

/// A stream that is not listened to.
pub(super) fn aside(room: &RoomName, at: Position) -> Arc<RoomNumbering> {
    Arc::new(RoomNumbering::new(room.clone(), at.epoch, at.offset))
}

/// What Redis' clock shows, by our own clock that nobody sets.
struct Clock {
    begin: Instant,
    ahead_ms: AtomicI64,
}

impl Clock {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            ahead_ms: AtomicI64::new(0),
        }
    }

    fn elapsed(&self) -> i64 {
        self.begin.elapsed().as_millis() as i64
    }

    fn set(&self, unix_ms: i64) {
        self.ahead_ms
            .store(unix_ms - self.elapsed(), Ordering::Relaxed);
    }

    fn now(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed) + self.elapsed()
    }
}
