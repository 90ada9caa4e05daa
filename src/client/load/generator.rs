//! Opens the clients of a load, publishes as planned, and returns the figures.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::clients::LoadClients;
use super::figures::{LoadFigures, per_second};
use super::message::Stamp;
use super::opener;
use super::plan::{LoadPlan, Pacing};
use crate::client::connection::{Dialer, ServerAccess};
use crate::client::error::{ClientError, Lost};
use crate::client::welcome::{TOKEN_CHECK_ID, WELCOME_WITHIN};
use crate::limits::raise_descriptor_limit;
use crate::protocol::client_frames::{TEXT, client_frame};

/// Descriptors besides those of the clients: standard streams, epoll, connections that open.
const SPARE_DESCRIPTORS: usize = 64;
/// Messages before the clock starts, so that first allocations and cold caches are not measured.
const WARM_UP_MESSAGES: usize = 20;
/// Longest wait for a message of the warm-up.
const WARM_UP_SILENCE_MAX: Duration = Duration::from_secs(1);
/// Longest silence while deliveries are missing: in a closed loop, and at the end. Then they count as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Longest wait for missing deliveries at the end.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How much longer than planned messages may be published, where this program was late.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Wait for deliveries that come twice.
const DOUBLED_GRACE: Duration = Duration::from_millis(100);
/// Time between two reports of progress; also the longest time until Ctrl-C has an effect.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two looks at connections that have opened.
const OPENED_INTERVAL: Duration = Duration::from_millis(2);

/// The present activity of a load generator.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoadState {
    Opening {
        open: usize,
        wanted: usize,
    },
    Measuring {
        elapsed: Duration,
        deliveries_per_second: f64,
        p95: Option<Duration>,
    },
}

/// The watcher of a load generator.
pub(crate) trait LoadProgress {
    fn report(&mut self, state: LoadState);
    /// Returns true once the user wants it to end.
    fn is_stopped(&self) -> bool;
}

/// A load generator.
pub(crate) struct LoadGenerator<'a> {
    plan: LoadPlan,
    dialer: Dialer,
    queries: Arc<[String]>,
    clients: LoadClients,
    clients_max: usize,
    progress: &'a mut dyn LoadProgress,
    next_report: Instant,
}

impl<'a> LoadGenerator<'a> {
    /// Looks up the server, and raises the limit on descriptors.
    pub(crate) fn new(
        server: &ServerAccess,
        plan: LoadPlan,
        progress: &'a mut dyn LoadProgress,
    ) -> Result<Self, ClientError> {
        let stamp = Stamp::new();
        let names = plan.room_names(&stamp.name());
        let query = |name: &String| format!("room={}", utf8_percent_encode(name, NON_ALPHANUMERIC));
        let publishers = plan.publishers_per_room();
        let clients = LoadClients::new(stamp, plan.rooms, publishers, plan.payload_bytes);
        Ok(Self {
            dialer: server.dialer()?,
            queries: names.iter().map(query).collect(),
            clients: clients.map_err(failed)?,
            clients_max: clients_max(),
            plan,
            progress,
            next_report: Instant::now() + PROGRESS_INTERVAL,
        })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.progress.is_stopped()
    }

    /// Opens or closes connections until `count` are open, each with its welcome. After an error those that are open stay
    /// open. Returns false if the user stopped it.
    pub(crate) fn hold(&mut self, count: usize) -> Result<bool, ClientError> {
        if count > self.clients_max {
            return Err(ClientError::Failed(format!(
                "{count} clients need more descriptors than this process may have; write `ulimit -n {}` before, or at most \
                 --clients {}",
                count + SPARE_DESCRIPTORS,
                self.clients_max
            )));
        }
        self.clients.close_all_but(count);
        self.clients.start();
        let missing = count - self.clients.open();
        if missing == 0 {
            return Ok(true);
        }
        let start = self.clients.opened();
        let opened = opener::open(&self.dialer, &self.queries, start, start + missing)?;
        let mut token_check = Some(Instant::now() + WELCOME_WITHIN);
        let mut wait = WelcomeWait::new(self.dialer.connect_timeout());
        while self.clients.tally.welcomes < count {
            while let Ok(connection) = opened.try_recv() {
                let added = connection.and_then(|opened| self.clients.add(opened).map_err(failed));
                added.map_err(|error| self.opening_failed(error, count))?;
            }
            self.await_welcomes(&mut wait)
                .map_err(|error| self.opening_failed(error, count))?;
            let is_silent = self.clients.tally.welcomes == 0 && self.clients.open() > 0;
            if is_silent && token_check.is_some_and(|at| Instant::now() >= at) {
                token_check = None;
                let check = json!({"type": "presence", "room": "lobby", "id": TOKEN_CHECK_ID});
                let check = client_frame(TEXT, check.to_string().as_bytes());
                self.clients.send_from_first(&check);
            }
            if self.progress.is_stopped() {
                return Ok(false);
            }
            let open = self.clients.tally.welcomes;
            self.report(|_| LoadState::Opening {
                open,
                wanted: count,
            });
        }
        Ok(true)
    }

