//! A server under attack: the resources it holds before, and whether it serves and has freed all others afterwards.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{RawConnection, TestClient, TestServer, wait_for, wait_until};

/// The room of the bystander; attackers use other rooms.
const BYSTANDER: &str = "/ws?room=bystander";

/// The time in which a broadcast must arrive once an attack is over.
const BROADCAST_MAX: Duration = Duration::from_secs(1);

/// The growth of resident memory that is allowed from the first attack to a second one of the same kind. No
/// state of a client stays, but the allocator keeps pages: how many depends on which threads ran at once, as
/// there are up to sixteen arenas on two cores. Most attacks would leave more than this if each connection
/// leaked a body, a buffer or a thread's stack.
const RSS_GROWTH_KIB_MAX: u64 = 12 * 1024;

/// A server, a well-behaved client beside the attackers, and the cost of both.
pub struct AttackedServer {
    pub server: TestServer,
    bystander: TestClient,
    /// Reads `/stats` on one connection, so that reading costs no further one.
    monitor: RawConnection,
    before: Footprint,
}

/// Resources that a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footprint {
    clients: u64,
    connections: u64,
    threads: u64,
    descriptors: u64,
}

impl AttackedServer {
    /// Starts a server with a short head time-out besides these arguments.
    pub fn start(args: &[&str]) -> Self {
        let server = TestServer::start(&[&["--head-timeout=2", "--keep-alive=600"], args].concat());
        let bystander = server.client_at(BYSTANDER);
        let mut monitor = server.raw();
        // A session is counted before its welcome, so one client and one monitor are all there is.
        let before = wait_for("only bystander and monitor are connected", || {
            let footprint = Footprint::of(&server, &mut monitor);
            ((footprint.clients, footprint.connections) == (1, 2)).then_some(footprint)
        });
        Self {
            server,
            bystander,
            monitor,
            before,
        }
    }

    /// Asserts that a broadcast reaches the bystander, and that a new client can connect and publish.
    pub fn assert_serves(&mut self, what: &str) {
        self.broadcast(what);
        let mut newcomer = self.server.client_at(BYSTANDER);
        newcomer.say("newcomer");
        newcomer.expect("newcomer");
        self.bystander.expect("newcomer");
        newcomer.close();
    }

    /// Publishes, waits for the bystander's copy, and returns the time that took.
    pub fn broadcast(&mut self, what: &str) -> Duration {
        let start = Instant::now();
        self.bystander.say(what);
        self.bystander.expect(what);
        start.elapsed()
    }

    /// Attacks twice and asserts recovery each time. The first attack loads and allocates what any client does;
    /// after the second one memory must be back at the level after the first.
    pub fn withstands(&mut self, what: &str, mut attack: impl FnMut(&mut Self)) {
        attack(self);
        self.assert_recovers(what);
        let settled = self.server.rss_kib();
        attack(self);
        self.assert_recovers(what);
        let allowed = settled + RSS_GROWTH_KIB_MAX;
        let mut now = 0;
        let back = in_time(|| {
            wait_until("memory is given back", || {
                now = self.server.rss_kib();
                now <= allowed
            });
        });
        println!("{what}: {settled} KiB after the first attack, {now} KiB after the second");
        assert!(back, "{what}: {now} KiB resident, {settled} before");
    }

    /// Asserts that a broadcast arrives within a second again, and that all the attackers' resources are freed.
    pub fn assert_recovers(&mut self, what: &str) {
        // The attackers' last bytes may still be in flight, so the first broadcasts need not be as quick.
        wait_until("a broadcast arrives within a second", || {
            self.broadcast(what) < BROADCAST_MAX
        });
        self.assert_serves(what);
        let mut held = self.before;
        let before = self.before;
        let back = in_time(|| {
            wait_until("all resources are freed", || {
                held = Footprint::of(&self.server, &mut self.monitor);
                held.is_within(before)
            });
        });
        assert!(back, "{what}: held {before:?} before, {held:?} now");
        assert!(!self.server.log().contains("panicked"), "{what}");
    }
}

/// Returns whether `wait` ended without a time-out, for callers whose own assertion shows more.
fn in_time(wait: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(wait)).is_ok()
}

impl Footprint {
    fn of(server: &TestServer, monitor: &mut RawConnection) -> Self {
        let stats = monitor.get("/stats").json();
        let number = |name: &str| stats[name].as_u64().expect("a number in /stats");
        let proc = format!("/proc/{}", server.pid());
        let status = fs::read_to_string(format!("{proc}/status")).expect("status");
        let threads = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
        Self {
            clients: number("connected_clients"),
            connections: number("connections"),
            threads: threads.expect("Threads in status"),
            descriptors: fs::read_dir(format!("{proc}/fd")).expect("fd").count() as u64,
        }
    }

    fn is_within(self, before: Self) -> bool {
        self.clients == before.clients
            && self.connections == before.connections
            && self.threads <= before.threads
            && self.descriptors <= before.descriptors
    }
}
