//! More of everything than any client needs: pings, messages, connections, and a thousand that stop
//! reading. Others are served meanwhile; afterwards nothing of it is left.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Chance, PATIENCE, RawConnection, Siege, Socket, allow_many_sockets, eventually, frame,
    handshake, said,
};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Where those are who flood.
const FLOOD: &str = "/ws?room=flood";

/// Sent at once by those who flood, in bytes.
const SEGMENT_BYTES: usize = 16 * 1024;

/// An outbox that is soon full, so that little must be sent until those who do not read are evicted.
const SMALL_OUTBOX: [&str; 3] = [
    "--max-message-bytes=32KiB",
    "--outbox-bytes=64KiB",
    "--slow-timeout=3",
];

fn entered(address: SocketAddr) -> RawConnection {
    let mut client = RawConnection::connect(address);
    client.enter(FLOOD);
    client
}

/// Who does not read is evicted at last, cut off soon after, and then sending fails.
fn send_until_cut_off(address: SocketAddr, bytes: &[u8]) {
    let mut client = RawConnection::over(Socket::narrow(address));
    client.enter(FLOOD);
    let patience = Some(PATIENCE);
    client.socket.set_write_timeout(patience).expect("time-out");
    let segment = bytes.repeat((SEGMENT_BYTES / bytes.len()).max(1));
    let begun = Instant::now();
    while client.try_send(&segment) {
        assert!(begun.elapsed() < PATIENCE, "never cut off");
    }
}

#[test]
fn pings() {
    const PINGS: usize = 4000;
    const ROUND: usize = 200;
    let mut siege = Siege::begin(&SMALL_OUTBOX);
    let address = siege.server.address();
    siege.endures("ping floods", |siege| {
        thread::scope(|scope| {
            for size in [0, 1, 125] {
                // Some read every answer; others none.
                scope.spawn(move || {
                    let ping = frame(true, PING, &vec![b'x'; size]);
                    let mut client = entered(address);
                    for _ in 0..PINGS / ROUND {
                        client.send(ping.repeat(ROUND));
                        for _ in 0..ROUND {
                            let pong = client.frame().expect("a pong");
                            assert_eq!((pong.opcode, pong.payload.len()), (PONG, size));
                        }
                    }
                });
                scope.spawn(move || {
                    send_until_cut_off(address, &frame(true, PING, &vec![b'x'; size]));
                });
            }
            siege.serves("meanwhile");
        });
    });
}

#[test]
fn messages_from_those_who_read() {
    const CLIENTS: usize = 6;
    const MESSAGES: u64 = 1000;
    const ROUND: u64 = 50;
    let mut siege = Siege::begin(&[]);
    let address = siege.server.address();
    let mut flooded = 0;
    siege.endures("message floods", |siege| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| entered(address)).collect();
        let all = CLIENTS as u64 * MESSAGES;
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || {
                    let words = said(&"x".repeat(300)).repeat(ROUND as usize);
                    let mut heard = flooded;
                    for round in 1..=MESSAGES / ROUND {
                        client.send(&words);
                        // One's own are among them, or else as many of others.
                        while heard < flooded + round * ROUND {
                            heard += 1;
                            assert_eq!(client.next_offset(), heard);
                        }
                    }
                    while heard < flooded + all {
                        heard += 1;
                        assert_eq!(client.next_offset(), heard);
                    }
                });
            }
            siege.serves("meanwhile");
        });
        flooded += all;
    });
}

#[test]
fn messages_from_those_who_do_not_read() {
    let mut siege = Siege::begin(&SMALL_OUTBOX);
    let address = siege.server.address();
    siege.endures("message floods", |siege| {
        thread::scope(|scope| {
            for text in ["", "hello", &"x".repeat(16 * 1024)] {
                let words = said(text);
                for bytes in [words.clone(), frame(true, TEXT, b"nonsense"), words] {
                    scope.spawn(move || send_until_cut_off(address, &bytes));
                }
            }
            siege.serves("meanwhile");
        });
    });
}

