//! Subscribers whose connections are cut again and again, and a server that is killed under them.
//!
//! Every message has a number, and each subscriber counts how often it gets each one. Subscribers of wscast resume
//! where they were cut, and its publisher repeats messages that are not acknowledged. The other servers acknowledge
//! and keep nothing, so their clients cannot do this.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocking_client::BlockingClient;
use crate::client_group::ServerProtocol;
use crate::machine::Machine;
use crate::peers::numbered::{self, Position, acknowledged_in, number_in};
use crate::peers::options::PeerOptions;
use crate::peers::peer::{Peer, free_port};
use crate::peers::quantity::{Measured, higher, lower};
use crate::storage::{DatabaseFolder, HistoryStore};

const SUBSCRIBERS: u32 = 50;
const MESSAGE_INTERVAL: Duration = Duration::from_millis(10);

/// How long each connection lasts, and the wait before the subscriber connects again.
const CUT_EVERY: Duration = Duration::from_secs(2);
const RECONNECT_DELAY: Duration = Duration::from_millis(250);

/// The shortest run. In it, every subscriber is cut four times.
const SECONDS_MIN: f64 = 8.0;

/// The longest wait of one read. A subscriber that waits longer looks at the clock.
const READ_LIMIT: Duration = Duration::from_millis(20);

/// The wait for the last messages, and then for doubled ones.
const GRACE: Duration = Duration::from_secs(5);
const DOUBLED_GRACE: Duration = Duration::from_millis(300);

/// The wait for acknowledgements after the last message.
const ACK_DEADLINE: Duration = Duration::from_secs(15);

/// The publisher's ids belong to this session, also after it has connected again.
const PUBLISHER_TARGET: &str = "/ws?session=publisher-of-bench-peers";

/// Faults in addition to the cut connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFault {
    None,
    /// SIGKILL half-way, and a new start on the same port. wscast has a database.
    Crash,
}

/// Shared by the subscribers and the publisher.
#[derive(Debug)]
struct Run {
    address: SocketAddrV4,
    protocol: ServerProtocol,
    start: Instant,
    /// Messages that were published, or given up. Final once `finished` is set.
    published: AtomicU64,
    finished: AtomicBool,
}

#[derive(Debug)]
struct Subscriber {
    client: Option<BlockingClient>,
    /// `None` if the server cannot resume.
    position: Option<Position>,
    /// How often each message came.
    counts: Vec<u32>,
    next_cut: Instant,
}

#[derive(Debug)]
struct NumberedPublisher {
    client: Option<BlockingClient>,
    unacknowledged: BTreeSet<u64>,
    /// True if the server acknowledges messages.
    repeats: bool,
}

/// Measures the share of all messages that arrived, and the messages that arrived twice.
pub(crate) fn measure(
    peer: &Peer,
    fault: ServerFault,
    options: &PeerOptions,
    machine: &Machine,
) -> io::Result<Vec<Measured>> {
    let database = DatabaseFolder::new()?;
    let arguments = if peer.is_wscast() && fault == ServerFault::Crash {
        database.arguments(HistoryStore::Sqlite)
    } else {
        Vec::new()
    };
    let port = free_port()?;
    let mut server = peer.start_on(port, &arguments, machine)?;
    let run = Run {
        address: server.address,
        protocol: server.protocol,
        start: Instant::now(),
        published: AtomicU64::new(0),
        finished: AtomicBool::new(false),
    };
    let subscribers = (0..SUBSCRIBERS)
        .map(|turn| Subscriber::connect(&run, turn))
        .collect::<io::Result<Vec<_>>>()?;
    let mut publisher = NumberedPublisher::new(peer.is_wscast());
    let messages = (options.seconds().max(SECONDS_MIN) / MESSAGE_INTERVAL.as_secs_f64()) as u64;

    let (counts, published) = thread::scope(|scope| {
        let workers: Vec<_> = subscribers
            .into_iter()
            .map(|subscriber| scope.spawn(|| subscriber.run(&run)))
            .collect();
        let published = (|| {
            publisher.connect(&run)?;
            publisher.publish(&run, 0..messages / 2);
            if fault == ServerFault::Crash {
                server.kill()?;
                server = peer.start_on(port, &arguments, machine)?;
            }
            publisher.publish(&run, messages / 2..messages);
            publisher.settle(&run)
        })();
        // Also after an error, so that the subscribers end.
        run.finished.store(true, Ordering::Release);
        let counts = workers.into_iter().map(|worker| {
            worker
                .join()
                .map_err(|_| io::Error::other("a subscriber panicked"))
        });
        (counts.collect::<io::Result<Vec<_>>>(), published)
    });
    published?;
    server.check_alive()?;
    let counts = counts?;
    let all = counts.iter().flatten();
    let delivered = all.clone().filter(|count| **count > 0).count();
    let doubled: u32 = all.map(|count| count.saturating_sub(1)).sum();
    let expected = messages as usize * counts.len();
    let missing = expected - delivered;
    if peer.is_wscast() && (missing > 0 || doubled > 0) {
        return Err(io::Error::other(format!(
            "of {expected} deliveries {missing} are missing and {doubled} doubled"
        )));
    }
    let share = 100.0 * delivered as f64 / expected as f64;
    Ok(vec![
        higher("messages delivered", "%", share),
        lower("deliveries missing", "", missing as f64),
        lower("deliveries doubled", "", f64::from(doubled)),
    ])
}

