//! The lines that are not acknowledged yet, in the order of their numbers.

use std::collections::VecDeque;

/// A line that is not acknowledged yet.
pub(super) struct Line {
    pub(super) number: u64,
    /// The payload's JSON text.
    pub(super) payload: String,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be sent, perhaps again.
    Waiting,
    /// Sent on this connection, without a reply.
    Sent,
    /// Stored or refused. It leaves the queue once all before it have.
    Done,
}

/// The queue of lines. Their numbers have no gaps.
#[derive(Default)]
pub(super) struct InFlight {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines with the state [`State::Sent`].
    sent: usize,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of lines that were sent and have no reply.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Appends the line with the next number.
    pub(super) fn push(&mut self, line: Line) {
        // A line that is done already only fills the gap between its neighbours.
        if line.state == State::Waiting || !self.is_empty() {
            self.bytes += line.payload.len();
            self.lines.push_back(line);
        }
    }

    /// Returns the index of the first line at or after `start` that is to be sent.
    pub(super) fn next_waiting(&self, start: usize) -> Option<usize> {
        (start..self.lines.len()).find(|at| self.lines[*at].state == State::Waiting)
    }

    /// Returns whether a line after this index was sent.
    pub(super) fn is_overtaken(&self, at: usize) -> bool {
        let mut later = self.lines.range(at..);
        self.sent > 0 && later.any(|line| line.state == State::Sent)
    }

    /// Marks the line at this index as sent, and returns it.
    pub(super) fn send(&mut self, at: usize) -> &Line {
        let line = &mut self.lines[at];
        line.state = State::Sent;
        self.sent += 1;
        line
    }

    /// Marks a line that was refused for now, so that it is sent again.
    pub(super) fn send_again(&mut self, number: u64) {
        if let Some(line) = self.line(number).filter(|line| line.state == State::Sent) {
            line.state = State::Waiting;
            self.sent -= 1;
        }
    }

    /// Marks all lines without a reply, so that they are sent again on the next connection.
    pub(super) fn send_all_again(&mut self) {
        self.sent = 0;
        for line in &mut self.lines {
            if line.state == State::Sent {
                line.state = State::Waiting;
            }
        }
    }

    /// Removes a line that needs nothing more. Returns false if it was removed before.
    pub(super) fn done(&mut self, number: u64) -> bool {
        let Some(line) = self.line(number).filter(|line| line.state != State::Done) else {
            return false;
        };
        let was_sent = line.state == State::Sent;
        line.state = State::Done;
        self.sent -= usize::from(was_sent);
        while let Some(first) = self.lines.front().filter(|line| line.state == State::Done) {
            self.bytes -= first.payload.len();
            self.lines.pop_front();
        }
        true
    }

    /// Returns number and size of the largest line without a reply.
    pub(super) fn largest_sent(&self) -> Option<(u64, usize)> {
        let sent = self.lines.iter().filter(|line| line.state == State::Sent);
        let sizes = sent.map(|line| (line.number, line.payload.len()));
        sizes.max_by_key(|(_, bytes)| *bytes)
    }

    fn line(&mut self, number: u64) -> Option<&mut Line> {
        let first = self.lines.front()?.number;
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        self.lines.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_in_order_and_only_once() {
        let mut lines = InFlight::default();
        for number in 1..=3 {
            let payload = "x".repeat(number as usize);
            lines.push(Line {
                number,
                payload,
                state: State::Waiting,
            });
        }
        for at in 0..3 {
            assert_eq!(lines.next_waiting(0), Some(at));
            lines.send(at);
        }
        assert_eq!((lines.sent(), lines.largest_sent()), (3, Some((3, 3))));
        assert!(lines.done(2) && !lines.done(2));
        assert_eq!((lines.len(), lines.bytes()), (3, 6));
        lines.send_again(1);
        assert!(lines.is_overtaken(0));
        assert!(lines.done(1) && !lines.done(1));
        assert_eq!((lines.len(), lines.bytes(), lines.sent()), (1, 3, 1));
        lines.send_all_again();
        assert_eq!((lines.next_waiting(0), lines.sent()), (Some(0), 0));
        assert!(lines.done(3) && lines.is_empty() && !lines.done(9));
    }
}
