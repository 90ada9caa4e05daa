//! Hash slots of Redis Cluster: each key belongs to one of 16 384 slots, and each slot to one server.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redis::{Arg, Cmd};

/// Number of hash slots.
pub(crate) const SLOTS: u16 = 16_384;

/// The first and last slot of a range.
pub(crate) type SlotRange = RangeInclusive<u16>;

/// Returns the slot of a key. If the key has a hash tag in braces, only the tag counts.
pub(crate) fn slot_of_key(key: &[u8]) -> u16 {
    let hash_tag = || {
        let start = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[start..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[start..start + length])
    };
    crc16(hash_tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

/// Returns the slot of a command's keys, which must all be in one slot; `None` if any server can run the command.
pub(crate) fn slot_of_command(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        _ => b"",
    });
    let key = match words.next()? {
        b"EVALSHA" => words.nth(2)?,
        b"PUBLISH" | b"PING" | b"TIME" | b"INFO" | b"SCRIPT" | b"CLUSTER" => return None,
        _ => words.next()?,
    };
    Some(slot_of_key(key))
}

/// A number for each slot, 0 at first. Its size grows with the number of ranges set, not with the number of slots.
#[derive(Debug, Default)]
pub(crate) struct SlotMap {
    /// The values by the slot from which they hold, up to the next entry.
    starts: BTreeMap<u16, u64>,
}

impl SlotMap {
    /// Returns the value of a slot.
    pub(crate) fn get(&self, slot: u16) -> u64 {
        let entry = self.starts.range(..=slot).next_back();
        entry.map_or(0, |(_, value)| *value)
    }

    /// Returns the largest value in these ranges.
    pub(crate) fn max(&self, ranges: &[SlotRange]) -> u64 {
        let max_of = |range: &SlotRange| {
            let inside = self.starts.range(range.clone()).map(|(_, value)| *value);
            inside.fold(self.get(*range.start()), u64::max)
        };
        ranges.iter().map(max_of).max().unwrap_or(0)
    }

    /// Sets the value of every slot in these ranges.
    pub(crate) fn set(&mut self, ranges: &[SlotRange], value: u64) {
        for range in ranges {
            let after = range.end().saturating_add(1);
            let value_after = self.get(after);
            self.starts.retain(|start, _| !range.contains(start));
            self.starts.insert(*range.start(), value);
            if after < SLOTS {
                self.starts.insert(after, value_after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_match_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of_key(b"somekey"), 11_058);
        assert_eq!(slot_of_key(b"foo{hash_tag}"), 2515);
        assert_eq!(
            slot_of_key(b"{user1000}.following"),
            slot_of_key(b"user1000")
        );
        assert_eq!(slot_of_key(b"foo{{bar}}zap"), slot_of_key(b"{bar"));
        assert_eq!(slot_of_key(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of_key(b""), 0);
    }

    #[test]
    fn command_has_the_slot_of_its_keys() {
        let command = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            slot_of_command(&command)
        };
        let expected = Some(slot_of_key(b"ops"));
        assert_eq!(
            command(&["EVALSHA", "digest", "1", "w:{ops}:log", "x"]),
            expected
        );
        assert_eq!(
            command(&["HMGET", "w:{ops}:numbers", "epoch", "offset"]),
            expected
        );
        assert_eq!(command(&["PUBLISH", "w:{ops}:live", "text"]), None);
    }

    #[test]
    fn slot_map_keeps_the_last_value_set_for_each_slot() {
        let mut map = SlotMap::default();
        assert_eq!((map.get(0), map.max(&[0..=SLOTS - 1])), (0, 0));
        map.set(&[0..=SLOTS - 1], 1);
        map.set(&[100..=199, 300..=399], 7);
        map.set(&[150..=159], 3);
        let values =
            [99, 100, 149, 150, 159, 160, 199, 200, 300, 400, SLOTS - 1].map(|slot| map.get(slot));
        assert_eq!(values, [1, 7, 7, 3, 3, 7, 7, 1, 7, 1, 1]);
        assert_eq!(map.max(&[0..=99]), 1);
        assert_eq!(map.max(&[151..=158]), 3);
        assert_eq!(map.max(&[151..=160, 400..=500]), 7);
        assert_eq!(map.max(&[0..=100]), 7);
    }
}
