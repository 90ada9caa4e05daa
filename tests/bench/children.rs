//! The servers under test: started on their core, found by the address they print, ended by handle.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::args::Options;
use crate::cpu::{self, CpuTime};
use crate::machine::Machine;

pub(crate) const START_DEADLINE: Duration = Duration::from_secs(10);

/// The server that Debian's redis-tools has without the service: it looks at the name it is run under.
pub(crate) const REDIS_BY_OTHER_NAME: &str = "redis-check-rdb";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    FloorRelay,
    FloorIdle,
    Wscast,
    /// With a certificate, which the arguments name.
    WscastTls,
    /// With the bounds on what clients may ask that are in force by default.
    WscastLimited,
}

/// Bounds on what clients may ask in a time; 0 is none.
const RATE_FLAGS: [&str; 2] = ["--max-request-rate", "--max-byte-rate"];

/// A running server. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddrV4,
    process: Process,
}

/// Apart from [`Server`], so that a process that never prints an address is killed too.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Kind {
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Kind::FloorRelay | Kind::FloorIdle)
    }
}

impl Server {
    /// With arguments of a case's own, before those that the user passes on.
    pub(crate) fn start(
        kind: Kind,
        arguments: &[String],
        options: &Options,
        machine: &Machine,
    ) -> io::Result<Server> {
        let mut command = command(kind, arguments, options)?;
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

    pub(crate) fn threads_cpu<const N: usize>(
        &self,
        names: [&str; N],
    ) -> io::Result<[Duration; N]> {
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
    /// On the server's core.
    pub(crate) fn start(command: &mut Command, machine: &Machine) -> io::Result<Process> {
        Ok(Process(machine.on_server_core(|| command.spawn())??))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.0.id())
    }

    pub(crate) fn check_alive(&mut self, name: &str) -> io::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("{name} ended: {status}"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(kind: Kind, arguments: &[String], options: &Options) -> io::Result<Command> {
    match kind {
        Kind::FloorRelay => floor("relay"),
        Kind::FloorIdle => floor("idle"),
        Kind::Wscast | Kind::WscastTls | Kind::WscastLimited => {
            let mut command = guarded(&options.server)?;
            command.args(["--host", "127.0.0.1", "--port", "0", "--log-level", "warn"]);
            if kind != Kind::WscastLimited {
                // One publisher asks for as much as the server can do.
                command.args(RATE_FLAGS.iter().flat_map(|flag| [flag, "0"]));
            }
            command.args(arguments).args(&options.server_arg);
            Ok(command)
        }
    }
}

/// This binary, run again as a floor.
fn floor(mode: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--floor", mode]);
    Ok(command)
}

/// A server that does not outlive the benchmark; its arguments are to be added.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = floor("guard")?;
    command.arg("--").arg(program);
    Ok(command)
}

/// Becomes `command`, the server to measure, which then ends with the benchmark as the floors do.
pub(crate) fn guard(command: &[OsString]) -> io::Result<()> {
    end_with_parent()?;
    match command {
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            if program == REDIS_BY_OTHER_NAME {
                command.arg0("redis-server");
            }
            Err(command.args(arguments).exec())
        }
        [] => Err(io::Error::other("nothing to run")),
    }
}

/// A benchmark that was killed takes its children with it; they have no other way to notice.
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Waits for the line with `ws://127.0.0.1:PORT/ws`, or `wss`. The output is read on to its end, so that the
/// server never meets a full or broken pipe.
fn printed_port(output: ChildStdout) -> Option<u16> {
    let (found, port) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(port) = port_in(&line) {
                // Only the first is waited for.
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
