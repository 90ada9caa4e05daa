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
    /// True if the client has yet to join again from the first of the last messages. Until then it receives them again,
    /// so it ignores what comes.
    pub(super) awaits_history: bool,
}

impl Room {
    pub(super) fn new(name: RoomName, start: Start) -> Self {
        Self {
            name,
            start,
            position: None,
            awaits_history: false,
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

    /// Takes note of a lost connection: last messages that were not asked for yet are asked for again.
    pub(super) fn left(&mut self) {
        if self.awaits_history {
            self.position = None;
            self.awaits_history = false;
        }
    }

    /// Takes note of the state on entering. Returns a line about messages that are missing.
    ///
    /// On the first entry with [`Start::Last`] it returns no line, and [`awaits_history`](Self::awaits_history) is true.
    pub(super) fn entered(&mut self, state: &EnteredRoom<'_>) -> Option<String> {
        let now = state.position()?;
        let Some(since) = self.since() else {
            self.position = Some(now);
            self.awaits_history =
                matches!(self.start, Start::Last(count) if count > 0 && now.offset > 0);
            return None;
        };
        self.awaits_history = false;
        if state.recovered {
            self.position = Some(Position {
                epoch: now.epoch,
                offset: since.offset,
            });
            return None;
        }
        self.position = Some(now);
        let name = &self.name;
        if since.epoch.is_some_and(|epoch| epoch != now.epoch) {
            return Some(format!(
                "{name}: numbering restarted; messages may be missing"
            ));
        }
        Some(missing(name, since.offset + 1, now.offset))
    }

    /// Returns the offset after which the last messages start, if the history has all of them.
    pub(super) fn last_since(&self) -> u64 {
        let offset = self.position.map_or(0, |position| position.offset);
        match self.start {
            Start::Last(count) => offset.saturating_sub(count),
            _ => offset,
        }
    }

    /// Sets the position from which the room is joined again, and returns it. `first` is the oldest stored offset.
    pub(super) fn rewind(&mut self, first: u64) -> Option<Position> {
        let offset = self.last_since().max(first.saturating_sub(1));
        let position = self.position.as_mut()?;
        position.offset = offset.min(position.offset);
        Some(*position)
    }

    /// Takes note of a message. Returns whether it is new, and a line about messages before it that are missing.
    pub(super) fn received(&mut self, offset: u64) -> (bool, Option<String>) {
        let Some(position) = self.position.as_mut().filter(|_| !self.awaits_history) else {
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
