//! Webhooks report to a backend the state of rooms and users: in time, signed, and right after any fault of the backend.

use std::time::Instant;

use data_encoding::BASE64;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, hs256, signed};
use crate::support::{
    Certificate, HookBehaviour, HookServer, TempDir, TestClient, TestServer, WebhookView,
    hook_response, wait_for_view, wait_until,
};

const HOOK_SECRET: &str = "Qm9vdGhzLWFyZS1mdWxsLW9mLWhvbmV5";

/// Starts a server that checks tokens and sends webhooks, with short waits unless `args` name others.
fn server_with_hook(hook: &HookServer, args: &[&str]) -> TestServer {
    let url = hook.url();
    let defaults = [
        ["--webhook", &url],
        ["--webhook-secret", HOOK_SECRET],
        ["--webhook-settle", "200ms"],
        ["--webhook-timeout", "500ms"],
        ["--anonymous", "both"],
    ];
    let defaults = defaults.iter().filter(|[flag, _]| !args.contains(flag));
    let flags: Vec<&str> = defaults.flatten().copied().collect();
    TestServer::with_tokens(&[&flags, args].concat())
}

/// Connects a client of a user, in a room.
fn client_of(server: &TestServer, user: &str, room: &str) -> TestClient {
    let claims = claims(json!({"sub": user, "subscribe": ["*"], "publish": ["*"]}));
    let token = signed(SECRET, &claims);
    server.client_at(&format!("/ws?room={room}&token={token}"))
}

