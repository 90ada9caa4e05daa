//! IPv4 and IPv6 on one port: `localhost` works as either address, and an IPv4 client is the same client on both.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use crate::support::{
    ClientOptions, RawConnection, Socket, TestServer, USAGE, handshake, handshake_with, program,
    proxy_header, proxy_header_for, run, skip, start_in_namespace, wait_until, with_remote_network,
};

/// Returns whether this machine has IPv6, as the server finds out.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn at(ip: &str, server: &TestServer) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), server.address().port())
}

/// Returns whether a server answers at this address.
fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
        && RawConnection::connect(address).get("/health").status == 200
}

/// Starts a server whose `--host` is the default.
fn default_host() -> TestServer {
    let mut command = program();
    command.args(["--port=0", "--log-level=debug"]);
    TestServer::start_command(command)
}

#[test]
fn default_is_reached_by_both_addresses_of_localhost() {
    let server = default_host();
    assert!(
        server.address().ip().is_loopback(),
        "a person can open the printed address"
    );
    assert!(answers(at("127.0.0.1", &server)));
    if !has_ipv6() {
        return skip("no IPv6");
    }
    assert!(answers(at("::1", &server)));
    let port = server.address().port();
    let line = format!("listening on 0.0.0.0:{port} and [::]:{port}");
    wait_until("the log has both", || server.log().contains(&line));
}

#[test]
fn localhost_is_both_loopback_addresses_and_no_other() {
    for name in ["localhost", "LOCALHOST", "localhost."] {
        let server = TestServer::start(&["--host", name]);
        assert!(answers(at("127.0.0.1", &server)), "{name}");
        assert!(!answers(at("127.0.0.2", &server)), "{name}");
        assert_eq!(answers(at("::1", &server)), has_ipv6(), "{name}");
        // Nobody else can connect.
        assert!(!server.log().contains("no key is set"), "{name}");
    }
}

#[test]
fn single_addresses_and_lists_are_reached_by_nothing_else() {
    for (host, reached) in [
        ("0.0.0.0", &["127.0.0.1", "127.0.0.2"][..]),
        ("127.0.0.2", &["127.0.0.2"]),
        ("::1", &["::1"]),
        ("[::1]", &["::1"]),
        ("::", &["127.0.0.1", "127.0.0.2", "::1"]),
        ("127.0.0.1,127.0.0.2", &["127.0.0.1", "127.0.0.2"]),
        ("127.0.0.2,::1", &["127.0.0.2", "::1"]),
        ("127.0.0.2,::", &["127.0.0.2", "::1"]),
    ] {
        if !has_ipv6() && host.contains(':') {
            continue;
        }
        let server = TestServer::start(&["--host", host]);
        for ip in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert_eq!(
                answers(at(ip, &server)),
                reached.contains(&ip),
                "{ip} with {host}"
            );
        }
    }
}

#[test]
fn name_without_an_address_fails_with_one_line() {
    for name in [
        "no.such.name.invalid",
        "nowhere",
        "5000",
        "127.1",
        "http://localhost",
    ] {
        let ended = run(program().args(["--port=0", "--host", name]));
        assert_eq!(ended.code, USAGE, "{name}");
        let line = ended.only_line();
        assert!(
            line.contains("--host") && line.contains(name) && line.contains("127.0.0.1"),
            "{line}"
        );
    }
}

#[test]
fn ipv4_client_has_its_ipv4_address_on_a_socket_for_both() {
    let server = default_host();
    let mut raw = RawConnection::connect(at("127.0.0.1", &server));
    let local = raw.socket.local_addr().expect("an address");
    raw.send(handshake("/ws"));
    assert_eq!(raw.response().status, 101);
    wait_until("the client is logged", || {
        server.log().contains(&format!("{local} connected"))
    });
    assert!(!server.log().contains("::ffff:"), "{}", server.log());
}

#[test]
fn loopback_has_no_limits_in_any_form() {
    let mut command = program();
    command.args([
        "--port=0",
        "--max-connections-per-address=1",
        "--max-http-rate=1",
        "--max-connection-rate=1",
    ]);
    let server = TestServer::start_command(command);
    let ips = if has_ipv6() {
        &["127.0.0.1", "::1"][..]
    } else {
        &["127.0.0.1"]
    };
    for ip in ips {
        let clients: Vec<_> = (0..15)
            .map(|_| ClientOptions::new().open(Socket::tcp(at(ip, &server)), "/ws"))
            .collect();
        assert_eq!(server.connected_clients(), clients.len() as u64, "{ip}");
        for client in clients {
            client.close();
        }
        server.wait_for_clients(0);
    }
}

