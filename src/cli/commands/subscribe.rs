//! `wscast sub`: prints the messages of rooms.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::server_flags::{Failure, ServerFlags};
use crate::client::{ClientError, Output, RoomSubscriber, Start, one_line};
use crate::protocol::{Epoch, RoomName, Since};

/// Bytes of output that are collected while more messages are there.
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// Prints each message on a line: a text as it is, anything else as JSON. A text with line breaks or control characters
/// is printed as JSON too, so that a line is a message and a terminal obeys no stranger. After an outage it
/// resumes where it was. If the server has lost messages meanwhile, stderr says which. It ends when its output is closed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    wscast sub lobby\n  \
    wscast sub --last 10 lobby ops\n  \
    wscast sub --json ops | jq .payload")]
pub(super) struct SubCommand {
    /// The rooms to read
    #[arg(value_name = "ROOM", required = true, value_parser = room)]
    rooms: Vec<RoomName>,
    /// Print whole frames, which name room, offset and publisher
    #[arg(long)]
    json: bool,
    /// First print the messages after this offset; of one room only
    #[arg(long, value_name = "OFFSET", conflicts_with = "last", value_parser = number)]
    since: Option<u64>,
    /// The epoch of that offset. Without it the offset is taken as one of the room's current epoch
    #[arg(long, value_name = "EPOCH", requires = "since", value_parser = epoch)]
    epoch: Option<Epoch>,
    /// First print this many of the last messages of each room, or as many as the server still has
    #[arg(long, value_name = "N", value_parser = number)]
    last: Option<u64>,
    #[command(flatten)]
    server: ServerFlags,
}

pub(super) fn room(text: &str) -> Result<RoomName, String> {
    RoomName::parse(text).map_err(|why| {
        format!("{why}; a room's name is 1 to 64 letters, digits, `.`, `_`, `-` or `:`")
    })
}

fn number(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| "write a whole number, 0 or more".to_owned())
}

fn epoch(text: &str) -> Result<Epoch, String> {
    text.parse()
        .map_err(|()| "write the sixteen hexadecimal digits that the server names".to_owned())
}

impl SubCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.since.is_some() && self.rooms.len() > 1 {
            let line = "--since: is an offset of one room; name one room, or use --last";
            return Err(Failure {
                line: line.to_owned(),
                code: 2,
            });
        }
        let start = match (self.since, self.last) {
            (Some(offset), _) => Start::After(Since {
                offset,
                epoch: self.epoch,
            }),
            (None, Some(count)) => Start::Last(count),
            (None, None) => Start::Now,
        };
        let mut rooms: Vec<(RoomName, Start)> = Vec::new();
        for room in self.rooms {
            if rooms.iter().all(|(known, _)| *known != room) {
                rooms.push((room, start));
            }
        }
        let cannot_write = |why| ClientError::Failed(format!("cannot write the output: {why}"));
        let mut lines = Lines::new(self.json).map_err(cannot_write)?;
        match RoomSubscriber::new(self.server.server()?, rooms, &mut lines).run() {
            ClientError::OutputClosed => Ok(()),
            error => Err(error.into()),
        }
    }
}

/// Lines on stdout.
struct Lines {
    /// Not `std::io::Stdout`, which sends every line by itself.
    out: BufWriter<File>,
    has_frames: bool,
}

impl Lines {
    fn new(has_frames: bool) -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, stdout);
        Ok(Self { out, has_frames })
    }
}

impl Output for Lines {
    fn message(&mut self, frame: &str, payload: &str) -> io::Result<()> {
        let line = if self.has_frames {
            one_line(frame)
        } else {
            line_of(payload)
        };
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn report(&mut self, line: &str) {
        // A closed stderr changes nothing.
        writeln!(io::stderr(), "wscast: {line}").ok();
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.out.get_ref().as_fd()
    }
}

/// Returns the line of a payload.
fn line_of(payload: &str) -> String {
    match serde_json::from_str::<String>(payload) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\t') => text,
        _ => one_line(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_becomes_one_line() {
        for (payload, line) in [
            (r#""hello""#, "hello"),
            (r#""tab\tand \"quotes\"""#, "tab\tand \"quotes\""),
            (r#""two\nlines""#, r#""two\nlines""#),
            (r#""\u001b[31m""#, r#""\u001b[31m""#),
            ("{\"a\":\n1}", "{\"a\": 1}"),
            ("17", "17"),
            ("\"\"", ""),
        ] {
            assert_eq!(line_of(payload), line);
        }
    }
}
