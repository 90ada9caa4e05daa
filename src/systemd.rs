//! The service manager: messages to it, as sd_notify(3) defines them, and the sockets that it passes, as
//! sd_listen_fds(3) does. Without a service manager nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// The socket of the service manager.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// Returns the service manager that started this process with `Type=notify`, if one did.
    pub(crate) fn from_environment() -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        let opened = address(&path).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not stop the server.
            socket.set_nonblocking(true)?;
            Ok(Self { socket, address })
        });
        opened
            .map_err(|why| log::warn!("NOTIFY_SOCKET {}: {why}", path.display()))
            .ok()
    }

    /// Reports that clients can connect.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that the server is shutting down.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Reports that the server works. The manager restarts a server that has not sent this for its `WatchdogSec=`.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, state: &str) {
        let sent = self.socket.send_to_addr(state.as_bytes(), &self.address);
        if let Err(why) = sent {
            log::warn!("cannot send {state} to NOTIFY_SOCKET: {why}");
        }
    }
}

/// Returns how often the service manager has to be sent [`alive`](ServiceManager::alive): twice in its `WatchdogSec=`.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    let is_ours = |pid: String| pid == std::process::id().to_string();
    if !variable("WATCHDOG_PID").is_none_or(is_ours) {
        return None;
    }
    let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    Some(Duration::from_micros(microseconds / 2)).filter(|interval| !interval.is_zero())
}

/// A listening socket of the service manager.
#[derive(Debug)]
pub(crate) enum PassedSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Returns how many sockets the service manager has passed to this process, without taking them.
pub(crate) fn passed_sockets_count() -> usize {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() as usize => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// Takes the sockets that the service manager has passed. An `Err` is the reason why there are none, or why one cannot
/// be used.
pub(crate) fn take_passed_sockets() -> Result<Vec<PassedSocket>, String> {
    let count = passed_sockets_count();
    if count == 0 {
        return Err("systemd has passed no socket; start the .socket unit".to_owned());
    }
    let mut passed = ListenFd::from_env();
    (0..count).map(|n| take_socket(&mut passed, n)).collect()
}

fn take_socket(passed: &mut ListenFd, n: usize) -> Result<PassedSocket, String> {
    let (socket, listens) = if let Ok(Some(listener)) = passed.take_tcp_listener(n) {
        let listens = socket_acceptconn(&listener);
        (PassedSocket::Tcp(listener), listens)
    } else if let Ok(Some(listener)) = passed.take_unix_listener(n) {
        let listens = socket_acceptconn(&listener);
        (PassedSocket::Unix(listener), listens)
    } else {
        let why = "is neither a TCP nor a Unix stream socket; write ListenStream=";
        return Err(format!("socket {} of the .socket unit {why}", n + 1));
    };
    match listens {
        Ok(true) => Ok(socket),
        _ => Err("the .socket unit passes connections; write Accept=no".to_owned()),
    }
}

/// Parses a path, or `@` and an abstract name.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}
