//! The messages of a load: their payload carries a mark and the time of publishing.

use std::time::{Duration, Instant};

use crate::protocol::client_frames::{TEXT, client_frame};

/// Hexadecimal digits of the mark, after an `@`.
const MARK_DIGITS: usize = 8;
/// Digits of the time, in nanoseconds since the start of the load. They are enough for eleven days.
const TIME_DIGITS: usize = 15;
/// Smallest payload: the mark and the time.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 1 + MARK_DIGITS + TIME_DIGITS;
/// Where the payload starts in the frames of a server, after `{"type":"message","payload":"`.
const PAYLOAD_AT: usize = 29;

/// The mark of a measurement, and the clock.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    mark: [u8; 1 + MARK_DIGITS],
    started: Instant,
}

impl Stamp {
    pub(super) fn new() -> Self {
        let mut stamp = Self {
            mark: [b'@'; 1 + MARK_DIGITS],
            started: Instant::now(),
        };
        stamp.renew();
        stamp
    }

    /// Takes a new mark.
    pub(super) fn renew(&mut self) {
        let digits = format!("{:08x}", rand::random::<u32>());
        self.mark[1..].copy_from_slice(digits.as_bytes());
    }

    /// Returns the digits of the mark, which also name the room.
    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(&self.mark[1..]).into_owned()
    }

    /// Returns the time on the clock of the stamps.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the time in the stamp of a server's frame; `None` if the message is of another measurement or program.
    pub(super) fn published_at(&self, frame: &[u8]) -> Option<Duration> {
        let is_here = |at: &usize| frame[*at..].starts_with(&self.mark);
        let at = match frame.get(PAYLOAD_AT..) {
            Some(payload) if payload.starts_with(&self.mark) => PAYLOAD_AT,
            // A server may write the fields in another order.
            _ => (0..frame.len()).find(is_here)?,
        };
        let digits = frame.get(at + self.mark.len()..)?.get(..TIME_DIGITS)?;
        let nanos = digits.iter().try_fold(0_u64, |nanos, digit| {
            let digit = u64::from(digit.checked_sub(b'0')?);
            (digit < 10).then_some(nanos * 10 + digit)
        });
        nanos.map(Duration::from_nanos)
    }
}

/// A message as a client frame, whose time is overwritten for each publish.
#[derive(Debug)]
pub(super) struct LoadMessage {
    frame: Vec<u8>,
    time_at: usize,
}

impl LoadMessage {
    /// Returns a message with a text of `payload_bytes` characters.
    pub(super) fn new(stamp: &Stamp, payload_bytes: usize) -> Self {
        let mark = String::from_utf8_lossy(&stamp.mark);
        let filling = "x".repeat(payload_bytes.saturating_sub(PAYLOAD_BYTES_MIN));
        let json = format!(
            r#"{{"type":"message","payload":"{mark}{:0TIME_DIGITS$}{filling}"}}"#,
            0
        );
        let frame = client_frame(TEXT, json.as_bytes());
        let time_at = frame.len() - json.len() + PAYLOAD_AT + stamp.mark.len();
        Self { frame, time_at }
    }

    /// Returns the frame with the current time.
    pub(super) fn stamped(&mut self, stamp: &Stamp) -> &[u8] {
        let mut nanos = stamp.now().as_nanos();
        for digit in self.frame[self.time_at..][..TIME_DIGITS].iter_mut().rev() {
            *digit = b'0' + (nanos % 10) as u8;
            nanos /= 10;
        }
        &self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_message_is_found_in_the_frames_of_a_server() {
        let stamp = Stamp::new();
        let mut message = LoadMessage::new(&stamp, 40);
        let before = stamp.now();
        let frame = message.stamped(&stamp).to_vec();
        let json = std::str::from_utf8(&frame[frame.len() - 71..]).unwrap();
        let payload = serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(payload["payload"].as_str().map(str::len), Some(40));
        for relayed in [json.to_owned(), format!(r#"{{"room":"a",{}"#, &json[1..])] {
            let at = stamp.published_at(relayed.as_bytes()).expect("a stamp");
            assert!((before..=stamp.now()).contains(&at));
        }
        let other = Stamp::new();
        assert_eq!(other.published_at(json.as_bytes()), None);
        assert_eq!(stamp.published_at(b"{}"), None);
    }
}
