//! A network namespace, where a client can have an address that is not this machine's.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{TestServer, command_without_settings, skip, wait_until};

/// Addresses for documentation (RFC 5737), added to the loopback interface.
const ADDRESSES: [&str; 2] = ["203.0.113.7", "203.0.113.8"];

/// A server in a network namespace. Clients reach it from public addresses; no other process can.
pub struct RemoteNetwork {
    pub server: TestServer,
}

/// Starts a server in a network namespace, moves this thread into it, and runs the scenario. Skips the test
/// where that is not permitted.
pub fn with_remote_network(args: &[&str], scenario: impl FnOnce(RemoteNetwork)) {
    match RemoteNetwork::start(args) {
        Ok(network) => scenario(network),
        Err(reason) => skip(reason),
    }
}

impl RemoteNetwork {
    fn start(args: &[&str]) -> Result<Self, &'static str> {
        let has_host = args.iter().any(|arg| arg.starts_with("--host="));
        let host: &[&str] = if has_host { &[] } else { &["--host=0.0.0.0"] };
        let program = TestServer::command(&[host, args].concat());
        let [one, two] = ADDRESSES;
        let setup = format!("ip addr add {one}/32 dev lo && ip addr add {two}/32 dev lo");
        let server = start_in_namespace(&setup, &program)?;
        let namespace = File::open(format!("/proc/{}/ns/net", server.pid())).expect("namespace");
        let network = Some(LinkNameSpaceType::Network);
        if move_into_link_name_space(namespace.as_fd(), network).is_err() {
            return Err("only root may enter a network namespace");
        }
        wait_until("the server in the namespace answers", || {
            server.raw().get("/health").status == 200
        });
        Ok(Self { server })
    }

    /// The server's address as seen by the first or second remote client, which connects from the same address.
    pub fn address(&self, nth: usize) -> SocketAddr {
        let ip = ADDRESSES[nth].parse().expect("an address");
        SocketAddr::new(ip, self.server.address().port())
    }
}

/// Starts a server in a network namespace of its own, after a script has set the namespace up. `Err` says why that is
/// not possible here.
pub fn start_in_namespace(setup: &str, server: &Command) -> Result<TestServer, &'static str> {
    let script = format!("ip link set lo up && {setup}");
    let probe = unshare().arg(&script).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return Err("no right to make a network namespace, or no `ip`");
    }
    let mut command = unshare();
    command.args([&format!("{script} && exec \"$@\""), "sh"]);
    command.arg(server.get_program()).args(server.get_args());
    Ok(TestServer::start_command(command))
}

fn unshare() -> Command {
    let mut command = command_without_settings("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
    command
}