/// With the bounds that a server has by default.
#[test]
fn messages_beyond_the_rate() {
    let mut siege = Siege::begin(&["--max-request-rate=100", "--max-byte-rate=1MiB"]);
    let address = siege.server.address();
    siege.endures("message floods", |siege| {
        thread::scope(|scope| {
            for bytes in [
                said("hello"),
                frame(true, TEXT, b"nonsense"),
                frame(true, TEXT, &[b'x'; 12_000]),
                frame(true, BINARY, b"no text"),
                frame(true, PING, b"ping"),
                frame(true, PONG, b"pong"),
            ] {
                for _ in 0..2 {
                    // More than may be asked at once, and then more than may be refused.
                    let flood = bytes.repeat(3000);
                    scope.spawn(move || {
                        let mut client = RawConnection::connect(address);
                        client.enter("/ws?room=flood&room=other");
                        client.try_send(flood);
                        assert!(matches!(ended_with(&mut client), None | Some(4101)));
                    });
                }
            }
            siege.serves("meanwhile");
        });
        assert!(siege.server.total("requests_rate_limited") > 0);
    });
}

/// The code of the Close, unless a reset that answers what was still under way has taken it along.
fn ended_with(client: &mut RawConnection) -> Option<u16> {
    while let Some(frame) = client.frame() {
        if frame.opcode == 8 {
            return Some(frame.close_code());
        }
    }
    None
}

#[test]
fn connections() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    allow_many_sockets();
    let mut siege = Siege::begin(&[]);
    let address = siege.server.address();
    let mut chance = Chance::new();
    siege.endures("a connect storm", |siege| {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let mut choices: Vec<_> = (0..EACH).map(|_| chance.within(0..5)).collect();
                scope.spawn(move || {
                    while let Some(choice) = choices.pop() {
                        let mut client = RawConnection::connect(address);
                        match choice {
                            0 => {}
                            1 => client.send(handshake(FLOOD)),
                            2 => assert_eq!(client.get("/health").status, 200),
                            _ => drop(client.enter(FLOOD)),
                        }
                        if choice % 2 == 0 {
                            client.reset();
                        }
                    }
                });
            }
            siege.serves("meanwhile");
        });
    });
}

/// Each is evicted once its outbox is full. What waits for all of them is shared; each has a thread that
/// would drain it.
#[test]
fn a_thousand_that_stop_reading() {
    const STOPPED: usize = 1000;
    const OUTBOX_KIB: u64 = 256;
    const RSS_KIB_EACH: u64 = 24;
    allow_many_sockets();
    let outbox = format!("--outbox-bytes={OUTBOX_KIB}KiB");
    let mut siege = Siege::begin(&[&outbox, "--slow-timeout=60"]);
    let mut evicted = 0;
    siege.endures("a thousand that stop reading", |siege| {
        let stopped: Vec<_> = (0..STOPPED)
            .map(|_| {
                let mut client = RawConnection::over(Socket::narrow(siege.server.address()));
                client.enter("/ws?room=graves");
                client
            })
            .collect();
        let before = siege.server.rss_kib();
        let mut speaker = siege.server.client_at("/ws?room=graves");
        let text = "x".repeat(8_000);
        let (mut slowest, mut most) = (Duration::ZERO, before);
        evicted += STOPPED as u64;
        eventually("all are evicted", || {
            for _ in 0..5 {
                speaker.say(text.as_str());
                speaker.expect(text.as_str());
            }
            slowest = slowest.max(siege.broadcast("meanwhile"));
            most = most.max(siege.server.rss_kib());
            (siege.server.total("slow_consumers_evicted") >= evicted).then_some(())
        });
        let grown = most - before;
        println!("{grown} KiB more; a broadcast took at most {slowest:?}");
        let allowed = STOPPED as u64 * RSS_KIB_EACH + 16 * 1024;
        assert!(grown < allowed, "{grown} KiB, allowed {allowed}");
        drop((stopped, speaker));
    });
}
