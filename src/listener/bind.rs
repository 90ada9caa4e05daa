//! Binds the port at every address of the setting `--host`.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_reuseaddr, set_socket_send_buffer_size, set_tcp_nodelay,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};

use super::accept_queue::{lengthen_accept_queue, set_accept_timeout};
use super::endpoint::Endpoint;

/// Send buffer of a client's socket, in bytes; the kernel counts its own overhead on top. The kernel's
/// default grows to 4 MiB: a few hundred clients that do not read would fill a small host's memory, and
/// freeing it all at once would delay everyone else.
pub(super) const SOCKET_SEND_BYTES: usize = 128 * 1024;
/// Ports that are tried for several addresses, if any free port will do.
const FREE_PORT_TRIES: usize = 16;

/// Endpoints of a port, and the addresses that reach them.
pub(crate) struct Bound {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// An address that cannot be bound.
pub(crate) struct BindError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}

/// Binds one port at each address; port 0 means a port that is free at all of them.
///
/// Among several addresses, an address that this machine lacks is left out, such as `::` without IPv6. `::`
/// accepts IPv4 too, so `0.0.0.0` needs no socket beside it.
pub(crate) fn bind_port(host: &[IpAddr], port: u16) -> Result<Bound, BindError> {
    let mut tries = 1..FREE_PORT_TRIES;
    loop {
        match bind_all(host, port) {
            Err(error)
                if port == 0
                    && error.source.kind() == ErrorKind::AddrInUse
                    && tries.next().is_some() => {}
            bound => return bound,
        }
    }
}

fn bind_all(host: &[IpAddr], port: u16) -> Result<Bound, BindError> {
    let any_v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    // A socket for all IPv6 addresses must leave IPv4 alone if single IPv4 addresses have sockets of their own.
    let is_dual = !host.iter().any(|ip| ip.is_ipv4() && *ip != any_v4);
    let mut bound = Bound {
        endpoints: Vec::new(),
        addresses: Vec::new(),
    };
    let mut missing = None;
    // IPv6 is bound first. If its socket accepts IPv4 too, the port is then in use for IPv4.
    let mut ordered = host.to_vec();
    ordered.sort_by_key(|ip| *ip != any_v6);
    for ip in ordered {
        if ip == any_v4 && is_dual && bound.addresses.iter().any(|a| a.ip() == any_v6) {
            continue;
        }
        let port = bound.addresses.first().map_or(port, SocketAddr::port);
        let address = SocketAddr::new(ip, port);
        match bind_one(address, !is_dual) {
            Ok((endpoint, address)) => {
                bound.endpoints.push(endpoint);
                bound.addresses.push(address);
            }
            Err(source) if host.len() > 1 && is_missing(&source) => {
                log::debug!("{ip} is left out: {source}");
                missing = Some(BindError { address, source });
            }
            Err(source) => return Err(BindError { address, source }),
        }
    }
    match missing {
        Some(error) if bound.endpoints.is_empty() => Err(error),
        _ => {
            bound.addresses = reachable(&bound.addresses, is_dual);
            Ok(bound)
        }
    }
}

/// Returns the addresses that reach the sockets, IPv4 first.
fn reachable(bound: &[SocketAddr], is_dual: bool) -> Vec<SocketAddr> {
    let mut addresses = bound.to_vec();
    let any_v6 = addresses
        .iter()
        .find(|address| address.is_ipv6() && address.ip().is_unspecified());
    if let Some(any_v6) = any_v6.filter(|_| is_dual) {
        addresses.push(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), any_v6.port()));
    }
    addresses.sort();
    addresses
}

/// Returns whether the machine does not have the address, or its whole family.
fn is_missing(error: &io::Error) -> bool {
    let missing = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| missing.contains(&errno))
}

fn bind_one(address: SocketAddr, v6_only: bool) -> io::Result<(Endpoint, SocketAddr)> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // A restarted server must not wait for its old connections (RFC 9293 §3.4.1).
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, v6_only)?;
    }
    bind(&socket, &address)?;
    // Accepted sockets inherit the options, which saves system calls for each.
    set_socket_send_buffer_size(&socket, SOCKET_SEND_BYTES)?;
    // Small frames must not wait for each other (RFC 896).
    set_tcp_nodelay(&socket, true)?;
    set_accept_timeout(&socket)?;
    lengthen_accept_queue(&socket)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((Endpoint::Tcp(listener), address))
}
