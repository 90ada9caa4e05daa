//! A disk with one, two or four MiB left: the server's own log must not fill it for good, also after `kill -9`.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{LastingDisk, TestServer, wait_until, with_lasting_disk};

/// Bytes that the empty database, the index of its log and the mark take.
const EMPTY_KIB: u64 = 120;
const PAYLOAD_BYTES: usize = 2000;
const IN_FLIGHT: usize = 50;

/// Publishes with a window of requests in flight. Returns the number of acknowledged messages.
fn publish(server: &TestServer, count: usize) -> usize {
    // Without a session, ids are not stored.
    let mut client = server.client();
    let mut acknowledged = 0;
    for first in (0..count).step_by(IN_FLIGHT) {
        for number in first..first + IN_FLIGHT {
            let payload = "x".repeat(PAYLOAD_BYTES);
            let id = number.to_string();
            client.send_json(json!({"type": "message", "payload": payload, "id": id}));
        }
        let mut replies = 0;
        while replies < IN_FLIGHT {
            let reply = client.next();
            match reply["type"].as_str() {
                Some("ack") => acknowledged += 1,
                Some("error") => assert_eq!(reply["payload"]["code"], "storage_unavailable"),
                _ => continue,
            }
            replies += 1;
        }
    }
    acknowledged
}

/// The history fits, so every publish is stored, however many there are.
#[test]
fn publishes_are_stored_while_the_history_fits_and_after_every_kill() {
    for free_mib in [1, 2, 4] {
        with_lasting_disk(free_mib * 1024 + EMPTY_KIB, |disk| {
            // Half of what is left: the rest is for the log.
            let history = format!("{}KiB", free_mib * 1024 / 8);
            let flags = ["--history-total-bytes", &history, "--log-level", "warn"];
            for run in 0..4 {
                let mut server = TestServer::start_command(disk.command(&flags));
                let published = publish(&server, 3000);
                assert_eq!(
                    published,
                    3000,
                    "{free_mib} MiB, run {run}: {}",
                    server.log()
                );
                assert_eq!(server.raw().get("/health").status, 200);
                server.signal(Signal::KILL);
                server.wait_for_exit();
            }
            let server = TestServer::start_command(disk.command(&flags));
            let page = server.get_json("/rooms/lobby/messages?limit=1");
            assert_eq!(page["last"], 4 * 3000, "{free_mib} MiB");
        });
    }
}

/// The history does not fit: publishes are refused, the log stays small, and a server that is killed starts again.
/// Once history expires, publishing continues by itself.
#[test]
fn full_disk_is_reported_and_the_server_survives_a_kill_and_recovers() {
    for free_mib in [1, 2, 4] {
        with_lasting_disk(free_mib * 1024 + EMPTY_KIB, |disk| {
            let mut server = TestServer::start_command(disk.command(&["--log-level", "warn"]));
            let published = publish(&server, 3000);
            assert!(published < 3000, "{free_mib} MiB: all stored");
            // At most half of the disk is not used.
            let least = (free_mib as usize * 1024 * 1024 / 2).saturating_sub(512 * 1024);
            assert!(
                published * PAYLOAD_BYTES > least,
                "{free_mib} MiB: {published}"
            );
            assert_degraded(&server);
            server.signal(Signal::KILL);
            server.wait_for_exit();

            let flags = ["--history-total-bytes", "64KiB", "--log-level", "warn"];
            let server = TestServer::start_command(disk.command(&flags));
            let page = server.get_json("/rooms/lobby/messages?limit=1");
            assert_eq!(page["last"], published, "{free_mib} MiB");
            wait_until("publishing works again", || {
                let message = json!({"type": "message", "payload": "again"});
                server.post("/rooms/lobby/messages", &message).status == 201
            });
            assert_eq!(publish(&server, 500), 500, "{free_mib} MiB");
        });
    }
}

fn assert_degraded(server: &TestServer) {
    let health = server.raw().get("/health").json();
    assert_eq!(health["status"], "degraded");
    let message = health["message"].as_str().expect("message");
    assert!(message.contains("the disk is full"), "{message}");
}

/// Returns the size of the file once this write-ahead log is copied into it (<https://sqlite.org/fileformat.html#walformat>).
fn bytes_after_copying(log: &[u8]) -> u64 {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    let page_bytes = number(&log[8..]) as usize;
    let salts = &log[16..24];
    let frames = log[HEADER..].chunks_exact(FRAME_HEADER + page_bytes);
    // Frames of an earlier use of the log follow those with its salts. A frame that ends no transaction has 0.
    let of_now = frames.take_while(|frame| frame[8..16] == *salts);
    let pages = of_now
        .map(|frame| number(&frame[4..]))
        .filter(|pages| *pages > 0);
    u64::from(pages.last().unwrap_or(0)) * page_bytes as u64
}

/// The log has pages that the file has too, so copying it needs no space.
#[test]
fn server_starts_on_a_disk_that_is_full_to_the_last_byte() {
    with_lasting_disk(2048, |disk: LastingDisk| {
        let flags = ["--history-total-bytes", "128KiB", "--log-level", "warn"];
        let mut server = TestServer::start_command(disk.command(&flags));
        let mut published = 0;
        wait_until("the log is large and its pages are in the file", || {
            published += publish(&server, 50);
            let file = std::fs::metadata(disk.path("history.db")).expect("file");
            let log = std::fs::read(disk.path("history.db-wal")).expect("log");
            published >= 1000 && log.len() > 128 * 1024 && file.len() >= bytes_after_copying(&log)
        });
        server.signal(Signal::KILL);
        server.wait_for_exit();
        let mut filler = std::fs::File::create(disk.path("filler")).expect("create");
        while std::io::Write::write_all(&mut filler, &[b'x'; 4096]).is_ok() {}
        let server = TestServer::start_command(disk.command(&flags));
        let page = server.get_json("/rooms/lobby/messages?limit=1");
        assert_eq!(page["last"], published);
    });
}
