//! Publishes each line once: waits for acknowledgements, and sends again with the same id after an outage.

use std::io;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::event::PollFlags;
use serde_json::value::RawValue;

use super::in_flight::{InFlight, Line, State};
use super::input::Input;
use super::pace::Pace;
use crate::client::connection::{ClientConnection, ServerAccess};
use crate::client::error::{ClientError, Lost};
use crate::client::frame::{ErrorPayload, ServerFrame};
use crate::client::reconnect::Reconnect;
use crate::client::wait::wait;
use crate::client::welcome::{TOKEN_CHECK_ID, WelcomeDeadline};
use crate::protocol::{ClientMessage, RoomName};

/// Most bytes in flight, so that memory is bounded whatever the lines are. One message may be larger.
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Longest outage. A server remembers ids for five minutes; later it would publish a message twice.
const OUTAGE_MAX: Duration = Duration::from_secs(240);
/// Pause after a message that the server cannot store now.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// Time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Random bytes of the session.
const SESSION_BYTES: usize = 18;

/// The progress that a publisher reports.
pub(crate) trait PublishProgress {
    /// Reports an outage, or a line that was refused: one line.
    fn report(&mut self, line: &str);
    /// Reports how many lines the server has stored.
    fn stored(&mut self, count: u64);
}

/// Publishes lines to a room.
pub(crate) struct LinePublisher<'a> {
    server: ServerAccess,
    room: RoomName,
    /// The `session` of the query. It begins each id too: where the token names a user, ids are unique among all publishers
    /// of the user.
    session: String,
    input: Input,
    is_json: bool,
    in_flight: InFlight,
    /// Number of the next line, from 1. The id of its message ends with it.
    next_number: u64,
    stored: u64,
    failed: u64,
    pace: Pace,
    progress: &'a mut dyn PublishProgress,
    next_progress: Instant,
}

/// The reason why a connection is not used further.
enum PublishStop {
    Lost(Lost),
    Client(ClientError),
    /// Every line was stored or refused.
    Finished,
}

impl From<Lost> for PublishStop {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl<'a> LinePublisher<'a> {
    /// With `is_json` a line is the JSON of a payload, otherwise a text.
    pub(crate) fn new(
        server: ServerAccess,
        room: RoomName,
        input: Input,
        is_json: bool,
        progress: &'a mut dyn PublishProgress,
    ) -> Self {
        Self {
            server,
            room,
            session: BASE64URL_NOPAD.encode(&rand::random::<[u8; SESSION_BYTES]>()),
            input,
            is_json,
            in_flight: InFlight::default(),
            next_number: 1,
            stored: 0,
            failed: 0,
            pace: Pace::new(),
            progress,
            next_progress: Instant::now() + PROGRESS_INTERVAL,
        }
    }

    /// Publishes every line. A server that cannot be reached at the start is an error; later it is waited for.
    pub(crate) fn run(mut self) -> Result<(), ClientError> {
        let mut reconnect = Reconnect::default();
        let mut was_connected = false;
        let mut lost_at: Option<Instant> = None;
        loop {
            let connected = self
                .server
                .connect(&self.query())
                .map_err(|why| PublishStop::Client(with_cure(why)));
            let Err(stop) = connected.and_then(|connection| {
                reconnect.connected();
                self.publish(connection, &mut was_connected, &mut lost_at)
            });
            let lost = match stop {
                PublishStop::Finished => return self.result(),
                PublishStop::Client(ClientError::Unreachable(why)) if was_connected => {
                    Lost::Broken(why)
                }
                PublishStop::Client(error) => return Err(error),
                PublishStop::Lost(lost) => lost,
            };
            self.lost(&lost);
            let Some(delay) = reconnect.delay_after(&lost) else {
                return Err(ClientError::Refused(lost.to_string()));
            };
            if !was_connected {
                return Err(ClientError::Unreachable(lost.to_string()));
            }
            if lost_at.get_or_insert_with(Instant::now).elapsed() > OUTAGE_MAX {
                let (stored, unknown) = (self.stored, self.in_flight.len());
                return Err(ClientError::Unreachable(format!(
                    "{lost}; stored: {stored}; perhaps stored: {unknown}"
                )));
            }
            let seconds = delay.as_secs_f32();
            self.progress
                .report(&format!("{lost}; connecting again in {seconds:.1} s"));
            std::thread::sleep(delay);
        }
    }

    fn result(&self) -> Result<(), ClientError> {
        match self.failed {
            0 => Ok(()),
            1 if self.stored == 0 => Err(ClientError::Failed("nothing was published".to_owned())),
            failed => Err(ClientError::Failed(format!(
                "{failed} of {} lines were not published",
                self.stored + failed
            ))),
        }
    }