/// Publishes and waits for the message, to see that messages flow whatever the backend does.
fn assert_messages_flow(client: &mut TestClient) {
    let started = Instant::now();
    for n in 0..50 {
        client.say(n);
        assert_eq!(client.next_of("message")["payload"], n);
    }
    // The backend's time-out alone is 500 ms for each request.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn rooms_and_users_are_reported_signed_and_once_as_they_come_and_go() {
    let hook = HookServer::start(HookBehaviour::accept());
    let server = server_with_hook(&hook, &[]);
    wait_for_view(&hook, &[], &[]);
    let alice = client_of(&server, "alice", "ops");
    let tab = client_of(&server, "alice", "dev");
    let guest = server.client_at("/ws?room=ops");
    wait_for_view(&hook, &["dev", "ops"], &["alice"]);
    drop(alice);
    drop(tab);
    wait_for_view(&hook, &["ops"], &[]);
    drop(guest);
    let view = wait_for_view(&hook, &[], &[]);
    let counts: Vec<(&str, u32)> = view.changes.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(counts, [("alice", 2), ("dev", 2), ("ops", 2)]);

    let mut ids = Vec::new();
    for request in hook.requests() {
        assert!(
            request.head.starts_with("POST /hook HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        assert_eq!(request.header("Content-Type"), Some("application/json"));
        let id = request.header("webhook-id").expect("an id").to_owned();
        let timestamp = request.header("webhook-timestamp").expect("a time");
        let message = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
        let signature = BASE64.encode(&hs256(HOOK_SECRET.as_bytes(), &message));
        let expected = format!("v1,{signature}");
        assert_eq!(request.header("webhook-signature"), Some(expected.as_str()));
        ids.push(id);
    }
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "each request has an id of its own");
    wait_until("each request is counted", || {
        server.total("webhook_calls") == count as u64
    });
    assert_eq!(server.total("webhook_calls_failed"), 0);
}

#[test]
fn page_that_is_reloaded_within_the_settle_time_is_not_reported() {
    let hook = HookServer::start(HookBehaviour::accept());
    let server = server_with_hook(&hook, &["--webhook-settle", "5s"]);
    let mut alice = client_of(&server, "alice", "ops");
    wait_for_view(&hook, &["ops"], &["alice"]);
    for _ in 0..5 {
        drop(alice);
        server.wait_for_clients(0);
        alice = client_of(&server, "alice", "ops");
    }
    let _bob = client_of(&server, "bob", "dev");
    let view = wait_for_view(&hook, &["dev", "ops"], &["alice", "bob"]);
    assert_eq!((view.changes["alice"], view.changes["ops"]), (1, 1));
}

// Actors: members of rooms, and a backend.
// Faults: the backend refuses, redirects, hangs, closes connections, sends garbage, is gone, and comes back.
// Invariants: messages flow all the time; the backend ends with the right state, and misses no user who left.
#[test]
fn receiver_has_the_right_state_after_each_fault() {
    let redirect = hook_response(302, "Location: http://127.0.0.1:9/\r\n", "");
    let faults = [
        ("responds with 500", HookBehaviour::status(500)),
        ("responds with 302", HookBehaviour::Respond(redirect)),
        ("in time", HookBehaviour::Hang),
        ("closed", HookBehaviour::Close),
        (
            "not HTTP",
            HookBehaviour::Respond("220 mail ESMTP\r\n".to_owned()),
        ),
    ];
    for (logged, fault) in faults {
        let hook = HookServer::start(HookBehaviour::accept());
        let server = server_with_hook(&hook, &[]);
        let mut alice = client_of(&server, "alice", "ops");
        let bob = client_of(&server, "bob", "dev");
        wait_for_view(&hook, &["dev", "ops"], &["alice", "bob"]);
        hook.set(fault);
        drop(bob);
        let _carol = client_of(&server, "carol", "art");
        server.wait_for_log(logged);
        // She comes and goes between two requests, or during one.
        drop(client_of(&server, "dora", "day"));
        assert_messages_flow(&mut alice);
        hook.set(HookBehaviour::accept());
        wait_for_view(&hook, &["art", "ops"], &["alice", "carol"]);
        server.wait_for_log("accepts events again");
        assert!(server.total("webhook_calls_failed") > 0);
    }
}

#[test]
fn receiver_that_dies_and_comes_back_and_one_that_never_ends_its_response_get_the_state() {
    let hook = HookServer::start(HookBehaviour::accept());
    let port = hook.port();
    let server = server_with_hook(&hook, &[]);
    let mut alice = client_of(&server, "alice", "ops");
    wait_for_view(&hook, &["ops"], &["alice"]);
    let before = WebhookView::of(&hook);
    drop(hook);
    let _bob = client_of(&server, "bob", "dev");
    server.wait_for_log("cannot connect");
    assert_messages_flow(&mut alice);
    // Only the status matters; a body without end is not read.
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n".to_owned();
    let hook = HookServer::start_on(port, HookBehaviour::Endless(endless));
    wait_until("the new receiver knows who came", || {
        let mut view = before.clone();
        hook.requests()
            .iter()
            .for_each(|request| view.apply(request));
        view.present("user") == ["alice", "bob"] && view.present("room") == ["dev", "ops"]
    });
    wait_until("the response was accepted", || {
        server.total("webhook_events") >= 4
    });
}

/// Connects clients that join 17 000 rooms together, and disconnects them.
fn churn(server: &TestServer) {
    let clients: Vec<TestClient> = (0..17)
        .map(|n| {
            let mut client = server.client_at("/ws?room=churn");
            for room in 0..1000 {
                let room = format!("a-room-with-a-longer-name-{n}-{room}");
                client.send_json(json!({"type": "join", "room": room}));
                if room.ends_with("99") {
                    while client.next_of("joined")["room"] != room.as_str() {}
                }
            }
            client
        })
        .collect();
    drop(clients);
    server.wait_for_clients(2);
}

// Actors: clients that join and leave many rooms, Alice who talks, and a backend that hangs.
// Invariants: memory stays bounded, Alice's messages flow, and a snapshot gives the backend the right state.
#[test]
fn changes_during_a_long_outage_take_bounded_memory_and_end_in_a_snapshot() {
    let hook = HookServer::start(HookBehaviour::accept());
    let args = [
        ["--max-rooms-per-connection", "2000"],
        ["--max-rooms", "40000"],
        ["--ping-interval", "10m"],
        ["--log-level", "info"],
    ];
    let args = args.concat();
    let server = server_with_hook(&hook, &args);
    let mut alice = client_of(&server, "alice", "ops");
    let _bob = client_of(&server, "bob", "dev");
    wait_for_view(&hook, &["dev", "ops"], &["alice", "bob"]);
    hook.set(HookBehaviour::Hang);
    churn(&server);
    let first_kib = server.rss_kib();
    for _ in 0..2 {
        churn(&server);
        assert_messages_flow(&mut alice);
    }
    assert!(server.total("webhook_overflows") > 0, "{}", server.stats());
    let grown_kib = server.rss_kib().saturating_sub(first_kib);
    assert!(grown_kib < 16 * 1024, "{grown_kib} KiB");
    hook.set(HookBehaviour::accept());
    wait_until("another snapshot is complete", || {
        WebhookView::of(&hook).snapshots >= 2
    });
    wait_for_view(&hook, &["dev", "ops"], &["alice", "bob"]);
}

#[test]
fn snapshot_after_a_restart_removes_those_who_have_gone() {
    let hook = HookServer::start(HookBehaviour::accept());
    let mut server = server_with_hook(&hook, &[]);
    let alice = client_of(&server, "alice", "ops");
    let _bob = client_of(&server, "bob", "dev");
    wait_for_view(&hook, &["dev", "ops"], &["alice", "bob"]);
    server.end(Signal::KILL);
    drop(alice);
    let server = server_with_hook(&hook, &[]);
    let _alice = client_of(&server, "alice", "ops");
    let view = wait_for_view(&hook, &["ops"], &["alice"]);
    assert_eq!(
        view.changes["alice"], 1,
        "the restart was not reported as an absence"
    );
}

#[test]
fn shutdown_tells_nobody_as_absent_and_is_not_held_up_by_a_receiver_that_hangs() {
    let hook = HookServer::start(HookBehaviour::accept());
    let mut server = server_with_hook(&hook, &["--webhook-timeout", "60s"]);
    let _alice = client_of(&server, "alice", "ops");
    wait_for_view(&hook, &["ops"], &["alice"]);
    hook.set(HookBehaviour::Hang);
    let _bob = client_of(&server, "bob", "dev");
    wait_until("a request hangs", || {
        hook.requests().iter().any(|request| !request.accepted)
    });
    let stopping = Instant::now();
    server.end(Signal::TERM);
    assert!(
        stopping.elapsed().as_secs() < 15,
        "{:?}",
        stopping.elapsed()
    );
    hook.set(HookBehaviour::accept());
    let told_absent = hook.requests().iter().any(|request| {
        let body = request.json();
        let events = body["events"].as_array().expect("events").clone();
        events.iter().any(|event| event["present"] == false)
    });
    assert!(!told_absent);
}

#[test]
fn events_are_chosen_and_the_secret_is_reloaded() {
    let hook = HookServer::start(HookBehaviour::accept());
    let dir = TempDir::new();
    let path = dir.path("secret");
    std::fs::write(
        &path,
        format!("whsec_{}\n", BASE64.encode(b"the first secret")),
    )
    .expect("written");
    let path = path.to_str().expect("UTF-8");
    let flags = ["--webhook-secret-file", path, "--webhook-events", "users"];
    let server = server_with_hook(&hook, &flags);
    let _alice = client_of(&server, "alice", "ops");
    wait_for_view(&hook, &[], &["alice"]);
    let is_signed_with = |secret: &[u8]| {
        let requests = hook.requests();
        let last = requests.last().expect("a request");
        let header = |name| last.header(name).expect("a header").to_owned();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let message = [format!("{id}.{timestamp}.").as_bytes(), &last.body].concat();
        header("webhook-signature") == format!("v1,{}", BASE64.encode(&hs256(secret, &message)))
    };
    assert!(is_signed_with(b"the first secret"));
    std::fs::write(path, "the second secret").expect("written");
    server.signal(Signal::HUP);
    server.wait_for_log("secret of the webhooks");
    let _bob = client_of(&server, "bob", "ops");
    wait_for_view(&hook, &[], &["alice", "bob"]);
    assert!(is_signed_with(b"the second secret"));
}

#[test]
fn receiver_with_tls_must_have_a_trusted_certificate() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    // A server with TLS, which answers the request with 404.
    let receiver = TestServer::start(&flags.each_ref().map(String::as_str));
    let url = format!("https://localhost:{}/hook", receiver.address().port());
    let flags = ["--webhook", url.as_str(), "--webhook-settle", "0"];
    let authorities = certificate.dir.path("cert.pem");
    let mut command = TestServer::command(&flags);
    command.env("SSL_CERT_FILE", &authorities);
    let trusting = TestServer::start_command(command);
    trusting.wait_for_log("it responds with 404");
    let other = Certificate::new();
    let mut command = TestServer::command(&flags);
    command.env("SSL_CERT_FILE", other.dir.path("cert.pem"));
    let distrusting = TestServer::start_command(command);
    distrusting.wait_for_log("SSL_CERT_FILE");
}

