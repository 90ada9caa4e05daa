//! Reads rooms for as long as it can, and resumes them after every outage.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::event::PollFlags;
use serde_json::json;

use super::connection::{ClientConnection, ServerAccess};
use super::error::{ClientError, Lost};
use super::frame::{EnteredRoom, ErrorPayload, HistoryPayload, ServerFrame};
use super::reconnect::Reconnect;
use super::room::{Room, Start};
use super::wait::wait;
use super::welcome::{TOKEN_CHECK_ID, WelcomeDeadline};
use crate::protocol::RoomName;

/// Where a subscriber's messages go.
pub(crate) trait Output {
    /// Writes a message: its whole frame and its payload, both JSON.
    fn message(&mut self, frame: &str, payload: &str) -> io::Result<()>;
    /// Sends what was written, because no more messages are there now.
    fn flush(&mut self) -> io::Result<()>;
    /// Reports an outage or a gap: one line.
    fn report(&mut self, line: &str);
    /// Returns the descriptor of the output, which is closed when its reader ends.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// Reads rooms.
pub(crate) struct RoomSubscriber<'a> {
    server: ServerAccess,
    rooms: Vec<Room>,
    output: &'a mut dyn Output,
}

/// The reason why reading stopped.
enum SubscribeStop {
    Lost(Lost),
    Client(ClientError),
}

impl From<Lost> for SubscribeStop {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<io::Error> for SubscribeStop {
    fn from(why: io::Error) -> Self {
        Self::Client(match why.kind() {
            io::ErrorKind::BrokenPipe => ClientError::OutputClosed,
            _ => ClientError::Failed(format!("cannot write the output: {why}")),
        })
    }
}

impl<'a> RoomSubscriber<'a> {
    pub(crate) fn new(
        server: ServerAccess,
        rooms: Vec<(RoomName, Start)>,
        output: &'a mut dyn Output,
    ) -> Self {
        let rooms = rooms
            .into_iter()
            .map(|(name, start)| Room::new(name, start));
        Self {
            server,
            rooms: rooms.collect(),
            output,
        }
    }

    /// Reads until the server refuses this client or the output is closed. A server that cannot be reached at the start
    /// is an error; later it is waited for.
    pub(crate) fn run(mut self) -> ClientError {
        let mut reconnect = Reconnect::default();
        let mut was_connected = false;
        loop {
            let read = self
                .server
                .connect(&self.query())
                .map_err(SubscribeStop::Client);
            let read = read.and_then(|connection| {
                reconnect.connected();
                self.read(connection, &mut was_connected)
            });
            let Err(stop) = read;
            self.rooms.iter_mut().for_each(Room::left);
            let lost = match stop {
                SubscribeStop::Client(ClientError::Unreachable(why)) if was_connected => {
                    Lost::Broken(why)
                }
                SubscribeStop::Client(error) => return error,
                SubscribeStop::Lost(lost) => lost,
            };
            let Some(delay) = reconnect.delay_after(&lost) else {
                return ClientError::Refused(lost.to_string());
            };
            if !was_connected {
                return ClientError::Unreachable(lost.to_string());
            }
            let seconds = delay.as_secs_f32();
            self.output
                .report(&format!("{lost}; connecting again in {seconds:.1} s"));
            if let Err(error) = self.pause(Instant::now() + delay) {
                return error;
            }
        }
    }

    /// Waits while the output is open.
    fn pause(&self, until: Instant) -> Result<(), ClientError> {
        while Instant::now() < until {
            let [output] = wait(&[(self.output.fd(), PollFlags::empty())], until)[..] else {
                continue;
            };
            if !output.is_empty() {
                return Err(ClientError::OutputClosed);
            }
        }
        Ok(())
    }

    /// Returns the query of a connection that resumes every room.
    fn query(&self) -> String {
        let mut query = Vec::new();
        // Each position belongs to the room at the same place in the list, so rooms without one come last.
        let (resumed, others): (Vec<&Room>, _) =
            self.rooms.iter().partition(|room| room.since().is_some());
        for room in resumed.iter().chain(&others) {
            let name = utf8_percent_encode(room.name.as_str(), NON_ALPHANUMERIC);
            query.push(format!("room={name}"));
        }
        for since in resumed.into_iter().filter_map(Room::since) {
            query.push(format!("since={}", since.offset));
            query.extend(since.epoch.map(|epoch| format!("epoch={epoch}")));
        }
        query.join("&")
    }

