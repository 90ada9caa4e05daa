//! `wscast pub`: publishes a message, or each line of standard input.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::server_flags::{Failure, ServerFlags};
use super::subscribe::room;
use crate::client::{ClientError, Input, LinePublisher, PublishProgress};
use crate::protocol::RoomName;

/// Time after which progress is shown on a terminal.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// Waits until the server has stored each message. After an outage it sends what was not acknowledged again, and the
/// server recognizes what it has: each line is there once. Lines keep their order, unless the server limits the rate or its
/// store fails for a moment. A token must grant reading and publishing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    wscast pub lobby hello, world\n  \
    tail -f app.log | wscast pub logs\n  \
    wscast pub --json sensors '{\"temperature\": 21.5}'")]
pub(super) struct PubCommand {
    /// The room to publish to
    #[arg(value_name = "ROOM", value_parser = room)]
    room: RoomName,
    /// The words of a message, with spaces between them. Without it, each line of standard input is a message
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
    /// The text, or each line, is the JSON of a payload; otherwise it is a text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

impl PubCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut meter = Meter::new(self.text.is_empty());
        let input = if self.text.is_empty() {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            let failed = |why| ClientError::Failed(format!("cannot read the input: {why}"));
            Input::lines(stdin.map_err(failed)?)
        } else {
            Input::text(self.text.join(" "))
        };
        let server = self.server.server()?;
        let publisher = LinePublisher::new(server, self.room, input, self.json, &mut meter);
        let published = publisher.run();
        meter.clear();
        Ok(published?)
    }
}

/// Shows on a terminal how many lines are stored, once that takes long.
struct Meter {
    is_shown: bool,
    started: Instant,
    has_line: bool,
}

impl Meter {
    /// Lines that a person types need no progress.
    fn new(has_lines: bool) -> Self {
        Self {
            is_shown: has_lines && io::stderr().is_terminal() && !io::stdin().is_terminal(),
            started: Instant::now(),
            has_line: false,
        }
    }

    /// Removes the progress from the terminal.
    fn clear(&mut self) {
        if std::mem::take(&mut self.has_line) {
            // A closed stderr changes nothing.
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

impl PublishProgress for Meter {
    fn report(&mut self, line: &str) {
        self.clear();
        // A closed stderr changes nothing.
        writeln!(io::stderr(), "wscast: {line}").ok();
    }

    fn stored(&mut self, count: u64) {
        let elapsed = self.started.elapsed();
        if self.is_shown && elapsed >= PROGRESS_AFTER {
            let rate = count as f64 / elapsed.as_secs_f64();
            // A closed stderr changes nothing.
            write!(
                io::stderr(),
                "\r{count} lines stored, {rate:.0} per second\x1b[K"
            )
            .ok();
            self.has_line = true;
        }
    }
}
