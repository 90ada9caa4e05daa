//! `wscast bench`: measures a server with many clients.

mod json;
mod text;
mod watch;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use self::watch::Watch;
use super::server_flags::{Failure, ServerFlags};
use super::subscribe::room;
use crate::cli::flags::values;
use crate::client::{
    ClientError, LoadFigures, LoadGenerator, LoadPlan, PAYLOAD_BYTES_MIN, Pacing, ServerAddress,
    find_clients,
};
use crate::protocol::RoomName;

/// Exit code if messages were lost, doubled or refused, or connections were closed.
const EXIT_LOSSES: u8 = 5;
/// Clients without `--clients`, and the most of them that `--find-clients` tries.
const CLIENTS: usize = 100;
const CLIENTS_FOUND_MAX: usize = 10_000;
/// Bounds of what may be asked for.
const CLIENTS_MAX: usize = 1_000_000;
const RATE_MAX: f64 = 1_000_000.0;
const OUTSTANDING_MAX: usize = 10_000;
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// Connects many clients, publishes, and measures how late the messages arrive at each of them. The room is new, unless
/// --room names one. Ctrl-C ends it with the figures so far; a second one ends it at once. Start the server that is to
/// be measured with --max-connections-per-address 0 --max-connection-rate 0 --max-request-rate 0, because all clients have
/// one address
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    wscast bench --clients 400 ws://127.0.0.1:5000\n  \
    wscast bench --clients 1000 --outstanding 4 ws://127.0.0.1:5000\n  \
    wscast bench --find-clients --json ws://127.0.0.1:5000")]
pub(super) struct BenchCommand {
    /// The server, in place of --url
    #[arg(value_name = "URL")]
    target: Option<ServerAddress>,
    /// Clients to connect; with --find-clients the most that are tried [default: 100, with --find-clients 10000]
    #[arg(long, value_name = "N", value_parser = clients)]
    clients: Option<usize>,
    /// Rooms, to which clients and messages go in turn
    #[arg(long, value_name = "N", default_value = "1", value_parser = clients)]
    rooms: usize,
    /// Name of the room, or with --rooms the start of their names, where a token grants only that; else they are new
    #[arg(long, value_name = "ROOM", value_parser = room)]
    room: Option<RoomName>,
    /// Messages per second, in all rooms together
    #[arg(long, value_name = "N", default_value = "50", value_parser = rate, conflicts_with = "outstanding")]
    rate: f64,
    /// Publish the next message as soon as one of these many in a room has come back: as fast as the server can
    #[arg(long, value_name = "N", value_parser = outstanding)]
    outstanding: Option<usize>,
    /// Clients of each room that publish in turn [default: one for each 50 messages per second]
    #[arg(long, value_name = "N", value_parser = clients)]
    publishers: Option<usize>,
    /// Size of each message's text
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = payload)]
    payload: usize,
    /// How long to measure; with --find-clients, each step
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = bounded_duration)]
    duration: Duration,
    /// Search for the number of clients that the server can hold: more and more, until the latency is too long
    #[arg(long)]
    find_clients: bool,
    /// The latency that 95 of 100 deliveries may have with --find-clients
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = bounded_duration)]
    p95: Duration,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

fn up_to(text: &str, max: usize) -> Result<usize, String> {
    let number = values::count(text).ok().filter(|number| *number <= max);
    number.ok_or_else(|| format!("write a whole number from 1 to {max}"))
}

fn clients(text: &str) -> Result<usize, String> {
    up_to(text, CLIENTS_MAX)
}

fn outstanding(text: &str) -> Result<usize, String> {
    up_to(text, OUTSTANDING_MAX)
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|rate: &f64| *rate > 0.0 && *rate <= RATE_MAX)
        .ok_or_else(|| format!("write a number above 0, at most {RATE_MAX}"))
}