    fn read(
        &mut self,
        mut connection: ClientConnection,
        was_connected: &mut bool,
    ) -> Result<std::convert::Infallible, SubscribeStop> {
        let mut welcome = WelcomeDeadline::new(&self.server);
        let mut is_welcome = false;
        loop {
            while let Some(text) = connection.receive()? {
                self.frame(&text, &mut connection, &mut is_welcome)?;
            }
            *was_connected |= is_welcome;
            connection.flush()?;
            self.output.flush()?;
            let mut until = connection.check_silence()?;
            if !is_welcome {
                until = until.min(welcome.check(&mut connection, &self.rooms[0].name)?);
                connection.flush()?;
            }
            let fds = [
                connection.interest(),
                (self.output.fd(), PollFlags::empty()),
            ];
            let ready = wait(&fds, until);
            if !ready[1].is_empty() {
                return Err(SubscribeStop::Client(ClientError::OutputClosed));
            }
            if ready[0].contains(PollFlags::IN) {
                connection.heard();
            }
        }
    }

    fn frame(
        &mut self,
        text: &str,
        connection: &mut ClientConnection,
        is_welcome: &mut bool,
    ) -> Result<(), SubscribeStop> {
        let Some(frame) = ServerFrame::parse(text) else {
            return Ok(());
        };
        if !*is_welcome && frame.is_welcome() {
            *is_welcome = true;
            for state in frame.rooms.iter().flatten() {
                self.entered(state, connection)?;
            }
            return Ok(());
        }
        match (frame.kind, frame.room, frame.offset) {
            ("message" | "custom_event", Some(room), Some(offset)) => {
                let room = self
                    .rooms
                    .iter_mut()
                    .find(|known| known.name.as_str() == room);
                let Some((is_new, gap)) = room.map(|room| room.received(offset)) else {
                    return Ok(());
                };
                if let Some(line) = gap {
                    self.output.report(&line);
                }
                if is_new {
                    let payload = frame.payload.map_or("null", |payload| payload.get());
                    self.output.message(text, payload)?;
                }
            }
            ("joined", ..) => {
                if let Some(state) = frame.payload::<EnteredRoom<'_>>() {
                    self.entered(&state, connection)?;
                }
            }
            ("history", Some(room), _) => {
                let first = frame
                    .payload::<HistoryPayload>()
                    .map_or(1, |page| page.first);
                self.join_from(room, first, connection)?;
            }
            ("error", ..) => self.error(&frame)?,
            _ => {}
        }
        Ok(())
    }

    /// Takes note of a room that the client is in now, or asks where its history starts.
    fn entered(
        &mut self,
        state: &EnteredRoom<'_>,
        connection: &mut ClientConnection,
    ) -> Result<(), SubscribeStop> {
        let room = self
            .rooms
            .iter_mut()
            .find(|room| room.name.as_str() == state.room);
        let Some(room) = room else { return Ok(()) };
        let gap = room.entered(state);
        if let Some(since) = room.wanted_since() {
            let request =
                json!({"type": "history", "room": state.room, "since": since, "limit": 1});
            connection.send(request.to_string())?;
        }
        if let Some(line) = gap {
            self.output.report(&line);
        }
        Ok(())
    }

    /// Joins a room again, before messages that it has stored. The server sends them, then what follows.
    fn join_from(
        &mut self,
        room: &str,
        first: u64,
        connection: &mut ClientConnection,
    ) -> Result<(), SubscribeStop> {
        let found = self
            .rooms
            .iter_mut()
            .find(|known| known.name.as_str() == room);
        if let Some((position, gap)) = found.and_then(|room| room.rewind(first)) {
            if let Some(line) = gap {
                self.output.report(&line);
            }
            let (since, epoch) = (position.offset, position.epoch);
            let request = json!({"type": "join", "room": room, "since": since, "epoch": epoch});
            connection.send(request.to_string())?;
        }
        Ok(())
    }

    fn error(&mut self, frame: &ServerFrame<'_>) -> Result<(), SubscribeStop> {
        let Some(error) = frame.payload::<ErrorPayload>() else {
            return Ok(());
        };
        let ErrorPayload { code, message, .. } = &error;
        match code.as_str() {
            // Only a server that has sent its welcome looks at the room.
            _ if frame.id() == Some(TOKEN_CHECK_ID) && code != "unauthorized" => Ok(()),
            "unauthorized" | "forbidden" => {
                Err(SubscribeStop::Client(ClientError::Refused(format!(
                    "{}: {message}; write a token in WSCAST_TOKEN or --token",
                    self.server.address
                ))))
            }
            // The history cannot be read now; a new connection asks for it again.
            _ => Err(Lost::Broken(format!("{code}: {message}")).into()),
        }
    }
}
