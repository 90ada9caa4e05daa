//! The real binary, on a free port of the loopback interface.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;

use super::socket::{Socket, trust_anyone};
use super::{RawConnection, TestClient, eventually};

/// A running server; dropped, it is killed.
pub struct TestServer {
    child: Child,
    address: SocketAddr,
    /// How its clients speak TLS, if it does.
    trust: Option<Arc<ClientConfig>>,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl TestServer {
    /// A server with the defaults but for these arguments.
    pub fn start(args: &[&str]) -> Self {
        Self::start_command(Self::command(args))
    }

    /// The program with a clean environment, to be adjusted before [`start_command`](Self::start_command).
    pub fn command(args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wscast"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WSCAST_") || name == "PORT" || name == "HOST" {
                command.env_remove(name);
            }
        }
        let given = |flag: &str| args.iter().any(|arg| arg.split('=').next() == Some(flag));
        if !given("--host") {
            command.args(["--host", "127.0.0.1"]);
        }
        if !given("--port") {
            command.args(["--port", "0"]);
        }
        // Tests are in a hurry.
        for rate in ["--max-request-rate", "--max-byte-rate"] {
            if !given(rate) {
                command.args([rate, "0"]);
            }
        }
        if !given("--log-level") {
            command.args(["--log-level", "debug"]);
        }
        command.args(args);
        command
    }

    /// Starts the program and waits until it says where it listens.
    pub fn start_command(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot start");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("piped");
        let log_reader = Some(collect(stderr, Arc::clone(&log)));
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut page = String::new();
        stdout.read_line(&mut page).expect("stdout");
        let address = page
            .split_once("://")
            .and_then(|(_, rest)| rest.trim_end().trim_end_matches('/').parse().ok());
        let Some(address) = address else {
            let status = child.wait().expect("wait");
            panic!("did not start ({status}): {page:?} {}", log.lock().unwrap());
        };
        // Whoever reads no further must not block the server.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self {
            child,
            address,
            trust: page.contains("https://").then(trust_anyone),
            log,
            log_reader,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A client in the lobby that has read its welcome.
    pub fn client(&self) -> TestClient {
        self.client_at("/ws")
    }

    /// A client that connected to this path and query and has read its welcome.
    pub fn client_at(&self, target: &str) -> TestClient {
        TestClient::enter(self.connect(), target)
    }

    /// A connection as its clients make it, over TLS where it speaks that.
    pub fn connect(&self) -> Socket {
        let socket = Socket::tcp(self.address);
        match &self.trust {
            Some(trust) => socket.with_tls(trust),
            None => socket,
        }
    }

    /// A bare connection.
    pub fn raw(&self) -> RawConnection {
        RawConnection::over(self.connect())
    }

    /// The JSON body of a `GET` that must be answered with 200.
    pub fn get_json(&self, path: &str) -> Value {
        let response = self.raw().get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// `connected_clients` of `/stats`.
    pub fn connected_clients(&self) -> u64 {
        self.get_json("/stats")["connected_clients"]
            .as_u64()
            .expect("a number")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Waits until the process has ended by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let status = eventually("the server exits", || self.child.try_wait().expect("wait"));
        if let Some(reader) = self.log_reader.take() {
            reader.join().expect("log reader");
        }
        status
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- server log ---\n{}--- end ---", self.log());
        }
    }
}

fn collect(mut stderr: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            log.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    })
}