    fn query(&self) -> String {
        let room = utf8_percent_encode(self.room.as_str(), NON_ALPHANUMERIC);
        format!("room={room}&session={}", self.session)
    }

    /// Everything that was sent without a reply is sent again on the next connection.
    fn lost(&mut self, lost: &Lost) {
        match lost {
            Lost::Closed(4101, _) => self.pace.shrink(),
            // The server reads no further than a message that is too large, so it has not named which.
            Lost::Closed(1009, _) => {
                if let Some((number, bytes)) = self.in_flight.largest_sent() {
                    let why = format!(
                        "its {bytes} bytes are more than the server takes (--max-message-bytes)"
                    );
                    self.refuse(number, &why);
                }
            }
            _ => {}
        }
        self.in_flight.send_all_again();
    }

    fn publish(
        &mut self,
        mut connection: ClientConnection,
        was_connected: &mut bool,
        lost_at: &mut Option<Instant>,
    ) -> Result<std::convert::Infallible, PublishStop> {
        let mut welcome = WelcomeDeadline::new(&self.server);
        let mut is_welcome = false;
        loop {
            while let Some(text) = connection.receive()? {
                if self.reply(&text, &mut is_welcome)? {
                    *lost_at = None;
                }
            }
            *was_connected |= is_welcome;
            let mut until = connection.check_silence()?;
            if is_welcome {
                let wants_input = self.send(&mut connection)?;
                connection.flush()?;
                if self.in_flight.is_empty() && self.input.is_at_end() {
                    connection.close();
                    self.progress.stored(self.stored);
                    return Err(PublishStop::Finished);
                }
                until = until.min(self.next_progress());
                if let Some(at) = self
                    .pace
                    .wait_until()
                    .filter(|_| self.in_flight.sent() == 0)
                {
                    until = until.min(at);
                }
                self.wait(&mut connection, wants_input, until)?;
                continue;
            }
            until = until.min(welcome.check(&mut connection, &self.room)?);
            connection.flush()?;
            self.wait(&mut connection, false, until)?;
        }
    }

    /// Waits for the server and, if it is wanted, for input, and reads that.
    fn wait(
        &mut self,
        connection: &mut ClientConnection,
        wants_input: bool,
        until: Instant,
    ) -> Result<(), PublishStop> {
        let mut fds = vec![connection.interest()];
        if let Some(input) = self.input.fd().filter(|_| wants_input) {
            fds.push((input, PollFlags::IN));
        }
        let ready = wait(&fds, until);
        if ready[0].contains(PollFlags::IN) {
            connection.heard();
        }
        if ready.get(1).is_some_and(|flags| !flags.is_empty()) {
            let read = self.input.read();
            read.map_err(|why| PublishStop::Client(cannot_read(&why)))?;
        }
        Ok(())
    }

    fn next_progress(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.next_progress {
            self.progress.stored(self.stored);
            self.next_progress = now + PROGRESS_INTERVAL;
        }
        self.next_progress
    }

    /// Sends as much as the window allows. Returns whether more input is wanted.
    fn send(&mut self, connection: &mut ClientConnection) -> Result<bool, PublishStop> {
        let mut next = self.in_flight.next_waiting(0);
        loop {
            // A line that is sent again waits for the replies of the lines after it, so that these stay together.
            let is_overtaken = next.is_some_and(|at| self.in_flight.is_overtaken(at));
            let may_send = self.in_flight.sent() < self.pace.window()
                && self.pace.wait_until().is_none()
                && !is_overtaken
                && !connection.is_blocked();
            if !may_send {
                return Ok(false);
            }
            if next.is_none() {
                let has_space = self.in_flight.bytes() < IN_FLIGHT_BYTES_MAX
                    && self.in_flight.len() < self.pace.window();
                if !has_space {
                    return Ok(false);
                }
                let Some(line) = self.input.next_line() else {
                    return Ok(true);
                };
                if !self.take(line) {
                    continue;
                }
                next = Some(self.in_flight.len() - 1);
            }
            let Some(at) = next else { return Ok(true) };
            let line = self.in_flight.send(at);
            connection.send(frame(&self.room, &self.session, line.number, &line.payload))?;
            self.pace.sent();
            next = self.in_flight.next_waiting(at + 1);
        }
    }

    /// Queues a line, or refuses one that is no text or no JSON. Returns whether it is queued.
    fn take(&mut self, line: Vec<u8>) -> bool {
        let number = self.next_number;
        let payload = String::from_utf8(line).map_err(|_| "is not UTF-8".to_owned());
        let payload = payload.and_then(|text| match self.is_json {
            false => Ok(serde_json::to_string(&text).unwrap_or_default()),
            true => self.check_json(number, text),
        });
        self.next_number += 1;
        let (payload, state) = match payload {
            Ok(payload) => (payload, State::Waiting),
            Err(why) => {
                self.failed += 1;
                self.progress.report(&format!("line {number} {why}"));
                (String::new(), State::Done)
            }
        };
        self.in_flight.push(Line {
            number,
            payload,
            state,
        });
        state == State::Waiting
    }

