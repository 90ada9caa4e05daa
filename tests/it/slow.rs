//! Clients that do not read what they are sent: they cost a bounded amount of memory and nobody else
//! anything; who catches up in time loses nothing.

use crate::support::{PATIENCE, RawConnection, TestServer, eventually, frame, said};

const TEXT: u8 = 0x1;
const PING: u8 = 0x9;

/// Text of a message that soon fills the system's buffers.
const TEXT_BYTES: usize = 16 * 1024;

/// Far more than the system's own buffers of one connection take.
const FLOOD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The least an outbox may hold, so that little must be sent until it is full.
const SMALL_OUTBOX: [&str; 4] = ["--max-message-bytes", "32KiB", "--outbox-bytes", "33KiB"];

/// A client that is in the lobby and reads no further.
fn stalled(server: &TestServer) -> RawConnection {
    let mut raw = server.raw();
    raw.enter("/ws");
    raw
}

/// Speaks, and hears itself each time, until something has come true; gives the last offset.
fn speak_until(
    speaker: &mut RawConnection,
    what: &str,
    mut come_true: impl FnMut() -> bool,
) -> u64 {
    let words = said(&"x".repeat(TEXT_BYTES));
    for _ in 0..FLOOD_BYTES_MAX / TEXT_BYTES {
        speaker.send(&words);
        let offset = speaker.next_offset();
        if come_true() {
            return offset;
        }
    }
    panic!("never happened: {what}");
}

/// Speaks until one more client cannot take it.
fn speak_until_one_lags(server: &TestServer, speaker: &mut RawConnection) -> u64 {
    speak_until(speaker, "the system's buffers are full", || {
        server.lagging_clients() == 1
    })
}

fn speak_until_one_is_evicted(server: &TestServer, speaker: &mut RawConnection) -> u64 {
    speak_until(speaker, "an eviction", || {
        server.total("slow_consumers_evicted") == 1
    })
}

fn assert_hears_itself(client: &mut RawConnection, offset: u64) {
    client.say("still here");
    assert_eq!(client.next_offset(), offset);
}

fn wait_until_nobody_lags(server: &TestServer) {
    eventually("nobody lags", || {
        (server.lagging_clients() == 0).then_some(())
    });
}

fn wait_until_connected(server: &TestServer, clients: u64) {
    eventually("those evicted are gone", || {
        (server.connected_clients() == clients).then_some(())
    });
}

#[test]
fn who_stops_reading_is_evicted_and_the_others_miss_nothing() {
    let server = TestServer::start(&SMALL_OUTBOX);
    let (mut alice, _stalled, mut bob) = (stalled(&server), stalled(&server), stalled(&server));
    let mut heard = 0;
    let last = speak_until(&mut alice, "an eviction", || {
        heard += 1;
        assert_eq!(bob.next_offset(), heard);
        server.total("slow_consumers_evicted") == 1
    });
    wait_until_nobody_lags(&server);
    wait_until_connected(&server, 2);
    assert_hears_itself(&mut alice, last + 1);
    assert_eq!(bob.next_offset(), last + 1);
    assert_eq!(server.total("slow_consumers_evicted"), 1);
}

#[test]
fn who_takes_nothing_for_too_long_is_evicted() {
    let server = TestServer::start(&["--slow-timeout", "0.2"]);
    let (mut alice, _stalled) = (stalled(&server), stalled(&server));
    let last = speak_until(&mut alice, "the system's buffers are full", || {
        server.lagging_clients() == 1 || server.total("slow_consumers_evicted") == 1
    });
    eventually("an eviction", || {
        (server.total("slow_consumers_evicted") == 1).then_some(())
    });
    wait_until_nobody_lags(&server);
    wait_until_connected(&server, 1);
    assert_hears_itself(&mut alice, last + 1);
}

#[test]
fn an_evicted_client_that_reads_again_in_time_is_told_why() {
    let server = TestServer::start(&SMALL_OUTBOX);
    let (mut alice, mut slow) = (stalled(&server), stalled(&server));
    speak_until_one_is_evicted(&server, &mut alice);
    assert_eq!(slow.close_code_after_offset(0), 4100);
    wait_until_nobody_lags(&server);
}

#[test]
fn an_evicted_client_has_little_time_however_patient_the_server_is() {
    let mut args = SMALL_OUTBOX.to_vec();
    args.extend(["--slow-timeout", "3600", "--ping-interval", "3600"]);
    let server = TestServer::start(&args);
    let (mut alice, _stalled) = (stalled(&server), stalled(&server));
    speak_until_one_is_evicted(&server, &mut alice);
    wait_until_nobody_lags(&server);
    wait_until_connected(&server, 1);
}

