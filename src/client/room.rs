//! A room that a client reads: its position, and what of it is missing.

use super::frame::EnteredRoom;
use crate::protocol::{Position, RoomName, Since};

/// From where a room is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// Only new messages.
    Now,
    /// The messages after this one, then new ones.
    After(Since),
    /// The last messages, this many if the history has them, then new ones.
    Last(u64),
}

/// A room that is read.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    start: Start,
    /// The last message that was received, once the client has been in the room.
    pub(super) position: Option<Position>,
    rewind: Option<Rewind>,
}

/// The client has entered a room at its newest message and has yet to join again, before messages that the history may
/// have. Until it has, it ignores what comes, because it will receive that again.
#[derive(Clone, Copy, Debug)]
struct Rewind {
    /// The state of the room on entering.
    now: Position,
    /// The last offset before the messages that are wanted.
    after: u64,
    /// True if each of them should be there. False for the last messages, of which there may be fewer.
    reports_missing: bool,
}

impl Room {
    pub(super) fn new(name: RoomName, start: Start) -> Self {
        Self {
            name,
            start,
            position: None,
            rewind: None,
        }
    }

    /// Returns where a connection resumes.
    pub(super) fn since(&self) -> Option<Since> {
        match (self.position, self.start) {
            (Some(position), _) => Some(position.into()),
            (None, Start::After(since)) => Some(since),
            (None, _) => None,
        }
    }

    /// Takes note of a lost connection: what was not asked for yet is asked for again.
    pub(super) fn left(&mut self) {
        self.rewind = None;
    }

    /// Takes note of the state on entering. Returns a line about messages that are missing, as far as that is known.
    /// Messages that the history may have are to be asked for then; see [`wanted_since`](Self::wanted_since).
    pub(super) fn entered(&mut self, state: &EnteredRoom<'_>) -> Option<String> {
        let now = state.position()?;
        self.rewind = None;
        let Some(since) = self.since() else {
            match self.start {
                Start::Last(count) => {
                    self.wants_after(now, now.offset.saturating_sub(count), false)
                }
                _ => self.position = Some(now),
            }
            return None;
        };
        if state.recovered {
            self.position = Some(Position {
                epoch: now.epoch,
                offset: since.offset,
            });
            return None;
        }
        let name = &self.name;
        if since.epoch.is_some_and(|epoch| epoch != now.epoch) {
            let line = format!(
                "{name}: numbering restarted; messages may be missing, and some may come again"
            );
            self.wants_after(now, 0, true);
            return Some(line);
        }
        if since.offset > now.offset {
            let line = format!(
                "{name}: there is no message {} yet; the last one is {}",
                since.offset, now.offset
            );
            self.position = Some(now);
            return Some(line);
        }
        self.wants_after(now, since.offset, true);
        None
    }

    /// Wants the messages after an offset, if there are any.
    fn wants_after(&mut self, now: Position, after: u64, reports_missing: bool) {
        if after < now.offset {
            self.rewind = Some(Rewind {
                now,
                after,
                reports_missing,
            });
        } else {
            self.position = Some(now);
        }
    }

    /// Returns the offset after which messages are wanted that the history may have. The client asks where the history
    /// starts, and joins again there.
    pub(super) fn wanted_since(&self) -> Option<u64> {
        self.rewind.map(|rewind| rewind.after)
    }

    /// Returns the position from which the room is joined again, and a line about messages before it that are missing.
    /// `first` is the oldest stored offset. What comes before the reply to that is still ignored.
    pub(super) fn rewind(&mut self, first: u64) -> Option<(Position, Option<String>)> {
        let Rewind {
            now,
            after,
            reports_missing,
        } = self.rewind?;
        let before_first = first.saturating_sub(1).clamp(after, now.offset);
        let gap = (reports_missing && before_first > after)
            .then(|| missing(&self.name, after + 1, before_first));
        let position = Position {
            epoch: now.epoch,
            offset: before_first,
        };
        self.position = Some(position);
        Some((position, gap))
    }

    /// Takes note of a message. Returns whether it is new, and a line about messages before it that are missing.
    pub(super) fn received(&mut self, offset: u64) -> (bool, Option<String>) {
        let Some(position) = self.position.as_mut().filter(|_| self.rewind.is_none()) else {
            return (false, None);
        };
        if offset <= position.offset {
            return (false, None);
        }
        let expected = position.offset + 1;
        position.offset = offset;
        let gap = (offset > expected).then(|| missing(&self.name, expected, offset - 1));
        (true, gap)
    }
}

fn missing(room: &RoomName, first: u64, last: u64) -> String {
    match last.saturating_sub(first) {
        _ if last < first => format!("{room}: messages may be missing"),
        0 => format!("{room}: message {first} is missing; the server no longer has it"),
        _ => {
            format!("{room}: messages {first} to {last} are missing; the server no longer has them")
        }
    }
}

impl From<Position> for Since {
    fn from(position: Position) -> Self {
        Self {
            offset: position.offset,
            epoch: Some(position.epoch),
        }
    }
}
