//! Where keys are in a Redis Cluster: each is in one of 16 384 slots, and each slot on one server.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redis::{Arg, Cmd, FromRedisValue, Value};

/// Number of slots.
pub(super) const SLOTS: u16 = 16_384;

/// Slots from and up to.
pub(super) type Range = RangeInclusive<u16>;

/// A server's host and port, as the cluster knows it.
pub(super) type Address = (String, u16);

/// The slot of a key: only what stands between its first braces counts, if there is anything.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let begin = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[begin..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[begin..begin + length])
    };
    crc16(tag().unwrap_or(key)) % SLOTS
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

/// The slot of a command's keys, which are all in one; `None` if any server can be asked.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        _ => b"",
    });
    let key = match words.next()? {
        b"EVALSHA" => words.nth(2)?,
        b"PUBLISH" | b"PING" | b"TIME" | b"INFO" | b"SCRIPT" | b"CLUSTER" => return None,
        _ => words.next()?,
    };
    Some(slot(key))
}

/// The servers that can be written to and their slots, from the answer to `CLUSTER SLOTS` that this host gave.
pub(super) fn understand(answer: Value, asked: &str) -> Option<BTreeMap<Address, Vec<Range>>> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut servers = BTreeMap::<Address, Vec<Range>>::new();
    for part in parts {
        let Value::Array(part) = part else {
            return None;
        };
        let mut part = part.into_iter();
        let mut number = || u16::from_redis_value(part.next()?).ok();
        let (from, to) = (number()?, number()?);
        let Some(Value::Array(server)) = part.next() else {
            return None;
        };
        let mut server = server.into_iter();
        let host = Option::<String>::from_redis_value(server.next()?).ok()?;
        let port = u16::from_redis_value(server.next()?).ok()?;
        // One that does not know its own address is where it was asked.
        let host = host.filter(|host| !host.is_empty());
        let host = host.unwrap_or_else(|| asked.to_owned());
        if to >= SLOTS {
            return None;
        }
        servers.entry((host, port)).or_default().push(from..=to);
    }
    (!servers.is_empty()).then_some(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"somekey"), 11_058);
        assert_eq!(slot(b"foo{hash_tag}"), 2515);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn commands_are_sent_where_their_keys_are() {
        let command = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            slot_of(&command)
        };
        let expected = Some(slot(b"ops"));
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
    fn servers_are_read_with_their_slots() {
        let text = |text: &str| Value::BulkString(text.into());
        let server =
            |host: &str, port| Value::Array(vec![text(host), Value::Int(port), text("id")]);
        let range = |from, to, server: &Value| {
            let replica = Value::Array(vec![text("10.0.0.9"), Value::Int(1)]);
            Value::Array(vec![
                Value::Int(from),
                Value::Int(to),
                server.clone(),
                replica,
            ])
        };
        let (a, b) = (server("10.0.0.1", 7000), server("", 7001));
        let answer = Value::Array(vec![
            range(0, 99, &a),
            range(100, 200, &b),
            range(300, 16_383, &a),
        ]);
        let servers = understand(answer, "here").unwrap();
        let slots = |host: &str, port| servers[&(host.to_owned(), port)].clone();
        assert_eq!(slots("10.0.0.1", 7000), [0..=99, 300..=16_383]);
        assert_eq!(slots("here", 7001), [100..=200]);
        assert!(understand(Value::Array(Vec::new()), "here").is_none());
        assert!(understand(Value::Array(vec![range(0, 16_384, &a)]), "here").is_none());
    }
}