    /// Returns the JSON of a line, if the server would take it. The server could not name a line that it cannot parse.
    fn check_json(&self, number: u64, text: String) -> Result<String, String> {
        let json: &RawValue =
            serde_json::from_str(&text).map_err(|why| format!("is not JSON: {why}"))?;
        ClientMessage::parse(&frame(&self.room, &self.session, number, json.get()))
            .map_err(|error| format!("was not published: {}", error.refusal.message))?;
        Ok(json.get().to_owned())
    }

    /// Handles a frame. Returns whether a line was stored.
    fn reply(&mut self, text: &str, is_welcome: &mut bool) -> Result<bool, PublishStop> {
        // The client is a member of the room and receives every message, which need not be parsed.
        let is_reply = |kind: &str| text.starts_with(kind);
        if *is_welcome && !is_reply(r#"{"type":"ack""#) && !is_reply(r#"{"type":"error""#) {
            return Ok(false);
        }
        let Some(frame) = ServerFrame::parse(text) else {
            return Ok(false);
        };
        match frame.kind {
            "ack" => {
                let number = self.number_of(&frame);
                let was_sent = number.is_some_and(|number| self.in_flight.done(number));
                if was_sent {
                    self.stored += 1;
                    self.pace.acknowledged();
                }
                Ok(was_sent)
            }
            "error" => self.refused(&frame).map(|()| false),
            _ => {
                *is_welcome |= frame.is_welcome();
                Ok(false)
            }
        }
    }

    fn refused(&mut self, frame: &ServerFrame<'_>) -> Result<(), PublishStop> {
        let Some(error) = frame.payload::<ErrorPayload>() else {
            return Ok(());
        };
        let number = self.number_of(frame);
        let ErrorPayload { code, message, .. } = &error;
        match (code.as_str(), number) {
            ("unauthorized" | "forbidden" | "not_in_room", _) => {
                // A rule of the room refuses every token.
                let cure = match message.starts_with("only servers") {
                    true => "this command sends no POST; see the page on HTTP",
                    false => "write a token that may publish in WSCAST_TOKEN or --token",
                };
                let line = format!("{}: {message}; {cure}", self.server.address);
                return Err(PublishStop::Client(ClientError::Refused(line)));
            }
            ("rate_limited", Some(number)) => {
                let retry_after = error.retry_after_ms.unwrap_or_default();
                self.pace.refused(Duration::from_millis(retry_after));
                self.in_flight.send_again(number);
            }
            ("storage_unavailable" | "shutting_down", Some(number)) => {
                self.pace.pause(STORE_PAUSE);
                self.in_flight.send_again(number);
            }
            (_, Some(number)) => self.refuse(number, &format!("{code}: {message}")),
            _ if frame.id() == Some(TOKEN_CHECK_ID) => {}
            // The server closes with 1009 next.
            ("message_too_large", None) => {}
            _ => {
                let why =
                    format!("the server refused a line without its number: {code}: {message}");
                return Err(PublishStop::Client(ClientError::Failed(why)));
            }
        }
        Ok(())
    }

    /// Returns the number of the line that a reply is about.
    fn number_of(&self, reply: &ServerFrame<'_>) -> Option<u64> {
        let id = reply.id()?.strip_prefix(&self.session)?;
        id.strip_prefix('.')?.parse().ok()
    }

    /// Gives up a line.
    fn refuse(&mut self, number: u64, why: &str) {
        if self.in_flight.done(number) {
            self.failed += 1;
            self.progress
                .report(&format!("line {number} was not published: {why}"));
        }
    }
}

/// Returns the frame that publishes a payload. The room's name needs no escapes (see [`RoomName`]).
fn frame(room: &RoomName, session: &str, number: u64, payload: &str) -> String {
    let room = room.as_str();
    format!(r#"{{"type":"message","room":"{room}","id":"{session}.{number}","payload":{payload}}}"#)
}

fn cannot_read(why: &io::Error) -> ClientError {
    ClientError::Failed(format!("cannot read the input: {why}"))
}

/// Adds what to do to the refusal of a token that may publish, but not read.
fn with_cure(error: ClientError) -> ClientError {
    match error {
        ClientError::Refused(line) if line.contains("you may not read") => {
            let cure = "this command also reads the room, which a POST does not";
            ClientError::Refused(format!("{line}; {cure}"))
        }
        other => other,
    }
}
