//! Redis behind TLS and behind a Unix socket.

use rustix::process::Signal;

use crate::support::{Certificate, Scratch, TestRedis, TestServer, eventually, free_port};

/// Two nodes, one of which comes another way: what is said on one is heard on the other, also after the ways broke.
fn talk(redis: &TestRedis, nodes: &[TestServer; 2]) {
    let mut clients = nodes.each_ref().map(TestServer::client);
    for words in ["one", "two"] {
        clients[0].say(words);
        clients.iter_mut().for_each(|c| drop(c.expect(words)));
        clients[1].say(words);
        clients.iter_mut().for_each(|c| drop(c.expect(words)));
        for kind in ["pubsub", "normal"] {
            redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", kind]);
        }
        for node in nodes {
            eventually("messages are stored again", || {
                let body = serde_json::json!({"type": "message", "payload": "probe"});
                let response = node.post("/rooms/probes/messages", &body);
                (response.status == 201).then_some(())
            });
        }
    }
}

#[test]
fn redis_is_spoken_to_over_tls_and_its_certificate_is_checked() {
    let certificate = Certificate::new();
    let [_, cert, _, key] = certificate.flags();
    let port = free_port().to_string();
    let flags = [
        "--tls-port",
        &port,
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
    ];
    let Some(redis) = TestRedis::start_with(&flags) else {
        return;
    };
    let url = format!("rediss://127.0.0.1:{port}");
    let mut command = TestServer::command(&["--redis", &url]);
    command.env("SSL_CERT_FILE", &cert);
    talk(
        &redis,
        &[TestServer::start_command(command), redis.node(&[])],
    );

    // Whom nobody vouches for is not spoken to.
    let mut command = TestServer::command(&["--redis", &url]);
    let other = Certificate::new();
    let output = command.env("SSL_CERT_FILE", &other.flags()[1]).output();
    let output = output.expect("output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("certificate"), "{stderr}");
}

#[test]
fn redis_is_spoken_to_over_a_unix_socket() {
    let scratch = Scratch::new();
    let path = scratch.path("redis.sock");
    let path = path.to_str().expect("UTF-8");
    let Some(redis) = TestRedis::start_with(&["--unixsocket", path]) else {
        return;
    };
    let url = format!("unix://{path}");
    let nodes = [TestServer::start(&["--redis", &url]), redis.node(&[])];
    talk(&redis, &nodes);
    // One that accepts and does not answer.
    let mut alice = nodes[0].client();
    redis.signal(Signal::STOP);
    eventually("health is degraded", || {
        (nodes[0].raw().get("/health").status == 503).then_some(())
    });
    alice.expect_nothing();
    redis.signal(Signal::CONT);
    eventually("health is restored", || {
        (nodes[0].raw().get("/health").status == 200).then_some(())
    });
}
