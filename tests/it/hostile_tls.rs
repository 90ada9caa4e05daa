//! Attacks on TLS itself: each connection ends, costs little, and other clients are served.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::support::{
    AttackedServer, Certificate, ClientOptions, RawConnection, Seed, Socket, allow_many_sockets,
    handshake, message_frame, random_bytes, request, wait_until,
};
use rand::RngExt;

/// The time in which an incomplete handshake must be disconnected. The server's limit is two seconds.
const DISCONNECT_MAX: Duration = Duration::from_secs(10);

fn attacked_server(certificate: &Certificate, args: &[&str]) -> AttackedServer {
    let flags = certificate.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    AttackedServer::start(&[&flags, args].concat())
}

/// Returns all bytes until the server closes or resets.
fn read_to_end(raw: &mut RawConnection) -> Vec<u8> {
    let mut all = Vec::new();
    let _reset_counts_as_the_end = raw.socket.read_to_end(&mut all);
    all
}

#[test]
fn incomplete_handshakes_are_disconnected_at_the_deadline() {
    let certificate = Certificate::new();
    let mut attacked = attacked_server(&certificate, &[]);
    attacked.withstands("handshakes that stop", |attacked| {
        let hello = Certificate::client_hello();
        let start = Instant::now();
        let mut stopped: Vec<_> = [0, 1, 5, hello.len() / 2, hello.len() - 1, hello.len()]
            .map(|sent| {
                let mut raw = RawConnection::connect(attacked.server.address());
                raw.send(&hello[..sent]);
                raw
            })
            .into();
        attacked.assert_serves("meanwhile");
        for raw in &mut stopped {
            read_to_end(raw);
        }
        assert!(start.elapsed() < DISCONNECT_MAX, "{:?}", start.elapsed());
        drop(stopped);
    });
}

#[test]
fn hello_sent_byte_by_byte_is_disconnected_at_the_deadline() {
    let certificate = Certificate::new();
    let mut attacked = attacked_server(&certificate, &[]);
    attacked.withstands("a hello byte by byte", |attacked| {
        let hello = Certificate::client_hello();
        let mut raw = RawConnection::connect(attacked.server.address());
        let start = Instant::now();
        let mut bytes = hello.iter().cycle();
        // Until the server has closed and sending fails.
        while raw.try_send([*bytes.next().expect("endless")]) {
            assert!(start.elapsed() < DISCONNECT_MAX, "never disconnected");
            raw.has_input_within(Duration::from_millis(10));
        }
        drop(raw);
    });
}

#[test]
fn garbage_instead_of_a_handshake_gets_an_alert() {
    let certificate = Certificate::new();
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut attacked = attacked_server(&certificate, &[]);
    attacked.withstands("garbage instead of a handshake", |attacked| {
        for round in 0..60 {
            let mut raw = RawConnection::connect(attacked.server.address());
            let mut record = match round % 3 {
                // A record with a correct length, one with a wrong length, and a damaged hello.
                0 => [&[22, 3, 1, 0, 200][..], &random_bytes(&mut rng, 200)].concat(),
                1 => [&[22, 3, 1, 255, 255][..], &random_bytes(&mut rng, 300)].concat(),
                _ => Certificate::client_hello(),
            };
            if round % 3 == 2 {
                let at = rng.random_range(5..record.len());
                record[at] ^= 1 << rng.random_range(0..8);
            }
            raw.try_send(&record);
            raw.shutdown_write();
            let reply = read_to_end(&mut raw);
            // An alert (21), or a ServerHello (22) if the damage did not matter.
            assert!(matches!(reply.first(), None | Some(21 | 22)), "{reply:?}");
            if round % 3 == 1 {
                assert_eq!(reply.first(), Some(&21), "{reply:?}");
            }
        }
    });
}

#[test]
fn garbage_after_the_handshake_gets_an_alert() {
    let certificate = Certificate::new();
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut attacked = attacked_server(&certificate, &[]);
    attacked.withstands("garbage after the handshake", |attacked| {
        for version in [&TLS12, &TLS13] {
            let trust = certificate.trust(&[version]);
            for kind in [20, 21, 22, 23, 24, 99] {
                let socket = Socket::tcp(attacked.server.address()).with_tls(&trust);
                let options = ClientOptions::new().passive();
                let raw = options.open(socket, "/ws");
                // Below TLS: an unexpected handshake message (20, 22), an alert, data that is not encrypted.
                let garbage = [&[kind, 3, 3, 0, 64][..], &random_bytes(&mut rng, 64)].concat();
                let mut tcp: &TcpStream = &raw.socket;
                tcp.write_all(&garbage).expect("send");
                let mut reply = Vec::new();
                if let Err(error) = tcp.read_to_end(&mut reply) {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind}");
                }
                // An encrypted alert: in TLS 1.3 it has the record type of data (23).
                assert!(matches!(reply.first(), Some(21 | 23)), "{kind}: {reply:?}");
            }
        }
    });
}

