//! The servers that are measured: how each one starts, and what it speaks.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::client_group::ServerProtocol;
use crate::cpu::{self, CpuTime};
use crate::machine::Machine;
use crate::peers::options::PeerOptions;
use crate::servers::{Process, guarded};

/// A server that starts, but is not measured as one of the servers that a user would pick.
pub(crate) const FLOOR: &str = "floor";
pub(crate) const WSCAST: &str = "wscast";

/// The names and labels of all servers, in the order of the tables.
const PEERS: [(&str, &str); 9] = [
    (FLOOR, "floor"),
    (WSCAST, "wscast"),
    ("bun", "Bun"),
    ("nchan", "nchan"),
    ("gorilla", "Go, gorilla"),
    ("tungstenite", "tokio-tungstenite"),
    ("ws", "Node, ws"),
    ("websockets", "Python, websockets"),
    ("flask", "Flask, flask-sock"),
];

/// Below the ports that the kernel gives to clients. A client that connects to a free port of the kernel's range, as
/// after a crash, may be given the same port and be connected to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

const START_DEADLINE: Duration = Duration::from_secs(15);
const START_STEP: Duration = Duration::from_millis(10);

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) label: &'static str,
    /// The names and versions of the programs that it consists of.
    pub(crate) version: String,
    /// The program and its arguments. The port follows them.
    command: Vec<OsString>,
    pub(crate) protocol: ServerProtocol,
}

/// A server that could not be installed.
#[derive(Clone, Debug)]
pub(crate) struct SkippedPeer {
    pub(crate) label: &'static str,
    pub(crate) reason: String,
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct PeerServer {
    pub(crate) address: SocketAddrV4,
    pub(crate) protocol: ServerProtocol,
    process: Process,
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PEERS.iter().map(|(name, _)| *name)
}

pub(crate) fn label_of(name: &str) -> &'static str {
    let peer = PEERS.iter().find(|(known, _)| *known == name);
    peer.map_or("unknown", |(_, label)| label)
}

/// Returns the servers to measure, and those that are missing.
pub(crate) fn find(options: &PeerOptions) -> io::Result<(Vec<Peer>, Vec<SkippedPeer>)> {
    if let Some(unknown) = options
        .peers
        .iter()
        .find(|name| !names().any(|known| known == *name))
    {
        let known = names().collect::<Vec<_>>().join(", ");
        return Err(io::Error::other(format!(
            "--peers {unknown}: the servers are {known}"
        )));
    }
    let installed = fs::read_to_string(&options.installed).unwrap_or_default();
    let (mut peers, mut skipped) = (Vec::new(), Vec::new());
    for (name, label) in PEERS {
        if !options.peers.is_empty() && !options.peers.iter().any(|wanted| wanted == name) {
            continue;
        }
        match find_one(name, label, options, &installed) {
            Ok(peer) => peers.push(peer),
            Err(reason) => skipped.push(SkippedPeer { label, reason }),
        }
    }
    Ok((peers, skipped))
}

/// Returns the server, or the reason why it is missing.
fn find_one(
    name: &'static str,
    label: &'static str,
    options: &PeerOptions,
    installed: &str,
) -> Result<Peer, String> {
    let (version, command) = match name {
        FLOOR => {
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            let arguments = ["--child", "floor-hub", "--"].map(OsString::from);
            let command = [program.into()].into_iter().chain(arguments).collect();
            ("one raw send per message and client".to_owned(), command)
        }
        WSCAST => (env!("CARGO_PKG_VERSION").to_owned(), wscast(options)),
        _ => {
            let line = installed
                .lines()
                .find(|line| line.split('\t').next() == Some(name));
            let mut fields = line.ok_or("not set up")?.split('\t').skip(1);
            let version = fields.next().unwrap_or_default();
            if version == "skipped" {
                return Err(fields.next().unwrap_or_default().to_owned());
            }
            (version.to_owned(), fields.map(OsString::from).collect())
        }
    };
    let protocol = match name {
        WSCAST => ServerProtocol::WebSocket,
        "nchan" => ServerProtocol::RelayWithoutWelcome,
        _ => ServerProtocol::Relay,
    };
    Ok(Peer {
        name: name.to_owned(),
        label,
        version,
        command,
        protocol,
    })
}

fn wscast(options: &PeerOptions) -> Vec<OsString> {
    let mut command = vec![options.server.clone().into_os_string()];
    // A single publisher sends as much as the server can relay.
    let flags = "--host 127.0.0.1 --log-level error --max-request-rate 0 --max-byte-rate 0";
    command.extend(flags.split(' ').map(OsString::from));
    command.extend(options.server_arg.iter().map(OsString::from));
    command.push("--port".into());
    command
}

impl Peer {
    pub(crate) fn is_wscast(&self) -> bool {
        self.name == WSCAST
    }

    /// Starts the server on a free port and waits until it accepts connections.
    pub(crate) fn start(&self, machine: &Machine) -> io::Result<PeerServer> {
        self.start_on(free_port()?, &[], machine)
    }

    /// Starts the server on this port. `arguments` follow the port, which only wscast allows.
    pub(crate) fn start_on(
        &self,
        port: u16,
        arguments: &[String],
        machine: &Machine,
    ) -> io::Result<PeerServer> {
        let (program, own_arguments) = self
            .command
            .split_first()
            .ok_or_else(|| io::Error::other(format!("{} has no command", self.name)))?;
        let mut command = guarded(program)?;
        command.args(own_arguments).arg(port.to_string());
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = PeerServer {
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            protocol: self.protocol,
            process: Process::start(&mut command, machine)?,
        };
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(server.address).is_err() {
            server.check_alive()?;
            if Instant::now() >= deadline {
                return Err(io::Error::other("it did not start in time"));
            }
            thread::sleep(START_STEP);
        }
        Ok(server)
    }
}

impl PeerServer {
    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.process.id())
    }

    pub(crate) fn rss_kib(&self) -> io::Result<u64> {
        cpu::rss_kib(self.process.id())
    }

    pub(crate) fn peak_rss_kib(&self) -> io::Result<u64> {
        cpu::peak_rss_kib(self.process.id())
    }

    /// Kills the process and waits for its end.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    pub(crate) fn check_alive(&mut self) -> io::Result<()> {
        self.process.check_alive("the server")
    }
}

pub(crate) fn free_port() -> io::Result<u16> {
    let count = PORTS.end - PORTS.start;
    let first = rand::random_range(0..count);
    let mut ports = (0..count).map(|turn| PORTS.start + (first + turn) % count);
    ports
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| io::Error::other("no port is free"))
}
