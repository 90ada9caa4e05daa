//! The address of a request's client: the peer's, or the one that a trusted proxy names.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use crate::app::App;
use crate::proxy::{ForwardingHeader, forwarded};
use crate::socket::Peer;

use super::wire::Head;

/// Returns the client of a request that arrived from `peer`. Only a trusted proxy is believed; if it names no
/// client, it is the client itself.
pub(crate) fn client_address(head: &Head, peer: Peer, app: &App) -> Peer {
    let Some(header) = forwarding_header(head) else {
        return peer;
    };
    if !app.is_trusted_proxy(peer) {
        log_untrusted_proxy(header, peer, app);
        return peer;
    }
    let lines = head.headers.lines(header.name());
    forwarded(header, lines, &app.config.trusted_proxies).map_or(peer, Peer::Forwarded)
}

/// Returns the header to read. Nearly all proxies write `X-Forwarded-For` and pass on a client's `Forwarded`
/// unchanged, so the former wins. A proxy that writes only `Forwarded` must remove the former.
fn forwarding_header(head: &Head) -> Option<ForwardingHeader> {
    use ForwardingHeader::{Forwarded, XForwardedFor};
    [XForwardedFor, Forwarded]
        .into_iter()
        .find(|header| head.headers.contains(header.name()))
}

/// Warns once about a neighbour that looks like a proxy and is not trusted: all its clients share one address
/// and its limits.
fn log_untrusted_proxy(header: ForwardingHeader, peer: Peer, app: &App) {
    let is_near = peer.ip().is_none_or(is_near);
    if !is_near || !app.config.trusted_proxies.is_empty() {
        return;
    }
    if app.proxy_noticed.swap(true, Ordering::Relaxed) {
        return;
    }
    let name = peer.ip().map_or("unix".to_owned(), |ip| ip.to_string());
    let header = header.name();
    log::warn!(
        "{name} sends {header}, which is not believed; if it is your proxy, --trusted-proxies {name} \
         makes limits and log tell its clients apart"
    );
}

/// Whether an address belongs to this machine or its local network.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
