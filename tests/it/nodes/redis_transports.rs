//! Nodes connect to Redis over TLS and over a Unix socket.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    Certificate, TempDir, TestRedis, TestServer, free_port, wait_until, with_redis_args,
};

/// Publishes on each of two nodes and receives on the other, before and after their connections to Redis are killed.
fn assert_nodes_talk(redis: &TestRedis, nodes: &[TestServer; 2]) {
    let mut clients = nodes.each_ref().map(TestServer::client);
    for text in ["one", "two"] {
        clients[0].say(text);
        clients.iter_mut().for_each(|c| drop(c.expect(text)));
        clients[1].say(text);
        clients.iter_mut().for_each(|c| drop(c.expect(text)));
        for kind in ["pubsub", "normal"] {
            redis.command::<u64>(&["CLIENT", "KILL", "TYPE", kind]);
        }
        for node in nodes {
            wait_until("messages are stored again", || {
                let body = json!({"type": "message", "payload": "probe"});
                node.post("/rooms/probes/messages", &body).status == 201
            });
        }
    }
}

#[test]
fn nodes_use_redis_over_tls_and_check_its_certificate() {
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
    with_redis_args(&flags, |redis| {
        let url = format!("rediss://127.0.0.1:{port}");
        let mut command = TestServer::command(&["--redis", &url]);
        command.env("SSL_CERT_FILE", &cert);
        assert_nodes_talk(
            &redis,
            &[TestServer::start_command(command), redis.node(&[])],
        );

        // A node that trusts another certificate does not start.
        let mut command = TestServer::command(&["--redis", &url]);
        let other = Certificate::new();
        let output = command.env("SSL_CERT_FILE", &other.flags()[1]).output();
        let output = output.expect("output");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("certificate"), "{stderr}");
    });
}

#[test]
fn nodes_use_redis_over_a_unix_socket() {
    let dir = TempDir::new();
    let path = dir.arg("redis.sock");
    with_redis_args(&["--unixsocket", &path], |redis| {
        let url = format!("unix://{path}");
        let nodes = [TestServer::start(&["--redis", &url]), redis.node(&[])];
        assert_nodes_talk(&redis, &nodes);
        // A stopped Redis accepts connections and never replies.
        let mut alice = nodes[0].client();
        redis.signal(Signal::STOP);
        nodes[0].wait_for_health(503);
        alice.expect_nothing();
        redis.signal(Signal::CONT);
        nodes[0].wait_for_health(200);
    });
}
