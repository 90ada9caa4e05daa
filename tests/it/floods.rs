//! Floods of pings, messages and connections, and a thousand clients that stop reading. Other clients are served
//! meanwhile, and afterwards all resources are freed.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    AttackedServer, BINARY, ClientOptions, PING, PONG, RawConnection, Seed, Socket, TEXT, TIMEOUT,
    TestClient, allow_many_sockets, frame, handshake, message_frame, wait_until,
};
use rand::RngExt;

/// The room of the flooding clients.
const FLOOD: &str = "/ws?room=flood";

/// Bytes that a flooding client sends at once.
const SEGMENT_BYTES: usize = 16 * 1024;

/// A small outbox, so that clients that do not read are soon evicted.
const SMALL_OUTBOX: [&str; 3] = [
    "--max-message-bytes=32KiB",
    "--outbox-bytes=64KiB",
    "--slow-timeout=3",
];

fn flooding_client(socket: Socket) -> TestClient {
    ClientOptions::new().passive().open(socket, FLOOD)
}

/// Sends and never reads, until the server evicts and disconnects the client.
fn send_until_disconnected(address: SocketAddr, bytes: &[u8]) {
    let mut client = flooding_client(Socket::with_small_buffer(address));
    let timeout = Some(TIMEOUT);
    client.socket.set_write_timeout(timeout).expect("time-out");
    let segment = bytes.repeat((SEGMENT_BYTES / bytes.len()).max(1));
    let start = Instant::now();
    while client.try_send(&segment) {
        assert!(start.elapsed() < TIMEOUT, "never disconnected");
    }
}

#[test]
fn ping_flood_is_survived() {
    const PINGS: usize = 4000;
    const ROUND: usize = 200;
    let mut attacked = AttackedServer::start(&SMALL_OUTBOX);
    let address = attacked.server.address();
    attacked.withstands("ping floods", |attacked| {
        thread::scope(|scope| {
            for size in [0, 1, 125] {
                // A client of each size reads every pong; another reads nothing.
                scope.spawn(move || {
                    let ping = frame(true, PING, &vec![b'x'; size]);
                    let mut client = flooding_client(Socket::tcp(address));
                    for _ in 0..PINGS / ROUND {
                        client.send(ping.repeat(ROUND));
                        for _ in 0..ROUND {
                            let pong = client.frame().expect("a pong");
                            assert_eq!((pong.opcode, pong.payload.len()), (PONG, size));
                        }
                    }
                });
                scope.spawn(move || {
                    send_until_disconnected(address, &frame(true, PING, &vec![b'x'; size]));
                });
            }
            attacked.assert_serves("meanwhile");
        });
    });
}

#[test]
fn message_flood_from_clients_that_read_is_survived() {
    const CLIENTS: usize = 6;
    const MESSAGES: u64 = 1000;
    const ROUND: u64 = 50;
    let mut attacked = AttackedServer::start(&[]);
    let address = attacked.server.address();
    let mut flooded = 0;
    attacked.withstands("message floods", |attacked| {
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|_| flooding_client(Socket::tcp(address)))
            .collect();
        let all = CLIENTS as u64 * MESSAGES;
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || {
                    let messages = message_frame(&"x".repeat(300)).repeat(ROUND as usize);
                    let mut received = flooded;
                    for round in 1..=MESSAGES / ROUND {
                        client.send(&messages);
                        // The client's own messages are among these, or as many messages of others.
                        while received < flooded + round * ROUND {
                            received += 1;
                            assert_eq!(client.next_offset(), received);
                        }
                    }
                    while received < flooded + all {
                        received += 1;
                        assert_eq!(client.next_offset(), received);
                    }
                });
            }
            attacked.assert_serves("meanwhile");
        });
        flooded += all;
    });
}

#[test]
fn message_flood_from_clients_that_do_not_read_is_survived() {
    let mut attacked = AttackedServer::start(&SMALL_OUTBOX);
    let address = attacked.server.address();
    attacked.withstands("message floods", |attacked| {
        thread::scope(|scope| {
            for text in ["", "hello", &"x".repeat(16 * 1024)] {
                let message = message_frame(text);
                for bytes in [message.clone(), frame(true, TEXT, b"nonsense"), message] {
                    scope.spawn(move || send_until_disconnected(address, &bytes));
                }
            }
            attacked.assert_serves("meanwhile");
        });
    });
}