    /// Waits for the welcomes of the connections that are open after an error, and returns how many have one.
    pub(super) fn settle(&mut self) -> usize {
        let mut wait = WelcomeWait::new(self.dialer.connect_timeout());
        while self.clients.tally.welcomes < self.clients.open() && !self.progress.is_stopped() {
            // Connections that fail are not counted.
            if self.await_welcomes(&mut wait).is_err() && wait.is_over() {
                break;
            }
        }
        self.clients.tally.welcomes
    }

    /// Reads for a moment. An error is that of a connection that was lost, or of too long a silence.
    fn await_welcomes(&mut self, wait: &mut WelcomeWait) -> Result<(), ClientError> {
        let polled = self.clients.poll(OPENED_INTERVAL, |_, _, _| {});
        polled.map_err(failed)?;
        if let Some(lost) = self.clients.last_lost.take() {
            return Err(self.refused(&lost));
        }
        wait.update(self.clients.opened() + self.clients.tally.welcomes);
        if wait.is_over() {
            let why = format!("{}: the server sends no welcome", self.dialer.address());
            return Err(ClientError::Unreachable(why));
        }
        Ok(())
    }

    /// Adds to an error how many clients are connected, and how a server takes more.
    fn opening_failed(&self, error: ClientError, wanted: usize) -> ClientError {
        let open = self.clients.tally.welcomes;
        let add = |line: String| {
            let cure = match line.contains("this address") {
                true => {
                    "; to measure more, start the server with --max-connections-per-address 0 --max-connection-rate 0"
                }
                false => "",
            };
            format!("{open} of {wanted} clients are connected; {line}{cure}")
        };
        match error {
            error if open == 0 => error,
            ClientError::Unreachable(line) => ClientError::Unreachable(add(line)),
            ClientError::Refused(line) => ClientError::Refused(add(line)),
            ClientError::Failed(line) => ClientError::Failed(add(line)),
            ClientError::OutputClosed => error,
        }
    }

    /// Returns the error of a connection that was lost before its welcome.
    fn refused(&self, lost: &Lost) -> ClientError {
        let address = self.dialer.address();
        match lost {
            Lost::Broken(code) if code == "unauthorized" => ClientError::Refused(format!(
                "{address}: needs a token; write it in WSCAST_TOKEN or --token"
            )),
            Lost::Closed(4000..=4099, _) => ClientError::Refused(format!("{address}: {lost}")),
            _ => ClientError::Unreachable(format!("{address}: {lost}")),
        }
    }

    /// Publishes as planned, waits for the deliveries, and returns the figures.
    pub(crate) fn measure(&mut self) -> Result<LoadFigures, ClientError> {
        self.warm_up().map_err(failed)?;
        self.clients.start();
        let clients = self.clients.open();
        let cpu_before = cpu_time();
        let (start, started) = (Instant::now(), self.clients.tally.stamp.now());
        match self.plan.pacing {
            Pacing::PerSecond(rate) => self.open_loop(rate, start),
            Pacing::Outstanding(count) => self.closed_loop(count, start),
        }
        .map_err(failed)?;
        let published_for = start.elapsed();
        let busy = (cpu_time() - cpu_before).as_secs_f64() / published_for.as_secs_f64();
        let was_stopped = self.progress.is_stopped();
        self.drain().map_err(failed)?;
        let (lost, doubled) = self.clients.missing_and_doubled();
        let tally = &self.clients.tally;
        Ok(LoadFigures {
            clients,
            rooms: self.plan.rooms,
            payload_bytes: self.plan.payload_bytes,
            published: self.clients.published(),
            published_for,
            refusals: tally.refusals.clone(),
            deliveries: tally.deliveries,
            delivered_for: tally.last_delivery.saturating_sub(started),
            lost,
            doubled,
            closed: self.clients.closed.clone(),
            latencies: tally.latencies.clone(),
            busy,
            was_stopped,
        })
    }