#[test]
fn proxies_are_trusted_and_clients_limited_by_their_ipv4_addresses() {
    let mut command = program();
    command.args([
        "--port=0",
        "--log-level=debug",
        "--trusted-proxies=127.0.0.1",
        "--max-connections-per-address=1",
    ]);
    let server = TestServer::start_command(command);
    let open = |client: &str| {
        let mut raw = RawConnection::connect(at("127.0.0.1", &server));
        let line = format!("X-Forwarded-For: {client}");
        raw.send(handshake_with("/ws", &[&line]));
        let status = raw.response().status;
        (raw, status)
    };
    let (_first, status) = open("203.0.113.7");
    assert_eq!(status, 101);
    assert_eq!(open("::ffff:203.0.113.7").1, 503);
    let (_other, status) = open("::ffff:203.0.113.8");
    assert_eq!(status, 101);
    assert_eq!(open("203.0.113.8").1, 503);
    wait_until("the client is logged", || {
        server.log().contains("203.0.113.8 connected")
    });
    assert!(!server.log().contains("::ffff:"), "{}", server.log());
}

#[test]
fn proxy_header_of_a_mapped_address_names_the_ipv4_client() {
    let args = [
        "--trusted-proxies=127.0.0.1",
        "--proxy-protocol",
        "--max-connections-per-address=1",
    ];
    let server = TestServer::start(&args);
    let mapped: Ipv6Addr = "::ffff:203.0.113.7".parse().expect("an address");
    let rest = [&mapped.octets()[..], &[0; 16], &[0x12, 0x67, 0, 80]].concat();
    let mut first = RawConnection::connect(server.address());
    first.send(proxy_header(0x21, 0x21, &rest));
    first.send(handshake("/ws"));
    assert_eq!(first.response().status, 101);
    wait_until("the client is logged", || {
        server.log().contains("203.0.113.7:4711 connected")
    });
    let mut second = RawConnection::connect(server.address());
    second.send(proxy_header_for("203.0.113.7"));
    assert_eq!(second.response().status, 503);
}

#[test]
fn remote_ipv4_client_has_the_limits_of_its_ipv4_address() {
    let args = ["--host=0.0.0.0,::", "--max-connections-per-address=1"];
    with_remote_network(&args, |network| {
        let mut first = RawConnection::connect(network.address(0));
        assert_eq!(first.get("/health").status, 200);
        let mut second = RawConnection::connect(network.address(0));
        assert_eq!(second.response().status, 503);
        let mut other = RawConnection::connect(network.address(1));
        assert_eq!(other.get("/health").status, 200);
        wait_until("the refusal is logged", || {
            let log = network.server.log();
            log.contains("203.0.113.7 has too many connections")
        });
        let log = network.server.log();
        assert!(!log.contains("::ffff:"), "{log}");
    });
}

#[test]
fn proxy_on_either_address_of_localhost_is_trusted_if_one_is_listed() {
    for trusted in ["127.0.0.1", "::1", "localhost"] {
        let server = TestServer::start(&["--host=localhost", "--trusted-proxies", trusted]);
        for (ip, client) in [("127.0.0.1", "203.0.113.7"), ("::1", "203.0.113.8")] {
            if ip == "::1" && !has_ipv6() {
                continue;
            }
            let mut raw = RawConnection::connect(at(ip, &server));
            let line = format!("X-Forwarded-For: {client}");
            raw.send(handshake_with("/ws", &[&line]));
            assert_eq!(raw.response().status, 101);
            wait_until("the client is logged", || {
                server.log().contains(&format!("{client} connected"))
            });
        }
    }
}

#[test]
fn machine_without_ipv6_addresses_serves_localhost() {
    let setup = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    for args in [&["--host=localhost"][..], &["--host=127.0.0.1,::1"]] {
        let server = match start_in_namespace(setup, &TestServer::command(args)) {
            Ok(server) => server,
            Err(why) => return skip(why),
        };
        let line = format!("listening on 127.0.0.1:{}\n", server.address().port());
        wait_until("IPv4 is left", || server.log().contains(&line));
        server.wait_for_log("::1 is left out");
    }
    // At least one address of several must be left.
    let ended = run(program().args(["--port=0", "--host=198.51.100.1,198.51.100.2"]));
    let line = ended.only_line();
    assert!(
        line.contains("--host") && line.contains("does not have"),
        "{line}"
    );
}
