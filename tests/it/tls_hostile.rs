//! Clients that attack TLS itself: each is ended, costs little, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::support::{
    Certificate, Chance, RawConnection, Siege, Socket, allow_many_sockets, eventually, handshake,
    request,
};

/// Longer than a handshake may take in a siege.
const CUT_WITHIN: Duration = Duration::from_secs(10);

fn besiege(certificate: &Certificate, args: &[&str]) -> Siege {
    let flags = certificate.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Siege::begin(&[&flags, args].concat())
}

/// Waits for the end; gives what was sent before.
fn ended(raw: &mut RawConnection) -> Vec<u8> {
    let mut all = Vec::new();
    let _reset_is_an_end_too = raw.socket.read_to_end(&mut all);
    all
}

#[test]
fn handshakes_that_stop_are_cut_at_the_deadline() {
    let certificate = Certificate::new();
    let mut siege = besiege(&certificate, &[]);
    siege.endures("handshakes that stop", |siege| {
        let hello = Certificate::client_hello();
        let begun = Instant::now();
        let mut stopped: Vec<_> = [0, 1, 5, hello.len() / 2, hello.len() - 1, hello.len()]
            .map(|sent| {
                let mut raw = RawConnection::connect(siege.server.address());
                raw.send(&hello[..sent]);
                raw
            })
            .into();
        siege.serves("meanwhile");
        for raw in &mut stopped {
            ended(raw);
        }
        assert!(begun.elapsed() < CUT_WITHIN, "{:?}", begun.elapsed());
        drop(stopped);
    });
}

#[test]
fn a_hello_byte_by_byte_is_cut() {
    let certificate = Certificate::new();
    let mut siege = besiege(&certificate, &[]);
    siege.endures("a hello byte by byte", |siege| {
        let hello = Certificate::client_hello();
        let mut raw = RawConnection::connect(siege.server.address());
        let begun = Instant::now();
        let mut bytes = hello.iter().cycle();
        // Until the server has closed and said so to our sends.
        while raw.try_send([*bytes.next().expect("endless")]) {
            assert!(begun.elapsed() < CUT_WITHIN, "never cut");
            raw.hears_within(Duration::from_millis(10));
        }
        drop(raw);
    });
}

#[test]
fn garbage_in_place_of_a_handshake_is_answered_with_an_alert() {
    let certificate = Certificate::new();
    let mut chance = Chance::new();
    let mut siege = besiege(&certificate, &[]);
    siege.endures("garbage in place of a handshake", |siege| {
        for round in 0..60 {
            let mut raw = RawConnection::connect(siege.server.address());
            let mut record = match round % 3 {
                // A record whose length fits, one whose length does not, and a damaged hello.
                0 => [&[22, 3, 1, 0, 200][..], &chance.bytes(200)].concat(),
                1 => [&[22, 3, 1, 255, 255][..], &chance.bytes(300)].concat(),
                _ => Certificate::client_hello(),
            };
            if round % 3 == 2 {
                let at = chance.within(5..record.len());
                record[at] ^= 1 << chance.within(0..8);
            }
            raw.try_send(&record);
            raw.shutdown_write();
            let answer = ended(&mut raw);
            // An alert; or, if the hello was not damaged where it matters, the server's own.
            assert!(matches!(answer.first(), None | Some(21 | 22)), "{answer:?}");
            if round % 3 == 1 {
                assert_eq!(answer.first(), Some(&21), "{answer:?}");
            }
        }
    });
}

#[test]
fn garbage_after_the_handshake_ends_the_connection() {
    let certificate = Certificate::new();
    let mut chance = Chance::new();
    let mut siege = besiege(&certificate, &[]);
    siege.endures("garbage after the handshake", |siege| {
        for version in [&TLS12, &TLS13] {
            let trust = certificate.trust(&[version]);
            for kind in [20, 21, 22, 23, 24, 99] {
                let socket = Socket::tcp(siege.server.address()).with_tls(&trust);
                let mut raw = RawConnection::over(socket);
                raw.enter("/ws");
                // Below TLS: a handshake that nobody asked for (20, 22), an alert, data that was not sealed.
                let garbage = [&[kind, 3, 3, 0, 64][..], &chance.bytes(64)].concat();
                let mut tcp: &TcpStream = &raw.socket;
                tcp.write_all(&garbage).expect("send");
                let mut answer = Vec::new();
                if let Err(error) = tcp.read_to_end(&mut answer) {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind}");
                }
                // An alert, sealed: in 1.3 every record says that it is data.
                assert!(
                    matches!(answer.first(), Some(21 | 23)),
                    "{kind}: {answer:?}"
                );
            }
        }
    });
}