    /// Publishes a few messages, each after the deliveries of the one before.
    fn warm_up(&mut self) -> io::Result<()> {
        self.clients.start();
        for number in 0..WARM_UP_MESSAGES {
            self.clients.publish(number % self.plan.rooms);
            let deadline = Instant::now() + WARM_UP_SILENCE_MAX;
            while self.clients.awaits_deliveries() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || self.progress.is_stopped() {
                    return Ok(());
                }
                self.clients
                    .poll(left.min(PROGRESS_INTERVAL), |_, _, _| {})?;
            }
        }
        Ok(())
    }

    /// Publishes at fixed times, to the rooms in turn.
    fn open_loop(&mut self, rate: f64, start: Instant) -> io::Result<()> {
        let interval = Duration::from_secs_f64(1.0 / rate);
        let planned = (rate * self.plan.duration.as_secs_f64()).ceil() as u64;
        let late_max = start + self.plan.duration + LATE_MAX;
        let (mut due, mut room) = (start, 0);
        while !self.is_over(start)
            // The last messages may be late.
            || (self.clients.published() < planned && !self.is_ended() && Instant::now() < late_max)
        {
            let wait = match due.saturating_duration_since(Instant::now()) {
                _ if self.clients.published() >= planned => OPENED_INTERVAL,
                Duration::ZERO if self.clients.publish(room) => {
                    room = (room + 1) % self.plan.rooms;
                    // Counted from the due time, so that a late message does not lower the rate.
                    due += interval;
                    Duration::ZERO
                }
                // All publishers' sockets are full.
                Duration::ZERO => OPENED_INTERVAL,
                wait => wait.min(PROGRESS_INTERVAL),
            };
            self.clients.poll(wait, |_, _, _| {})?;
        }
        Ok(())
    }

    /// Publishes the next message when the publisher of a room receives one of its own.
    fn closed_loop(&mut self, outstanding: u64, start: Instant) -> io::Result<()> {
        for room in 0..self.plan.rooms {
            for _ in 0..outstanding {
                self.clients.publish(room);
            }
        }
        let end = start + self.plan.duration;
        let (mut deliveries, mut heard_at) = (0, Instant::now());
        while !self.is_over(start) && heard_at.elapsed() < SILENCE_MAX {
            self.clients.poll(PROGRESS_INTERVAL, |clients, room, own| {
                if Instant::now() < end {
                    for _ in 0..own {
                        clients.publish(room);
                    }
                }
            })?;
            if self.clients.tally.deliveries != deliveries {
                (deliveries, heard_at) = (self.clients.tally.deliveries, Instant::now());
            } else if !self.clients.awaits_deliveries() {
                // The server has refused all messages that were on their way.
                break;
            }
        }
        Ok(())
    }

    /// Returns whether the measurement is to end, and reports progress.
    fn is_over(&mut self, start: Instant) -> bool {
        self.report(|clients| LoadState::Measuring {
            elapsed: start.elapsed(),
            deliveries_per_second: per_second(clients.tally.deliveries, start.elapsed()),
            p95: clients.tally.latencies.quantile(0.95),
        });
        start.elapsed() >= self.plan.duration || self.is_ended()
    }

    /// Returns whether the user wants an end, or no connection is left.
    fn is_ended(&self) -> bool {
        self.progress.is_stopped() || self.clients.open() == 0
    }

    /// Waits for the missing deliveries, as long as some arrive.
    fn drain(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + DRAIN_MAX;
        let (mut deliveries, mut heard_at) = (self.clients.tally.deliveries, Instant::now());
        while self.clients.awaits_deliveries() && Instant::now() < deadline {
            self.clients.poll(DOUBLED_GRACE, |_, _, _| {})?;
            if self.clients.tally.deliveries != deliveries {
                (deliveries, heard_at) = (self.clients.tally.deliveries, Instant::now());
            } else if heard_at.elapsed() > SILENCE_MAX {
                break;
            }
        }
        let end = Instant::now() + DOUBLED_GRACE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.clients.poll(left, |_, _, _| {})?;
        }
    }

    fn report(&mut self, state: impl FnOnce(&LoadClients) -> LoadState) {
        let now = Instant::now();
        if now >= self.next_report {
            self.next_report = now + PROGRESS_INTERVAL;
            self.progress.report(state(&self.clients));
        }
    }
}

impl Drop for LoadGenerator<'_> {
    fn drop(&mut self) {
        self.clients.close_all_but(0);
    }
}

/// The wait for connections and their welcomes, which ends after too long a silence.
struct WelcomeWait {
    silence_max: Duration,
    count: usize,
    heard_at: Instant,
}

impl WelcomeWait {
    fn new(silence_max: Duration) -> Self {
        Self {
            silence_max,
            count: 0,
            heard_at: Instant::now(),
        }
    }

    /// Takes note of what has come so far.
    fn update(&mut self, count: usize) {
        if count != self.count {
            (self.count, self.heard_at) = (count, Instant::now());
        }
    }

    fn is_over(&self) -> bool {
        // The thread that opens a connection gives up a little earlier.
        self.heard_at.elapsed() > self.silence_max + WELCOME_WITHIN
    }
}

/// Raises the limit on descriptors, and returns the clients that it allows.
fn clients_max() -> usize {
    raise_descriptor_limit().map_or(usize::MAX, |max| max.saturating_sub(SPARE_DESCRIPTORS))
}

fn failed(why: io::Error) -> ClientError {
    ClientError::Failed(format!("the load generator failed: {why}"))
}

/// Returns the CPU time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