fn payload(text: &str) -> Result<usize, String> {
    let bytes = values::size(text).ok();
    bytes
        .filter(|bytes| (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(bytes))
        .ok_or_else(|| {
            format!(
                "write a size from {PAYLOAD_BYTES_MIN} (each has the time at which it was sent) to 16MiB"
            )
        })
}

fn bounded_duration(text: &str) -> Result<Duration, String> {
    match values::duration(text)? {
        long if long > DURATION_MAX => Err("write 24h or less".to_owned()),
        duration => Ok(duration),
    }
}

impl BenchCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let clients = self.clients.unwrap_or(match self.find_clients {
            true => CLIENTS_FOUND_MAX,
            false => CLIENTS,
        });
        if self.rooms > clients {
            let (rooms, line) = (self.rooms, "write at most as many rooms as clients");
            return Err(Failure {
                line: format!("--rooms {rooms}: {line}; there are {clients} clients"),
                code: 2,
            });
        }
        let plan = LoadPlan {
            rooms: self.rooms,
            room: self.room,
            pacing: match self.outstanding {
                Some(count) => Pacing::Outstanding(count as u64),
                None => Pacing::PerSecond(self.rate),
            },
            publishers: self.publishers,
            payload_bytes: self.payload,
            duration: self.duration,
        };
        let mut server = self.server.server()?;
        if let Some(target) = self.target {
            server.address = target;
        }
        let address = server.address.to_string();
        let cannot_handle = |why| ClientError::Failed(format!("cannot handle signals: {why}"));
        let mut watch = Watch::new(self.duration).map_err(cannot_handle)?;
        let mut generator = LoadGenerator::new(&server, plan, &mut watch)?;
        if self.find_clients {
            let search = Search {
                clients_max: clients,
                p95_max: self.p95,
                address,
                has_json: self.json,
            };
            return search.run(&mut generator);
        }
        if !generator.hold(clients)? {
            let line = "stopped before the clients were connected".to_owned();
            return Err(ClientError::Failed(line).into());
        }
        let figures = generator.measure()?;
        // Closes the connections and removes the progress from the terminal.
        drop(generator);
        print(&match self.json {
            true => format!("{}\n", json::figures(&address, &figures)),
            false => text::figures(&address, &figures),
        });
        losses(&figures).map_or(Ok(()), Err)
    }
}

/// A search for the number of clients.
struct Search {
    clients_max: usize,
    p95_max: Duration,
    address: String,
    has_json: bool,
}

impl Search {
    fn run(&self, generator: &mut LoadGenerator<'_>) -> Result<(), Failure> {
        let mut steps = Vec::new();
        if !self.has_json {
            print(&text::search_heading(&self.address));
        }
        let found = find_clients(
            generator,
            self.clients_max,
            self.p95_max,
            |figures, held| {
                if self.has_json {
                    steps.push(json::step(figures, held));
                } else {
                    print(&text::step(figures, held));
                }
            },
        )?;
        print(&match self.has_json {
            true => format!(
                "{}\n",
                json::search(&self.address, self.p95_max, steps, &found)
            ),
            false => text::search_end(self.p95_max, &found),
        });
        match found.held {
            Some(_) => Ok(()),
            None => Err(Failure {
                line: found.end,
                code: EXIT_LOSSES,
            }),
        }
    }
}

/// Returns the failure of a measurement with losses.
fn losses(figures: &LoadFigures) -> Option<Failure> {
    let mut parts = Vec::new();
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    count(figures.lost, "deliveries were lost");
    count(figures.doubled, "deliveries came twice");
    count(figures.refused(), "messages were refused");
    count(figures.closed_clients(), "connections were closed");
    (!parts.is_empty()).then(|| Failure {
        line: parts.join(", "),
        code: EXIT_LOSSES,
    })
}

/// Prints to stdout. A closed stdout changes nothing.
fn print(text: &str) {
    let mut out = io::stdout();
    if out.is_terminal() && io::stderr().is_terminal() {
        // Removes the progress.
        out.write_all(b"\r\x1b[K").ok();
    }
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}