#[test]
fn name_without_an_address_and_wrong_settings_are_reported() {
    let server = TestServer::start(&[
        "--webhook",
        "http://no-such-host.invalid/",
        "--webhook-settle",
        "0",
    ]);
    // The resolver may take longer than the request.
    wait_until("the name has no address", || {
        let log = server.log();
        log.contains("cannot look up no-such-host.invalid") || log.contains("in time")
    });
    server.wait_for_log("webhooks are not signed");
    let mut alice = server.client();
    assert_messages_flow(&mut alice);

    for (flags, parts) in [
        (["--webhook", "ftp://a/"], ["--webhook", "write http"]),
        (
            ["--webhook", "http://user:password@a/"],
            ["no password", "(set)"],
        ),
        (
            ["--webhook-events", "clients"],
            ["--webhook-events", "rooms,users"],
        ),
        (
            ["--webhook-secret", "short"],
            ["--webhook-secret", "16 bytes"],
        ),
        (
            ["--webhook-secret-file", "/nowhere"],
            ["--webhook-secret-file", "No such file"],
        ),
    ] {
        let is_url = flags[0] == "--webhook";
        let url: &[&str] = if is_url {
            &[]
        } else {
            &["--webhook", "http://127.0.0.1:9/"]
        };
        let command = TestServer::command(&[&flags, url].concat());
        let Err((status, log)) = TestServer::try_start_command(command) else {
            panic!("{flags:?} is accepted");
        };
        assert!(!status.success());
        assert!(
            parts.iter().all(|part| log.contains(part)),
            "{flags:?}: {log}"
        );
        assert!(!log.contains("user:password"), "{log}");
    }
}

#[test]
fn query_of_the_url_is_sent_and_never_logged() {
    let hook = HookServer::start(HookBehaviour::status(503));
    let url = format!("{}?key=hunter2", hook.url());
    let server = TestServer::start(&[
        "--webhook",
        &url,
        "--webhook-settle",
        "0",
        "--log-level",
        "trace",
    ]);
    server.wait_for_log("it responds with 503");
    assert!(!server.log().contains("hunter2"), "{}", server.log());
    let request = &hook.requests()[0];
    assert!(
        request
            .head
            .starts_with("POST /hook?key=hunter2 HTTP/1.1\r\n")
    );
    let body: Value = request.json();
    assert_eq!(body["events"][0]["type"], "snapshot");
}
