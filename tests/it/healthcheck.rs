//! `wscast healthcheck` against healthy, closing, silent and missing servers, over TCP, TLS and Unix sockets.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::support::{
    Certificate, Ended, FAILURE, TempDir, TestServer, USAGE, program, run, wait_until,
};

fn healthcheck(args: &[&str]) -> Ended {
    run(program().arg("healthcheck").args(args))
}

/// Runs the check with the port of this server in the environment, as in a container.
fn own(server: &TestServer, configure: impl FnOnce(&mut Command)) -> Ended {
    let mut command = program();
    command.env("WSCAST_PORT", server.address().port().to_string());
    configure(&mut command);
    run(command.arg("healthcheck"))
}

fn assert_healthy(ended: &Ended, url: &str) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("{url}: 200 healthy\n"));
    assert_eq!(ended.stderr, "");
}

fn assert_unhealthy(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, FAILURE, "{}", ended.stdout);
    let line = ended.only_line();
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
}

#[test]
fn healthy_server_is_found_by_its_settings_or_by_url() {
    let dir = TempDir::new();
    let socket = format!("unix:{}", dir.path("wscast.sock").display());
    let server = TestServer::start(&["--listen", &socket]);
    let url = format!("http://{}", server.address());
    assert_healthy(&own(&server, |_| {}), &format!("{url}/health"));
    let slash = healthcheck(&["--url", &format!("{url}/")]);
    assert_healthy(&slash, &format!("{url}/health"));
    assert_healthy(&healthcheck(&["--url", &socket]), &socket);
    let free_port = ["--port=0", "--listen", &socket, "healthcheck"];
    assert_healthy(&run(program().args(free_port)), &socket);
}

#[test]
fn platform_variables_name_the_address_too() {
    let server = TestServer::start(&[]);
    let (ip, port) = (server.address().ip(), server.address().port());
    let mut command = program();
    command
        .env("HOST", ip.to_string())
        .env("PORT", port.to_string());
    let ended = run(command.arg("healthcheck"));
    assert_healthy(&ended, &format!("http://{ip}:{port}/health"));
}

#[test]
fn server_with_tokens_reports_its_status_to_the_check() {
    let server = TestServer::with_tokens(&[]);
    let url = format!("http://{}/health", server.address());
    assert_healthy(&own(&server, |_| {}), &url);
}

/// The certificate names `localhost`, and no one has signed it.
#[test]
fn certificate_of_the_server_is_not_verified() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let [_, cert, _, key] = certificate.flags();
    let ended = own(&server, |command| {
        command
            .env("WSCAST_TLS_CERT", cert)
            .env("WSCAST_TLS_KEY", key);
    });
    assert_healthy(&ended, &format!("https://{}/health", server.address()));
}

#[test]
fn server_that_trusts_the_check_as_a_proxy_gets_a_proxy_header() {
    let dir = TempDir::new();
    let socket = format!("unix:{}", dir.path("wscast.sock").display());
    for trusted in ["127.0.0.1,unix", "10.0.0.0/8"] {
        let settings = ["--trusted-proxies", trusted, "--proxy-protocol"];
        let server = TestServer::start(&[&settings[..], &["--listen", &socket]].concat());
        let ended = own(&server, |command| {
            command.args(settings);
        });
        assert_healthy(&ended, &format!("http://{}/health", server.address()));
        let free_port = ["--port=0", "--listen", &socket, "healthcheck"];
        let ended = run(program().args(settings).args(free_port));
        assert_healthy(&ended, &socket);
    }
}

#[test]
fn draining_server_is_unhealthy() {
    let server = TestServer::start(&["--drain-delay=1m"]);
    server.signal(Signal::TERM);
    wait_until("the server drains", || {
        server.raw().get("/health").status == 503
    });
    assert_unhealthy(
        &own(&server, |_| {}),
        &["/health: 503 draining: the server"],
    );
}

#[test]
fn missing_server_is_unhealthy() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", free.local_addr().expect("address"));
    drop(free);
    assert_unhealthy(&healthcheck(&["--url", &url]), &[&url, "refused"]);
    let dir = TempDir::new();
    let socket = format!("unix:{}", dir.path("none.sock").display());
    assert_unhealthy(
        &healthcheck(&["--url", &socket]),
        &[&socket, "No such file"],
    );
}

/// The listeners have a queue, so connecting succeeds, but nothing responds.
#[test]
fn silent_server_is_unhealthy_after_the_timeout() {
    let dir = TempDir::new();
    let path = dir.path("silent.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let _unix = UnixListener::bind(&path).expect("bind");
    let address = tcp.local_addr().expect("address");
    for url in [
        format!("http://{address}"),
        format!("unix:{}", path.display()),
    ] {
        let ended = healthcheck(&["--url", &url, "--timeout", "50ms"]);
        assert_unhealthy(&ended, &["no response within 0.05 s"]);
    }
}

#[test]
fn silent_tls_server_is_unhealthy_after_the_timeout() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("https://{}", tcp.local_addr().expect("address"));
    let ended = healthcheck(&["--url", &url, "--timeout", "50ms"]);
    assert_unhealthy(&ended, &["no response within 0.05 s"]);
}

#[test]
fn another_program_on_the_port_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let ssh = thread::spawn(move || {
        use std::io::Write as _;
        let (mut socket, _) = listener.accept().expect("accept");
        socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").expect("write");
        socket
            .shutdown(std::net::Shutdown::Write)
            .expect("shutdown");
        // Until the check has read it: a reset would take the text away.
        std::io::copy(&mut socket, &mut std::io::sink()).ok();
    });
    assert_unhealthy(&healthcheck(&["--url", &url]), &["not a response of HTTP"]);
    ssh.join().expect("the other program");
    let server = TestServer::start(&[]);
    let elsewhere = format!("http://{}/nothing/here", server.address());
    assert_unhealthy(
        &healthcheck(&["--url", &elsewhere]),
        &["/nothing/here: 404"],
    );
}

#[test]
fn wrong_or_unknown_address_is_a_usage_error() {
    let wrong = healthcheck(&["--url", "127.0.0.1:5000"]);
    assert_eq!(wrong.code, USAGE);
    assert!(
        wrong.only_line().contains("http://HOST:PORT"),
        "{}",
        wrong.stderr
    );
    let unknown = run(program().args(["--port=0", "healthcheck"]));
    assert_eq!(unknown.code, USAGE);
    assert!(unknown.only_line().contains("--url"), "{}", unknown.stderr);
}