#[test]
fn plain_requests_on_a_tls_port_get_400() {
    let certificate = Certificate::new();
    let mut attacked = attacked_server(&certificate, &[]);
    let plain = [
        request("GET", "/health", &[]),
        handshake("/ws"),
        request("POST", "/", &["Content-Length: 1000000"]) + &"x".repeat(100_000),
        "nonsense".to_owned(),
        "\0".repeat(300),
    ];
    attacked.withstands("plain requests", |attacked| {
        for bytes in plain.iter().cycle().take(200) {
            let mut raw = RawConnection::connect(attacked.server.address());
            raw.try_send(bytes);
            let reply = read_to_end(&mut raw);
            // A response in plain HTTP, or an alert to bytes that are no HTTP request either.
            let refused = reply.starts_with(b"HTTP/1.1 400 ") || reply.first() == Some(&21);
            assert!(refused, "{:?}", String::from_utf8_lossy(&reply));
        }
    });
}

/// Resets in the middle of records, during the handshake and after it.
#[test]
fn tls_resets_at_any_point_are_survived() {
    let certificate = Certificate::new();
    let mut attacked = attacked_server(&certificate, &[]);
    let seed = Seed::new();
    let mut rng = seed.rng();
    let hello = Certificate::client_hello();
    attacked.withstands("resets", |attacked| {
        for round in 0..120 {
            let mut raw = RawConnection::connect(attacked.server.address());
            if round % 2 == 0 {
                raw.send(&hello[..rng.random_range(0..hello.len() + 1)]);
            } else {
                raw = attacked.server.raw();
                raw.upgrade("/ws");
                raw.next_json();
                raw.send(message_frame("hi"));
                let mut tcp: &TcpStream = &raw.socket;
                // An incomplete record.
                tcp.write_all(&[23, 3, 3, 1, 0, 7]).expect("send");
            }
            if rng.random_range(0..2) == 0 {
                // Some clients reset only after the server has started to respond.
                raw.has_input_within(Duration::from_millis(5));
            }
            raw.reset();
        }
    });
}

// Actors: a thousand TLS clients with small socket buffers that never read, a hundred of which disconnect, and one
// publisher.
// Invariants: all that do not read are evicted; broadcasts arrive all the while; memory grows by no more than a drain
// thread and a record for each; afterwards everything is freed.
#[test]
fn thousand_tls_clients_that_stop_reading_are_evicted_within_bounded_memory() {
    const STALLED: usize = 1000;
    const OUTBOX_KIB: u64 = 128;
    allow_many_sockets();
    let certificate = Certificate::new();
    let outbox = format!("--outbox-bytes={OUTBOX_KIB}KiB");
    let mut attacked = attacked_server(&certificate, &[&outbox, "--slow-timeout=60"]);
    let trust = certificate.trust(&[&TLS13]);
    let mut stalled: Vec<_> = (0..STALLED)
        .map(|_| {
            let socket = Socket::with_small_buffer(attacked.server.address()).with_tls(&trust);
            let options = ClientOptions::new().passive();
            options.open(socket, "/ws?room=stalled")
        })
        .collect();
    stalled.truncate(STALLED - STALLED / 10);
    let before = attacked.server.rss_kib();

    let mut publisher = attacked.server.client_at("/ws?room=stalled");
    let text = "x".repeat(8_000);
    let (mut slowest, mut most) = (Duration::ZERO, before);
    wait_until("all are evicted", || {
        let start = Instant::now();
        for _ in 0..5 {
            publisher.say(text.as_str());
            publisher.expect(text.as_str());
        }
        slowest = slowest.max(start.elapsed() / 5);
        most = most.max(attacked.server.rss_kib());
        attacked.server.total("slow_consumers_evicted") >= stalled.len() as u64
    });
    let growth = most - before;
    println!("{growth} KiB more; five broadcasts took at most {slowest:?} each");
    // Queued bytes are shared; each client has a drain thread and a record of its own.
    let allowed = STALLED as u64 * 40 + 32 * 1024;
    assert!(growth < allowed, "{growth} KiB, allowed {allowed}");
    drop((stalled, publisher));
    attacked.assert_recovers("a thousand stalled clients");
}

/// A thousand half handshakes cost a thread each until the deadline, and little memory. Other clients connect meanwhile.
#[test]
fn thousand_incomplete_handshakes_do_not_block_other_clients() {
    const HALF: usize = 1000;
    allow_many_sockets();
    let certificate = Certificate::new();
    let mut attacked = attacked_server(&certificate, &[]);
    let hello = Certificate::client_hello();
    let before = attacked.server.rss_kib();
    let mut half: Vec<_> = (0..HALF)
        .map(|_| {
            let mut raw = RawConnection::connect(attacked.server.address());
            raw.send(&hello[..hello.len() / 2]);
            raw
        })
        .collect();
    attacked.assert_serves("meanwhile");
    let growth = attacked.server.rss_kib().saturating_sub(before);
    println!("{growth} KiB more");
    assert!(growth < HALF as u64 * 40, "{growth} KiB");
    for raw in &mut half {
        read_to_end(raw);
    }
    drop(half);
    attacked.assert_recovers("a thousand half handshakes");
}
