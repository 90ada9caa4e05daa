//! A server under attack: what it holds before, and whether it serves and is back there afterwards.

use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{RawConnection, TestClient, TestServer, eventually};

/// Where the witness is; attackers go elsewhere.
const WITNESS: &str = "/ws?room=witness";

/// How soon a broadcast arrives once an attack is over.
const BROADCAST_WITHIN: Duration = Duration::from_secs(1);

/// What an attack may leave in resident memory after one like it has gone before. Nothing of a client stays,
/// but an allocator keeps pages it was given, and how many depends on which threads met: up to sixteen
/// arenas on two cores. Most attacks would leave more than this if they left a body, a buffer or a thread's
/// stack each.
const RSS_ALLOWANCE_KIB: u64 = 12 * 1024;

/// A server with a well-behaved client, and what both of them cost.
pub struct Siege {
    pub server: TestServer,
    witness: TestClient,
    /// Asks without costing a connection each time.
    monitor: RawConnection,
    before: Footprint,
}

/// What a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footprint {
    clients: u64,
    connections: u64,
    threads: u64,
    descriptors: u64,
}

impl Siege {
    /// A server with a short head time-out besides these arguments.
    pub fn begin(args: &[&str]) -> Self {
        let server = TestServer::start(&[&["--head-timeout=2", "--keep-alive=600"], args].concat());
        let witness = server.client_at(WITNESS);
        let mut monitor = server.raw();
        // A session is counted before its welcome, so one client and one monitor is all there is.
        let before = eventually("nobody else is connected", || {
            let footprint = Footprint::of(&server, &mut monitor);
            ((footprint.clients, footprint.connections) == (1, 2)).then_some(footprint)
        });
        Self {
            server,
            witness,
            monitor,
            before,
        }
    }

    /// A broadcast still reaches normal clients, those who come now as well.
    pub fn serves(&mut self, what: &str) {
        self.broadcast(what);
        let mut newcomer = self.server.client_at(WITNESS);
        newcomer.say("newcomer");
        newcomer.expect("newcomer");
        self.witness.expect("newcomer");
        newcomer.close();
    }

    /// A broadcast still reaches who is there, and takes this long.
    pub fn broadcast(&mut self, what: &str) -> Duration {
        let begun = Instant::now();
        self.witness.say(what);
        self.witness.expect(what);
        begun.elapsed()
    }

    /// Attacks twice. After the second time memory is back as well where it was after the first, which
    /// loads and allocates what any client does.
    pub fn endures(&mut self, what: &str, mut attack: impl FnMut(&mut Self)) {
        attack(self);
        self.survives(what);
        let settled = self.server.rss_kib();
        attack(self);
        self.survives(what);
        let allowed = settled + RSS_ALLOWANCE_KIB;
        let mut now = 0;
        let back = came_true(|| {
            eventually("memory is given back", || {
                now = self.server.rss_kib();
                (now <= allowed).then_some(())
            });
        });
        println!("{what}: {settled} KiB after the first time, {now} KiB after the second");
        assert!(back, "{what}: {now} KiB resident, {settled} before");
    }

    /// A broadcast still reaches a normal client, within a second, and what the attackers held is given back.
    pub fn survives(&mut self, what: &str) {
        // Their last words may still be under way, so the first need not be as quick.
        eventually("a broadcast within a second", || {
            (self.broadcast(what) < BROADCAST_WITHIN).then_some(())
        });
        self.serves(what);
        let mut held = self.before;
        let before = self.before;
        let back = came_true(|| {
            eventually("all is given back", || {
                held = Footprint::of(&self.server, &mut self.monitor);
                held.is_within(before).then_some(())
            });
        });
        assert!(back, "{what}: held {before:?} before, {held:?} now");
        assert!(!self.server.log().contains("panicked"), "{what}");
    }
}

/// Whether it came true; a caller who says more of the failure than a panic would.
fn came_true(wait: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)).is_ok()
}

impl Footprint {
    fn of(server: &TestServer, monitor: &mut RawConnection) -> Self {
        let stats = monitor.get("/stats").json();
        let proc = format!("/proc/{}", server.pid());
        let status = fs::read_to_string(format!("{proc}/status")).expect("status");
        let threads = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
        Self {
            clients: stats["connected_clients"].as_u64().expect("a number"),
            connections: stats["connections"].as_u64().expect("a number"),
            threads: threads.expect("Threads"),
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

/// Chance that can be repeated: its seed is printed and can be given as `TEST_SEED`.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        let given = std::env::var("TEST_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.unwrap_or(Duration::ZERO).as_nanos() as u64
            },
            |seed| seed.parse().expect("TEST_SEED is a number"),
        );
        println!("repeat with TEST_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + (self.number() % (range.end - range.start) as u64) as usize
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }
}
