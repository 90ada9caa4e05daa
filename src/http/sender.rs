//! Who sent a request: the peer, or whom it speaks for if it is a proxy.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use crate::app::App;
use crate::proxy::{ForwardingHeader, forwarded};
use crate::socket::Peer;

use super::Request;

/// Who sent a request that came from this peer. Of trusted proxies alone is it believed whom they name;
/// where they name nobody, it is they.
pub fn sender(request: &Request, peer: Peer, app: &App) -> Peer {
    let Some(header) = forwarding_header(request) else {
        return peer;
    };
    if !app.is_trusted_proxy(peer) {
        notice_proxy(header, peer, app);
        return peer;
    }
    let lines = request.header_lines(header.name());
    let named = forwarded(header, lines, &app.config.trusted_proxies);
    named.map_or(peer, Peer::Forwarded)
}

/// The one that is read. A proxy that writes `Forwarded` alone must remove the other, or its clients write
/// it; but nearly all write `X-Forwarded-For`, and pass on what `Forwarded` they are sent.
fn forwarding_header(request: &Request) -> Option<ForwardingHeader> {
    use ForwardingHeader::{Forwarded, XForwardedFor};
    let stands = |header: &ForwardingHeader| request.header_lines(header.name()).next().is_some();
    [XForwardedFor, Forwarded].into_iter().find(stands)
}

/// Says once that a neighbour seems to be a proxy, which the operator may not have thought of: all its
/// clients count as one, or as none.
fn notice_proxy(header: ForwardingHeader, peer: Peer, app: &App) {
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

/// Whether an address is this machine's or its network's.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
