//! Case M: one message to many members of a room, with one core and with two for the server.
//!
//! The load generator keeps its core in both setups. With two cores the server's second thread therefore shares its core
//! with the reading clients, and the gain is smaller than on a machine with a core for each. To see the server alone,
//! the clients also sleep while it sends, and read afterwards.

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::client_group::ClientGroup;
use crate::comparison::{Comparison, Definition, Figure};
use crate::fanout_report::{CPU_PER_DELIVERY, DELIVERIES};
use crate::load::{DRAIN_DEADLINE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load};
use crate::machine::ServerCores;
use crate::measurements::Bench;
use crate::report::{Columns, Row, Target};
use crate::servers::{Server, ServerKind};
use crate::stats::HistogramTotals;

/// The CPU time per delivery of two threads, beside one.
const COST: Target = Target::RatioMax(1.05);

const LOAD: Load = Load::Outstanding(4);

/// Messages that are sent one by one.
const MESSAGES: u32 = 20;

/// How long clients sleep for each member of the room. The server needs less to send the message.
const SLEEP_PER_MEMBER: Duration = Duration::from_micros(15);

/// The histogram of fan-out times. Older servers do not have it.
const FAN_OUT: &str = "wscast_fan_out_seconds";

/// The behaviour of clients while a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    Read,
    Sleep,
}

/// The means over the messages.
#[derive(Clone, Copy, Debug)]
struct MessageFigures {
    /// The time from the first to the last read of the message by a client.
    spread_ms: f64,
    /// The time in which the server sent the message.
    fan_out_ms: f64,
    cpu_us_per_delivery: f64,
}

const SPREAD: Definition<MessageFigures> =
    ("first to last delivery", "ms", |message| message.spread_ms);
const FAN_OUT_TIME: Definition<MessageFigures> =
    ("fan-out in the server", "ms", |message| message.fan_out_ms);
const CPU: Definition<MessageFigures> = ("CPU per delivery", "µs", |message| {
    message.cpu_us_per_delivery
});

pub(crate) fn rows(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for members in bench.options.members() {
        for (clients, definitions) in [
            (Clients::Read, &[SPREAD, FAN_OUT_TIME][..]),
            (Clients::Sleep, &[FAN_OUT_TIME]),
        ] {
            let title = format!("M  {members} members that {clients}");
            let mut figures = Figure::all(&title, definitions);
            figures.push(Figure::titled(&title, CPU).with_target(COST));
            let comparison = comparison(title, figures);
            rows.extend(comparison.rows(bench, |bench, cores| {
                bench.single_messages(members, clients, cores)
            })?);
        }
        let title = format!("M  {members} members, {LOAD}");
        let mut figures = Figure::all(&title, &[DELIVERIES]);
        figures.push(Figure::titled(&title, CPU_PER_DELIVERY).with_target(COST));
        let comparison = comparison(title, figures);
        rows.extend(comparison.rows(bench, |bench, cores| {
            let (mut server, clients) = bench.start_with_members(members, cores)?;
            let publisher = Publisher::new(&clients, 1)?;
            bench.fanout_to(&mut server, clients, publisher, LOAD)
        })?);
    }
    Ok(rows)
}

fn comparison<M>(title: String, figures: Vec<Figure<M>>) -> Comparison<ServerCores, M> {
    Comparison {
        title,
        columns: Columns::OneAndTwoCores,
        sides: [ServerCores::One, ServerCores::Two],
        figures,
    }
}

impl Bench {
    fn start_with_members(
        &self,
        members: usize,
        cores: ServerCores,
    ) -> io::Result<(Server, ClientGroup)> {
        let server = self.with_server_cores(cores).start(ServerKind::Wscast)?;
        let clients = self.clients(&server, members)?;
        Ok((server, clients))
    }

    /// Measures messages that are sent one by one, each after all clients have read the one before.
    fn single_messages(
        &self,
        members: usize,
        mode: Clients,
        cores: ServerCores,
    ) -> io::Result<MessageFigures> {
        let (mut server, mut clients) = self.start_with_members(members, cores)?;
        let mut publisher = Publisher::new(&clients, 1)?;
        let warm_up = Until::Published(WARM_UP_MESSAGES);
        run_load(&mut clients, &mut publisher, Load::Outstanding(1), warm_up)?;

        clients.reset_counts();
        publisher.published = 0;
        let before = HistogramTotals::fetch(server.address, FAN_OUT)?;
        let cpu_before = server.cpu()?;
        let mut spread = Duration::ZERO;
        for _ in 0..MESSAGES {
            publisher.publish(1)?;
            if mode == Clients::Sleep {
                thread::sleep(SLEEP_PER_MEMBER * members as u32);
            }
            spread += read_message(&mut clients, publisher.published)?;
        }
        let cpu = server.cpu()?.since(&cpu_before);
        let fan_out = HistogramTotals::fetch(server.address, FAN_OUT)?.since(&before);

        server.check_alive()?;
        clients.check_counts(publisher.published)?;
        Ok(MessageFigures {
            spread_ms: spread.as_secs_f64() * 1e3 / f64::from(MESSAGES),
            fan_out_ms: fan_out.mean_seconds() * 1e3,
            cpu_us_per_delivery: cpu.as_secs_f64() * 1e6 / clients.received() as f64,
        })
    }
}

/// Reads until all clients have this many messages. Returns the time from the first to the last one read.
fn read_message(clients: &mut ClientGroup, published: u64) -> io::Result<Duration> {
    let before = clients.received();
    let deadline = Instant::now() + DRAIN_DEADLINE;
    clients.receive(before + 1, deadline)?;
    let first = Instant::now();
    clients.receive(published * clients.len() as u64, deadline)?;
    Ok(first.elapsed())
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clients::Read => "read",
            Clients::Sleep => "sleep",
        })
    }
}
