//! Starts the servers under test on their core, and kills them when dropped.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::charge::Charge;
use crate::cpu::{self, CpuTime};
use crate::machine::Machine;

pub(crate) const START_DEADLINE: Duration = Duration::from_secs(10);

/// The Redis server in Debian's redis-tools. It runs as a server if its argument 0 is "redis-server".
pub(crate) const REDIS_CHECK_RDB: &str = "redis-check-rdb";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    FloorRelay,
    FloorIdle,
    Wscast,
    /// With a certificate, which its flags name.
    WscastTls,
    /// With the default rate limits. The other kinds have none.
    WscastLimited,
}

/// The rate limits of clients. Zero means no limit.
const RATE_FLAGS: [&str; 2] = ["--max-request-rate", "--max-byte-rate"];

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: ServerKind,
    pub(crate) address: SocketAddrV4,
    process: Process,
}

/// A child process, which is killed on drop. Separate from [`Server`], so that a process that prints no address is
/// killed too.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl ServerKind {
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, ServerKind::FloorRelay | ServerKind::FloorIdle)
    }
}

impl Server {
    /// Starts a server and waits until it prints its address. `wscast` is the binary for kinds that are not a floor.
    pub(crate) fn start(
        kind: ServerKind,
        wscast: &Path,
        arguments: &[String],
        machine: &Machine,
    ) -> io::Result<Server> {
        let mut command = command(kind, wscast, arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, machine)?;
        let output = process
            .0
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no standard output"))?;
        let port = printed_port(output)
            .ok_or_else(|| io::Error::other(format!("{kind:?} printed no address")))?;
        Ok(Server {
            kind,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            process,
        })
    }

    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        self.process.cpu()
    }

    /// Starts to count the memory that a container is charged for this server.
    pub(crate) fn charge(&self) -> Charge {
        Charge::of(self.process.id())
    }

    pub(crate) fn threads_cpu<const N: usize>(
        &self,
        names: [&[&str]; N],
    ) -> io::Result<[Option<Duration>; N]> {
        cpu::threads_named(self.process.id(), names)
    }

    pub(crate) fn rss_kib(&self) -> io::Result<u64> {
        cpu::rss_kib(self.process.0.id())
    }

    pub(crate) fn peak_rss_kib(&self) -> io::Result<u64> {
        cpu::peak_rss_kib(self.process.0.id())
    }

    pub(crate) fn check_alive(&mut self) -> io::Result<()> {
        self.process.check_alive(&format!("{:?}", self.kind))
    }
}

impl Process {
    /// Starts the process on the server's core.
    pub(crate) fn start(command: &mut Command, machine: &Machine) -> io::Result<Process> {
        Ok(Process(machine.on_server_core(|| command.spawn())??))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.0.id())
    }

    pub(crate) fn check_alive(&mut self, name: &str) -> io::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("{name} exited: {status}"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(kind: ServerKind, wscast: &Path, arguments: &[String]) -> io::Result<Command> {
    match kind {
        ServerKind::FloorRelay => child("floor-relay"),
        ServerKind::FloorIdle => child("floor-idle"),
        ServerKind::Wscast | ServerKind::WscastTls | ServerKind::WscastLimited => {
            let mut command = guarded(wscast)?;
            command.args(["--host", "127.0.0.1", "--port", "0", "--log-level", "warn"]);
            if kind != ServerKind::WscastLimited {
                // In most cases a single publisher sends as much as the server can relay.
                command.args(RATE_FLAGS.iter().flat_map(|flag| [flag, "0"]));
            }
            command.args(arguments);
            Ok(command)
        }
    }
}

/// Returns the command that runs this binary as a child, in one of the roles of `ChildRole`.
fn child(role: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", role]);
    Ok(command)
}

/// Returns the command of a server that is killed when the benchmark ends. The caller adds its arguments.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = child("guard")?;
    command.arg("--").arg(program);
    Ok(command)
}

/// Replaces this process with `command`. The kernel kills it when the benchmark ends. Returns only on failure.
pub(crate) fn become_guarded(command: &[OsString]) -> io::Result<()> {
    end_with_parent()?;
    match command {
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            if program == REDIS_CHECK_RDB {
                command.arg0("redis-server");
            }
            Err(command.args(arguments).exec())
        }
        [] => Err(io::Error::other("no command to run")),
    }
}

/// Lets the kernel kill this process when its parent ends, even if the parent is killed.
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Waits for the line with `ws://127.0.0.1:PORT/ws` or `wss://…`. A thread reads the output to its end, so that the
/// pipe is never full or broken for the server.
fn printed_port(output: ChildStdout) -> Option<u16> {
    let (found, port) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(port) = port_in(&line) {
                // The receiver takes only the first port.
                let _ = found.send(port);
            }
        }
    });
    port.recv_timeout(START_DEADLINE).ok()
}

fn port_in(line: &str) -> Option<u16> {
    let (_, after_host) = line.split_once("://127.0.0.1:")?;
    let digits = after_host.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
