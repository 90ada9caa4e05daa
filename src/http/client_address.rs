//! The address of a request's client: the peer's, or the one that a trusted proxy names.

use crate::app::App;
use crate::proxy::{ForwardingHeader, forwarded};
use crate::socket::Peer;

use super::wire::Head;

/// Returns the client of a request that arrived from `peer`. Only a trusted proxy is believed; a proxy
/// that names no client counts as the client.
pub(crate) fn client_address(head: &Head, peer: Peer, app: &App) -> Peer {
    let Some(header) = forwarding_header(head) else {
        return peer;
    };
    if !app.admission.is_trusted_proxy(peer) {
        // Anyone can send the header; only a peer near this machine is likely to be the operator's proxy.
        if peer.is_near() {
            app.admission.log_untrusted_proxy(header, peer);
        }
        return peer;
    }
    let lines = head.headers.lines(header.name());
    forwarded(header, lines, &app.config.get().trusted_proxies).map_or(peer, Peer::Forwarded)
}

/// Returns the header to read. Nearly all proxies write `X-Forwarded-For` and pass on a client's `Forwarded`
/// unchanged, so the former wins. A proxy that writes only `Forwarded` must remove the former.
fn forwarding_header(head: &Head) -> Option<ForwardingHeader> {
    use ForwardingHeader::{Forwarded, XForwardedFor};
    [XForwardedFor, Forwarded]
        .into_iter()
        .find(|header| head.headers.contains(header.name()))
}
