//! Keys at a URL (`--jwks-url`): rotation, outages, and servers that answer slowly, wrongly or without end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed, token};
use crate::support::{TestServer, wait_until};

/// Longest time that a client waits for the keys, with the time of a slow machine.
const CLIENT_WAIT_MAX: Duration = Duration::from_secs(8);

struct Key {
    pair: Ed25519KeyPair,
    kid: &'static str,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let pair = Ed25519KeyPair::generate_pkcs8(&random).expect("key");
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).expect("key");
        Self { pair, kid }
    }

    fn jwk(&self) -> Value {
        let x = BASE64URL_NOPAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x})
    }

    fn token(&self) -> String {
        self.token_called(self.kid)
    }

    fn token_called(&self, kid: &str) -> String {
        let header = json!({"alg": "EdDSA", "kid": kid});
        token(header, &claims(json!({})), |message| {
            self.pair.sign(message).as_ref().to_vec()
        })
    }
}

type Answer = Arc<dyn Fn(&mut TcpStream) + Send + Sync>;

/// An HTTP server of keys, which answers as the test says.
struct KeyServer {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            answer: Arc::new(Mutex::new(answer)),
            requests: Arc::default(),
        };
        let (answer, requests) = (Arc::clone(&server.answer), Arc::clone(&server.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                requests.fetch_add(1, Ordering::Relaxed);
                let answer = Arc::clone(&answer.lock().unwrap());
                std::thread::spawn(move || serve(stream, &answer));
            }
        });
        server
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn url(&self) -> String {
        format!("http://{}/keys?secret=1", self.address)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, answer: &Answer) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    assert!(
        head.starts_with("GET /keys?secret=1 HTTP/1.1\r\n"),
        "{head}"
    );
    answer(&mut stream);
}

fn respond(status: &'static str, kind: &'static str, body: impl Into<Vec<u8>>) -> Answer {
    let body: Vec<u8> = body.into();
    Arc::new(move |stream| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // The other side may close before it has read everything.
        stream.write_all(head.as_bytes()).ok();
        stream.write_all(&body).ok();
    })
}

fn set(keys: &[&Key]) -> Answer {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    respond(
        "200 OK",
        "application/json",
        json!({"keys": keys}).to_string(),
    )
}

/// An answer that never comes: the connection stays open until the other side closes it.
fn silence() -> Answer {
    Arc::new(|stream| {
        let mut buffer = [0; 16];
        while matches!(stream.read(&mut buffer), Ok(1..)) {}
    })
}

fn status(server: &TestServer, token: &str) -> u16 {
    server.raw().get(&format!("/stats?token={token}")).status
}

fn start(keys: &KeyServer) -> TestServer {
    TestServer::start(&[
        "--jwks-url",
        &keys.url(),
        "--audience=wscast",
        "--max-auth-failures=0",
    ])
}

// Actors: a provider that adds a key and removes the first one.
// Invariants: a token of the new key is accepted without a restart, and one of the removed key is not after a reload.
#[test]
fn keys_are_fetched_at_the_start_for_unknown_ids_and_on_sighup() {
    let (first, second) = (Key::new("first"), Key::new("second"));
    let keys = KeyServer::start(set(&[&first]));
    let server = start(&keys);
    assert_eq!(status(&server, &first.token()), 200);
    assert_eq!(status(&server, &second.token()), 401);
    assert_eq!(status(&server, &second.token_called("first")), 401);
    assert_eq!(keys.requests(), 1, "the first fetch was a moment before");
    keys.answers(set(&[&first, &second]));
    wait_until("the new key is fetched", || {
        status(&server, &second.token()) == 200
    });
    assert_eq!(status(&server, &first.token()), 200);
    assert!(keys.requests() <= 3, "{}", keys.requests());

    keys.answers(set(&[&second]));
    server.signal(Signal::HUP);
    wait_until("the old key is gone", || {
        status(&server, &first.token()) == 401
    });
    assert_eq!(status(&server, &second.token()), 200);
    assert!(!server.log().contains("secret=1"), "{}", server.log());
}

// Attack: tokens with made-up key ids, from several threads.
// Invariants: the provider is hardly asked, and clients with a known key do not wait.
#[test]
fn made_up_key_ids_do_not_flood_the_provider() {
    let key = Key::new("known");
    let keys = KeyServer::start(set(&[&key]));
    let server = TestServer::start(&[
        "--jwks-url",
        &keys.url(),
        "--audience=wscast",
        "--max-auth-failures=0",
        "--max-http-rate=0",
        "--max-connection-rate=0",
    ]);
    let slowest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (server, key) = (&server, &key);
            scope.spawn(move || {
                for n in 0..100 {
                    let token = key.token_called(&format!("{thread}-{n}"));
                    assert_eq!(status(server, &token), 401);
                }
            });
        }
        for _ in 0..50 {
            let start = Instant::now();
            assert_eq!(status(&server, &key.token()), 200);
            let micros = start.elapsed().as_micros() as u64;
            slowest.fetch_max(micros, Ordering::Relaxed);
        }
    });
    assert!(keys.requests() <= 4, "{}", keys.requests());
    let slowest = Duration::from_micros(slowest.into_inner());
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn keys_stay_while_the_provider_is_away() {
    let (known, other) = (Key::new("known"), Key::new("other"));
    let keys = KeyServer::start(set(&[&known]));
    let server = start(&keys);
    assert_eq!(status(&server, &known.token()), 200);
    keys.answers(respond("503 Service Unavailable", "text/plain", "away"));
    server.signal(Signal::HUP);
    server.wait_for_log("503");
    assert_eq!(status(&server, &known.token()), 200);
    // Nobody can say whether the other key exists now.
    let refused = server.raw().get(&format!("/stats?token={}", other.token()));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.error_code(), "keys_unavailable");
    assert!(refused.header("Retry-After").is_some());
    let mut late = server.client_without_welcome("/ws?room=ops");
    late.send_json(json!({"type": "auth", "token": other.token()}));
    assert_eq!(late.expect_error(), "keys_unavailable");
    assert_eq!(late.close_code(), 1013);
    let metrics = server
        .raw()
        .get(&format!("/metrics?token={}", known.token()))
        .text();
    let failed = |line: &&str| line.starts_with("wscast_key_fetches_failed_total ");
    let failed = metrics.lines().find(failed).expect("a counter");
    assert!(!failed.ends_with(" 0"), "{failed}");
    keys.answers(set(&[&known, &other]));
    wait_until("the provider is asked again", || {
        status(&server, &other.token()) == 200
    });
}

