//! A network of its own, where a client may have an address that is not this machine's.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{TestServer, eventually};

/// Documentation's addresses (RFC 5737), on the loopback interface.
const ADDRESSES: [&str; 2] = ["203.0.113.7", "203.0.113.8"];

/// A server that clients reach at addresses of the world, which nobody else can.
pub struct RemoteMembers {
    pub server: TestServer,
}

impl RemoteMembers {
    /// Moves this thread there too. `None`, and a line that says so, where this may not be done.
    pub fn serve(args: &[&str]) -> Option<Self> {
        let program = TestServer::command(&[&["--host=0.0.0.0"], args].concat());
        let [one, two] = ADDRESSES;
        let script = format!(
            "ip link set lo up && ip addr add {one}/32 dev lo && ip addr add {two}/32 dev lo"
        );
        let mut probe = unshare();
        if !probe
            .arg(&script)
            .output()
            .is_ok_and(|out| out.status.success())
        {
            eprintln!("NOT TESTED: this needs a network namespace, and `ip` in it");
            return None;
        }
        let mut command = unshare();
        command.args([&format!("{script} && exec \"$@\""), "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        let server = TestServer::start_command(command);
        let namespace = File::open(format!("/proc/{}/ns/net", server.pid())).expect("namespace");
        let network = Some(LinkNameSpaceType::Network);
        if move_into_link_name_space(namespace.as_fd(), network).is_err() {
            eprintln!("NOT TESTED: only root may enter a network namespace");
            return None;
        }
        let elsewhere = Self { server };
        eventually("it answers", || {
            (elsewhere.server.raw().get("/health").status == 200).then_some(())
        });
        Some(elsewhere)
    }

    /// Where the server is for those who come from the first or the second address: there.
    pub fn address(&self, nth: usize) -> SocketAddr {
        let ip = ADDRESSES[nth].parse().expect("an address");
        SocketAddr::new(ip, self.server.address().port())
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
    command
}