impl Subscriber {
    fn connect(run: &Run, turn: u32) -> io::Result<Subscriber> {
        let client = BlockingClient::connect_as(run.address, "/ws", run.protocol)?;
        client.limit_reads(READ_LIMIT)?;
        Ok(Subscriber {
            position: Position::in_welcome(client.last_text()),
            client: Some(client),
            counts: Vec::new(),
            // The cuts of all subscribers are spread evenly.
            next_cut: run.start + CUT_EVERY + CUT_EVERY * turn / SUBSCRIBERS,
        })
    }

    /// Reads and reconnects until all messages have come or the run is over. Returns how often each message came.
    fn run(mut self, run: &Run) -> Vec<u32> {
        let mut end = None;
        loop {
            if run.finished.load(Ordering::Acquire) {
                let end = *end.get_or_insert_with(|| Instant::now() + GRACE);
                let published = run.published.load(Ordering::Acquire) as usize;
                let complete =
                    self.counts.len() >= published && self.counts.iter().all(|count| *count > 0);
                if complete || Instant::now() >= end {
                    break;
                }
            } else if Instant::now() >= self.next_cut {
                self.next_cut += CUT_EVERY;
                if let Some(client) = self.client.take() {
                    // Fails only if the server has closed the socket.
                    client.cut().ok();
                }
                thread::sleep(RECONNECT_DELAY);
            }
            self.read(run);
        }
        let end = Instant::now() + DOUBLED_GRACE;
        while Instant::now() < end {
            self.read(run);
        }
        self.counts
    }

    /// Reads one message, or connects. A lost connection is replaced after the delay.
    fn read(&mut self, run: &Run) {
        let read = match &mut self.client {
            Some(client) => client.next_text(),
            None => {
                self.reconnect(run).ok();
                return;
            }
        };
        match read {
            Ok(frame) => {
                if let Some(position) = &mut self.position {
                    position.advance(frame);
                }
                if let Some(number) = number_in(frame) {
                    let number = number as usize;
                    self.counts.resize(self.counts.len().max(number + 1), 0);
                    self.counts[number] += 1;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.client = None;
                thread::sleep(RECONNECT_DELAY);
            }
        }
    }

    fn reconnect(&mut self, run: &Run) -> io::Result<()> {
        let target = self.position.as_ref().map(Position::target);
        let target = target.unwrap_or_else(|| "/ws".to_owned());
        let client = BlockingClient::connect_as(run.address, &target, run.protocol);
        if client.is_err() {
            thread::sleep(RECONNECT_DELAY);
        }
        let client = client?;
        client.limit_reads(READ_LIMIT)?;
        self.client = Some(client);
        Ok(())
    }
}

impl NumberedPublisher {
    fn new(repeats: bool) -> NumberedPublisher {
        NumberedPublisher {
            client: None,
            unacknowledged: BTreeSet::new(),
            repeats,
        }
    }

    /// Publishes these messages, one per interval.
    fn publish(&mut self, run: &Run, numbers: Range<u64>) {
        let mut due = Instant::now();
        for number in numbers {
            self.read_until(run, due);
            due += MESSAGE_INTERVAL;
            if self.repeats {
                self.unacknowledged.insert(number);
            }
            self.send(number);
            run.published.store(number + 1, Ordering::Release);
        }
    }

    /// Waits until everything is acknowledged.
    fn settle(&mut self, run: &Run) -> io::Result<()> {
        let deadline = Instant::now() + ACK_DEADLINE;
        while !self.unacknowledged.is_empty() {
            if Instant::now() >= deadline {
                let count = self.unacknowledged.len();
                return Err(io::Error::other(format!(
                    "{count} messages were not acknowledged"
                )));
            }
            self.read_until(run, Instant::now() + READ_LIMIT);
        }
        Ok(())
    }

    /// Sends one message. Without a connection it is lost, unless it is repeated.
    fn send(&mut self, number: u64) {
        if let Some(client) = &mut self.client
            && client.send(&numbered::message(number)).is_err()
        {
            self.client = None;
        }
    }

    /// Connects and repeats what is not acknowledged.
    fn connect(&mut self, run: &Run) -> io::Result<()> {
        let client = BlockingClient::connect_as(run.address, PUBLISHER_TARGET, run.protocol)?;
        client.limit_reads(READ_LIMIT)?;
        self.client = Some(client);
        for number in self.unacknowledged.clone() {
            self.send(number);
        }
        Ok(())
    }

    /// Reads acknowledgements, and the publisher's own messages, until `end`.
    fn read_until(&mut self, run: &Run, end: Instant) {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let Some(client) = &mut self.client else {
                if self.connect(run).is_err() {
                    thread::sleep(left.min(READ_LIMIT));
                }
                continue;
            };
            // A socket takes no limit of zero, and rounds up to microseconds.
            client.limit_reads(left.max(Duration::from_millis(1))).ok();
            match client.next_text() {
                Ok(frame) => {
                    if let Some(number) = acknowledged_in(frame) {
                        self.unacknowledged.remove(&number);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.client = None,
            }
        }
    }
}
