//! The real program, on a free port of the loopback interface.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;

use super::certificate::trust_any_certificate;
use super::token::SECRET;
use super::{ClientOptions, RawConnection, Socket, TestClient, program, wait_for};

/// A running server. It is killed on drop.
pub struct TestServer {
    child: Child,
    address: SocketAddr,
    /// How clients check its certificate, if it has one.
    trust: Option<Arc<ClientConfig>>,
    log: Arc<ServerLog>,
    log_reader: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Starts a server with these arguments; everything else has its default.
    pub fn start(args: &[&str]) -> Self {
        Self::start_command(Self::command(args))
    }

    /// Returns the command of a server, to be adjusted before [`start_command`](Self::start_command).
    pub fn command(args: &[&str]) -> Command {
        let mut command = program();
        let given = |flag: &str| args.iter().any(|arg| arg.split('=').next() == Some(flag));
        if !given("--host") {
            command.args(["--host", "127.0.0.1"]);
        }
        if !given("--port") {
            command.args(["--port", "0"]);
        }
        // Scenarios send faster than the default limits allow.
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

    /// Starts a server that checks tokens with [`SECRET`] and the audience `wscast`.
    pub fn with_tokens(args: &[&str]) -> Self {
        let mut command = Self::command(&[&["--audience", "wscast"], args].concat());
        command.env("SECRET_KEY", SECRET);
        Self::start_command(command)
    }

    /// Starts the program and waits until it prints its address.
    pub fn start_command(command: Command) -> Self {
        Self::try_start_command(command)
            .unwrap_or_else(|(status, log)| panic!("did not start ({status}): {log}"))
    }

    /// Starts a program that may end instead of serving. `Err` has its exit status and log.
    pub fn try_start_command(mut command: Command) -> Result<Self, (ExitStatus, String)> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot start the server");
        let log = Arc::new(ServerLog {
            pipe: child.stderr.take().expect("a pipe"),
            read: Mutex::default(),
        });
        let reader = Arc::clone(&log);
        let log_reader = std::thread::spawn(move || reader.read_to_end());
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout");
        let address = line
            .split_once("://")
            .and_then(|(_, rest)| rest.trim_end().trim_end_matches('/').parse().ok());
        let Some(address) = address else {
            let status = child.wait().expect("wait");
            log_reader.join().expect("the log reader");
            return Err((status, line + &log.text()));
        };
        // The server must not block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(Self {
            child,
            address,
            trust: line.contains("https://").then(trust_any_certificate),
            log,
            log_reader: Some(log_reader),
        })
    }

    /// Returns whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the server has logged so far, such as what it logged before a response that the scenario has.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Connects a client that joins the lobby.
    pub fn client(&self) -> TestClient {
        self.client_at("/ws")
    }

    /// Connects a client to this path and query.
    pub fn client_at(&self, target: &str) -> TestClient {
        ClientOptions::new().open(self.connect(), target)
    }

    /// Connects a client that never answers a Ping or a Close by itself.
    pub fn passive_client(&self, target: &str) -> TestClient {
        ClientOptions::new().passive().open(self.connect(), target)
    }

    /// Connects a client that gets no welcome: one that has yet to send its token, or one of `/echo`.
    pub fn client_without_welcome(&self, target: &str) -> TestClient {
        let options = ClientOptions::new().without_welcome();
        options.open(self.connect(), target)
    }

    /// Opens a socket, with TLS if the server has a certificate.
    pub fn connect(&self) -> Socket {
        let socket = Socket::tcp(self.address);
        match &self.trust {
            Some(trust) => socket.with_tls(trust),
            None => socket,
        }
    }

    /// Opens a bare connection.
    pub fn raw(&self) -> RawConnection {
        self.connect().into()
    }

    /// Returns the JSON body of a `GET` that must succeed.
    pub fn get_json(&self, path: &str) -> Value {
        let response = self.raw().get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// `connected_clients` of `/stats`.
    pub fn connected_clients(&self) -> u64 {
        self.get_json("/stats")["connected_clients"]
            .as_u64()
            .expect("connected_clients is a number")
    }

    /// Ends the process with a signal.
    pub fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.wait_for_exit();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Waits until the process has ended by itself, and its log is complete.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let status = wait_for("the server exits", || self.child.try_wait().expect("wait"));
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

/// The stderr of a server.
struct ServerLog {
    pipe: ChildStderr,
    /// Locked while bytes are moved from the pipe, so that whoever has the lock sees each byte in one of the two.
    read: Mutex<ReadLog>,
}

#[derive(Default)]
struct ReadLog {
    /// Whole lines, although the server may write parts.
    text: String,
    part: Vec<u8>,
    has_ended: bool,
}

impl ServerLog {
    fn read_to_end(&self) {
        let mut bytes = [0; 16 * 1024];
        loop {
            while poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], None).is_err() {}
            let mut log = self.read.lock().unwrap();
            let read = rustix::io::read(&self.pipe, &mut bytes).expect("the log");
            log.part.extend(&bytes[..read]);
            log.has_ended = read == 0;
            let end = log.part.iter().rposition(|byte| *byte == b'\n');
            let whole = match end {
                _ if log.has_ended => log.part.len(),
                end => end.map_or(0, |end| end + 1),
            };
            let lines: Vec<u8> = log.part.drain(..whole).collect();
            log.text.push_str(&String::from_utf8_lossy(&lines));
            if log.has_ended {
                return;
            }
        }
    }

    fn text(&self) -> String {
        wait_for("the log is read", || {
            let log = self.read.lock().unwrap();
            let is_complete = log.has_ended || ioctl_fionread(&self.pipe).expect("a pipe") == 0;
            is_complete.then(|| log.text.clone())
        })
    }
}