/// Floods in rounds until the server closes the client because of its rate.
fn flood_until_rate_limited(address: SocketAddr, bytes: &[u8]) {
    /// Exceeds first the burst, then the number of refusals before a close.
    const FRAMES: usize = 3000;
    /// A server that takes more than five seconds for a round permits it, because the rate allows more meanwhile.
    const ROUNDS_MAX: usize = 20;
    const ROUND: &[u8] = b"round";
    let options = ClientOptions::new().passive();
    let mut client = options.open(address, "/ws?room=flood&room=other");
    let flood = [bytes.repeat(FRAMES), frame(true, PING, ROUND)].concat();
    for _ in 0..ROUNDS_MAX {
        client.try_send(&flood);
        match client.close_or_pong(ROUND) {
            Some(frame) if frame.opcode == PONG => {}
            Some(close) => return assert_eq!(close.close_code(), 4101),
            // A reset after unread bytes may destroy the Close frame.
            None => return,
        }
    }
    panic!("not closed after {ROUNDS_MAX} rounds");
}

/// The rate limits are the defaults.
#[test]
fn flood_beyond_the_rate_limits_is_survived() {
    let mut attacked = AttackedServer::start(&["--max-request-rate=100", "--max-byte-rate=1MiB"]);
    let address = attacked.server.address();
    attacked.withstands("message floods", |attacked| {
        thread::scope(|scope| {
            for bytes in [
                message_frame("hello"),
                frame(true, TEXT, b"nonsense"),
                frame(true, TEXT, &[b'x'; 12_000]),
                frame(true, BINARY, b"no text"),
                frame(true, PING, b"ping"),
                frame(true, PONG, b"pong"),
            ] {
                for _ in 0..2 {
                    let bytes = bytes.clone();
                    scope.spawn(move || flood_until_rate_limited(address, &bytes));
                }
            }
            attacked.assert_serves("meanwhile");
        });
        assert!(attacked.server.total("requests_rate_limited") > 0);
    });
}

#[test]
fn connect_storm_is_survived() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    allow_many_sockets();
    let mut attacked = AttackedServer::start(&[]);
    let address = attacked.server.address();
    let seed = Seed::new();
    let mut rng = seed.rng();
    attacked.withstands("a connect storm", |attacked| {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let mut choices: Vec<_> = (0..EACH).map(|_| rng.random_range(0..5)).collect();
                scope.spawn(move || {
                    while let Some(choice) = choices.pop() {
                        let mut client = RawConnection::connect(address);
                        match choice {
                            0 => {}
                            1 => client.send(handshake(FLOOD)),
                            2 => assert_eq!(client.get("/health").status, 200),
                            _ => {
                                client.upgrade(FLOOD);
                                assert_eq!(client.next_json()["from"], "server");
                            }
                        }
                        if choice % 2 == 0 {
                            client.reset();
                        }
                    }
                });
            }
            attacked.assert_serves("meanwhile");
        });
    });
}

// Actors: a thousand clients with small socket buffers that never read, one publisher, and the bystander.
// Invariants: all that do not read are evicted; the queued bytes are shared, so that memory grows by one drain thread
// each; broadcasts in another room arrive all the while; afterwards everything is freed.
#[test]
fn thousand_clients_that_stop_reading_are_evicted_within_bounded_memory() {
    const STOPPED: usize = 1000;
    const OUTBOX_KIB: u64 = 256;
    const RSS_KIB_EACH: u64 = 24;
    allow_many_sockets();
    let outbox = format!("--outbox-bytes={OUTBOX_KIB}KiB");
    let mut attacked = AttackedServer::start(&[&outbox, "--slow-timeout=60"]);
    let mut evicted = 0;
    attacked.withstands("a thousand that stop reading", |attacked| {
        let stopped: Vec<_> = (0..STOPPED)
            .map(|_| {
                let socket = Socket::with_small_buffer(attacked.server.address());
                let options = ClientOptions::new().passive();
                options.open(socket, "/ws?room=stalled")
            })
            .collect();
        let before = attacked.server.rss_kib();
        let mut publisher = attacked.server.client_at("/ws?room=stalled");
        let text = "x".repeat(8_000);
        let (mut slowest, mut most) = (Duration::ZERO, before);
        evicted += STOPPED as u64;
        wait_until("all are evicted", || {
            for _ in 0..5 {
                publisher.say(text.as_str());
                publisher.expect(text.as_str());
            }
            slowest = slowest.max(attacked.broadcast("meanwhile"));
            most = most.max(attacked.server.rss_kib());
            attacked.server.total("slow_consumers_evicted") >= evicted
        });
        let growth = most - before;
        println!("{growth} KiB more; a broadcast took at most {slowest:?}");
        let allowed = STOPPED as u64 * RSS_KIB_EACH + 16 * 1024;
        assert!(growth < allowed, "{growth} KiB, allowed {allowed}");
        drop((stopped, publisher));
    });
}
