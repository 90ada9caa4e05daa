//! Messages to the service manager, as sd_notify(3) defines them: ready, stopping, alive. Without one they do nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

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

/// Parses a path, or `@` and an abstract name.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}