#[test]
fn an_evicted_client_that_reads_the_close_but_does_not_close_is_cut_off() {
    let mut args = SMALL_OUTBOX.to_vec();
    args.extend(["--ping-interval", "3600"]);
    let server = TestServer::start(&args);
    let (mut alice, mut slow) = (stalled(&server), stalled(&server));
    speak_until_one_is_evicted(&server, &mut alice);
    assert_eq!(slow.close_code_after_offset(0), 4100);
    wait_until_connected(&server, 1);
}

#[test]
fn an_evicted_client_that_goes_on_speaking_is_cut_off() {
    let server = TestServer::start(&SMALL_OUTBOX);
    let (mut alice, mut deaf) = (stalled(&server), stalled(&server));
    speak_until_one_is_evicted(&server, &mut alice);
    eventually("it is cut off", || {
        let ping = frame(true, PING, b"I am still here");
        (!deaf.try_send(ping)).then_some(())
    });
    wait_until_connected(&server, 1);
}

#[test]
fn who_lags_and_catches_up_gets_everything_in_order() {
    let server = TestServer::start(&["--slow-timeout", "60"]);
    let (mut alice, mut slow) = (stalled(&server), stalled(&server));
    let mut last = speak_until_one_lags(&server, &mut alice);
    // These wait behind what the system could not take.
    for _ in 0..20 {
        last += 1;
        assert_hears_itself(&mut alice, last);
    }
    for offset in 1..=last {
        assert_eq!(slow.next_offset(), offset);
    }
    wait_until_nobody_lags(&server);
    assert_hears_itself(&mut alice, last + 1);
    assert_eq!(slow.next_offset(), last + 1);
    assert_eq!(server.total("slow_consumers_evicted"), 0);
    assert_eq!(server.connected_clients(), 2);
}

#[test]
fn a_slow_client_can_still_speak() {
    let server = TestServer::start(&["--slow-timeout", "60"]);
    let (mut alice, mut slow) = (stalled(&server), stalled(&server));
    let last = speak_until_one_lags(&server, &mut alice);
    slow.say("I am behind");
    assert_eq!(alice.next()["payload"], "I am behind");
    for offset in 1..=last {
        assert_eq!(slow.next_offset(), offset);
    }
    assert_eq!(slow.next()["payload"], "I am behind");
}

/// A client that asks this again and again and never reads an answer.
fn flood_until_evicted(server: &TestServer, alice: &mut RawConnection, question: &[u8]) {
    let mut flood = stalled(server);
    flood
        .socket
        .set_write_timeout(Some(PATIENCE))
        .expect("time-out");
    speak_until_one_lags(server, alice);
    let segment = question.repeat(16 * 1024 / question.len());
    let evicted = server.total("slow_consumers_evicted");
    let mut sent = 0;
    while server.total("slow_consumers_evicted") == evicted {
        flood.try_send(&segment);
        sent += segment.len();
        assert!(sent < FLOOD_BYTES_MAX, "never evicted");
    }
}

#[test]
fn who_asks_and_never_reads_the_answers_is_evicted_within_bounded_memory() {
    const RSS_GROWTH_KIB_MAX: u64 = 24 * 1024;
    let server = TestServer::start(&["--slow-timeout", "3600"]);
    let mut alice = stalled(&server);
    let before = server.rss_kib();
    for question in [
        frame(true, PING, &[b'x'; 125]),
        frame(true, PING, b""),
        frame(true, TEXT, br#"{"type":"ping"}"#),
        frame(true, TEXT, br#"{"type":"presence","room":"lobby"}"#),
        frame(true, TEXT, b"no JSON"),
    ] {
        flood_until_evicted(&server, &mut alice, &question);
        let growth = server.rss_kib().saturating_sub(before);
        assert!(growth < RSS_GROWTH_KIB_MAX, "grew by {growth} KiB");
        wait_until_nobody_lags(&server);
        wait_until_connected(&server, 1);
    }
    alice.say("still here");
    assert_eq!(alice.next()["payload"], "still here");
}

#[test]
fn who_reads_nothing_of_a_few_small_messages_is_left_alone() {
    let server = TestServer::start(&["--slow-timeout", "0.1"]);
    let (mut alice, mut slow) = (stalled(&server), stalled(&server));
    for offset in 1..=200 {
        assert_hears_itself(&mut alice, offset);
    }
    for offset in 1..=200 {
        assert_eq!(slow.next_offset(), offset);
    }
    assert_eq!(server.total("slow_consumers_evicted"), 0);
}