#[test]
fn server_starts_without_the_provider_and_recovers() {
    let key = Key::new("late");
    let keys = KeyServer::start(respond("500 Internal Server Error", "text/plain", "no"));
    let mut command = TestServer::command(&["--jwks-url", &keys.url(), "--audience=wscast"]);
    command.env("SECRET_KEY", SECRET);
    let server = TestServer::start_command(command);
    assert_eq!(status(&server, &key.token()), 503);
    assert_eq!(status(&server, &signed(SECRET, &claims(json!({})))), 200);
    assert!(
        server.log().contains("are not fetched yet"),
        "{}",
        server.log()
    );
    keys.answers(set(&[&key]));
    wait_until("the keys are fetched", || {
        status(&server, &key.token()) == 200
    });
}

// Attack: a provider, or somebody on the way to it, whose answers have no end, no sense or no beginning.
// Invariants: the server starts and serves tokens of other keys; memory stays; a client with an unknown key waits for a
// bounded time; the connection to the provider ends.
#[test]
fn hostile_providers_cost_nothing() {
    let key = Key::new("key");
    let sent = Arc::new(AtomicU64::new(0));
    let endless = |head: &'static str| -> Answer {
        let sent = Arc::clone(&sent);
        Arc::new(move |stream| {
            stream.write_all(head.as_bytes()).ok();
            let block = [b' '; 64 * 1024];
            for _ in 0..1600 {
                if stream.write_all(&block).is_err() {
                    return;
                }
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
            }
        })
    };
    let trickle: Answer = Arc::new(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            .ok();
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        // The read only waits; it ends when the other side closes.
        while stream.write_all(b"{").is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
    });
    let key_set = json!({"keys": [key.jwk()]}).to_string();
    let redirect: Answer = Arc::new(|stream| {
        let head =
            "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(head.as_bytes()).ok();
    });
    let many: Vec<Value> = (0..2000)
        .map(|n| json!({"kty": "oct", "kid": n.to_string()}))
        .collect();
    let answers: Vec<(&str, Answer)> = vec![
        (
            "100 MB",
            endless("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"),
        ),
        ("no end", endless("HTTP/1.1 200 OK\r\n\r\n")),
        ("a head without end", endless("HTTP/1.1 200 OK\r\nX: ")),
        ("a slow host", silence()),
        ("a byte now and then", trickle),
        ("redirect", redirect),
        (
            "a page",
            respond("200 OK", "text/html", "<html>sign in</html>"),
        ),
        (
            "an error with keys",
            respond("404 Not Found", "application/json", key_set),
        ),
        ("a list", respond("200 OK", "application/json", "[]")),
        (
            "no keys",
            respond("200 OK", "application/json", r#"{"keys":[]}"#),
        ),
        (
            "no usable key",
            respond(
                "200 OK",
                "application/json",
                json!({"keys": many}).to_string(),
            ),
        ),
        (
            "deep",
            respond(
                "200 OK",
                "application/json",
                "{\"keys\":".to_owned() + &"[".repeat(100_000),
            ),
        ),
        (
            "bytes",
            respond("200 OK", "application/json", vec![0xff; 100]),
        ),
        (
            "no HTTP",
            Arc::new(|stream| drop(stream.write_all(b"hello\r\n\r\n"))),
        ),
        ("nothing", Arc::new(|_| ())),
    ];
    let keys = KeyServer::start(silence());
    let mut command = TestServer::command(&[
        "--jwks-url",
        &keys.url(),
        "--audience=wscast",
        "--max-auth-failures=0",
    ]);
    command.env("SECRET_KEY", SECRET);
    let server = TestServer::start_command(command);
    let good = signed(SECRET, &claims(json!({})));
    let memory = server.rss_kib();
    for (what, answer) in answers {
        keys.answers(answer);
        let asked = keys.requests();
        server.signal(Signal::HUP);
        wait_until("the provider is asked", || keys.requests() > asked);
        let start = Instant::now();
        let refused = status(&server, &key.token());
        assert!([401, 503].contains(&refused), "{what}: {refused}");
        assert!(
            start.elapsed() < CLIENT_WAIT_MAX,
            "{what}: {:?}",
            start.elapsed()
        );
        assert_eq!(status(&server, &good), 200, "{what}");
    }
    keys.answers(set(&[&key]));
    wait_until("it recovers", || status(&server, &key.token()) == 200);
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 16 * 1024, "{grown} KiB");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 30 * 1024 * 1024, "{sent} bytes were taken");
}

#[test]
fn wrong_url_fails_with_one_line() {
    for url in [
        "ftp://a.example/",
        "keys.json",
        "",
        "https://",
        "http://user@a.example/",
    ] {
        let mut command = TestServer::command(&["--jwks-url", url]);
        let output = command.output().expect("run");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(!output.status.success(), "{url}: {stderr}");
        assert!(stderr.contains("--jwks-url"), "{url}: {stderr}");
    }
}