#[test]
fn plain_requests_where_tls_is_spoken() {
    let certificate = Certificate::new();
    let mut siege = besiege(&certificate, &[]);
    let plain = [
        request("GET", "/health", &[]),
        handshake("/ws"),
        request("POST", "/", &["Content-Length: 1000000"]) + &"x".repeat(100_000),
        "nonsense".to_owned(),
        "\0".repeat(300),
    ];
    siege.endures("plain requests", |siege| {
        for bytes in plain.iter().cycle().take(200) {
            let mut raw = RawConnection::connect(siege.server.address());
            raw.try_send(bytes);
            let answer = ended(&mut raw);
            // In plain HTTP; an alert to what is no request either.
            let told = answer.starts_with(b"HTTP/1.1 400 ") || answer.first() == Some(&21);
            assert!(told, "{:?}", String::from_utf8_lossy(&answer));
        }
    });
}

/// In the middle of records, of the handshake's as well as of those after it.
#[test]
fn resets_at_any_point() {
    let certificate = Certificate::new();
    let mut siege = besiege(&certificate, &[]);
    let mut chance = Chance::new();
    let hello = Certificate::client_hello();
    siege.endures("resets", |siege| {
        for round in 0..120 {
            let mut raw = RawConnection::connect(siege.server.address());
            if round % 2 == 0 {
                raw.send(&hello[..chance.within(0..hello.len() + 1)]);
            } else {
                raw = siege.server.raw();
                raw.enter("/ws");
                raw.say("hi");
                let mut tcp: &TcpStream = &raw.socket;
                // A record that breaks off.
                tcp.write_all(&[23, 3, 3, 1, 0, 7]).expect("send");
            }
            if chance.within(0..2) == 0 {
                // Some wait until the server has begun to answer.
                raw.hears_within(Duration::from_millis(5));
            }
            raw.reset();
        }
    });
}

/// A thousand clients that shake hands and then neither read nor speak, among them a hundred that go
/// without a word: those who read are served all the while, and memory stays within what is allowed.
#[test]
fn a_thousand_dead_clients_hold_up_nobody() {
    const DEAD: usize = 1000;
    const OUTBOX_KIB: u64 = 256;
    allow_many_sockets();
    let certificate = Certificate::new();
    let outbox = format!("--outbox-bytes={OUTBOX_KIB}KiB");
    let mut siege = besiege(&certificate, &[&outbox, "--slow-timeout=60"]);
    let trust = certificate.trust(&[&TLS13]);
    let mut dead: Vec<_> = (0..DEAD)
        .map(|_| {
            let socket = Socket::narrow(siege.server.address()).with_tls(&trust);
            let mut raw = RawConnection::over(socket);
            raw.enter("/ws?room=graves");
            raw
        })
        .collect();
    dead.truncate(DEAD - DEAD / 10);
    let before = siege.server.rss_kib();

    let mut speaker = siege.server.client_at("/ws?room=graves");
    let text = "x".repeat(8_000);
    let (mut slowest, mut most) = (Duration::ZERO, before);
    eventually("all are evicted", || {
        let begun = Instant::now();
        for _ in 0..5 {
            speaker.say(text.as_str());
            speaker.expect(text.as_str());
        }
        slowest = slowest.max(begun.elapsed() / 5);
        most = most.max(siege.server.rss_kib());
        (siege.server.total("slow_consumers_evicted") >= dead.len() as u64).then_some(())
    });
    let grown = most - before;
    println!("{grown} KiB more; five broadcasts took at most {slowest:?} each");
    // What is queued is shared; each has a drain thread and a record of its own.
    let allowed = DEAD as u64 * 40 + 32 * 1024;
    assert!(grown < allowed, "{grown} KiB, allowed {allowed}");
    drop((dead, speaker));
    siege.survives("a thousand dead clients");
}

/// A thousand that say half a hello and no more: each costs a thread until the deadline and little else,
/// and those who speak whole sentences come in all the while.
#[test]
fn a_thousand_half_handshakes_keep_nobody_out() {
    const HALF: usize = 1000;
    allow_many_sockets();
    let certificate = Certificate::new();
    let mut siege = besiege(&certificate, &[]);
    let hello = Certificate::client_hello();
    let before = siege.server.rss_kib();
    let mut half: Vec<_> = (0..HALF)
        .map(|_| {
            let mut raw = RawConnection::connect(siege.server.address());
            raw.send(&hello[..hello.len() / 2]);
            raw
        })
        .collect();
    siege.serves("meanwhile");
    let grown = siege.server.rss_kib().saturating_sub(before);
    println!("{grown} KiB more");
    assert!(grown < HALF as u64 * 40, "{grown} KiB");
    for raw in &mut half {
        ended(raw);
    }
    drop(half);
    siege.survives("a thousand half handshakes");
}
