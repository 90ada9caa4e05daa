//! The choice of a subprotocol (RFC 6455 §4.2.2). A browser drops the connection if the server chooses none of its
//! offers.

use crate::http::{Head, TOKEN_SUBPROTOCOL};

/// The subprotocol of this server.
const WSCAST: &str = "wscast";

/// Returns the chosen offer: `wscast`, else the first. Names other than `wscast` have no meaning, but clients offer
/// them by default (`arduino`) or by mistake (`null`).
///
/// `None` if the client offers none. `Err` is the rule that the offers break. A token is never chosen, because the
/// response would repeat it.
pub(super) fn choose(head: &Head) -> Result<Option<&str>, &'static str> {
    let offers = || head.headers.list("Sec-WebSocket-Protocol");
    if offers().next().is_none() {
        return Ok(None);
    }
    if !offers().all(is_token) {
        return Err("Sec-WebSocket-Protocol must list names without spaces");
    }
    let mut names = offers().filter(|offer| !is_jwt(offer));
    let first = names.next().ok_or(
        "Sec-WebSocket-Protocol must offer `wscast` beside `wscast.token.…`, because the server repeats no token",
    )?;
    Ok(Some(names.find(|name| *name == WSCAST).unwrap_or(first)))
}

/// Returns whether an offer holds a JSON Web Token. Some programs offer one without the prefix.
fn is_jwt(offer: &str) -> bool {
    // The base64 of `{"`.
    let is_bare = offer.starts_with("eyJ") && offer.split('.').count() == 3;
    is_bare || offer.starts_with(TOKEN_SUBPROTOCOL)
}

/// Returns whether a text is a `token` of HTTP (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let is_symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || is_symbol(byte))
}
