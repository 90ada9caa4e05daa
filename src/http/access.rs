//! ClientSelector asks, and what the answer is to one who may not (RFC 6750 §3).

use std::sync::Arc;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::auth::{AuthError, Identity};
use crate::protocol::{ErrorCode, Refusal, RoomName};

use super::answer::WithHeader;
use super::{Request, error, slow_down};

/// Longest description of an error in a challenge, in characters.
const DESCRIPTION_CHARS_MAX: usize = 200;

/// What a route asks of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing.
    Nothing,
    /// To be known; which rooms it may see or use is the handler's business.
    Identity,
    /// To look after other clients.
    Admin,
}

/// Finds out who asks and lets it pass, or gives the answer.
pub(super) fn admit(
    request: &mut Request,
    needs: Requirement,
    app: &App,
) -> Result<(), ResponseBox> {
    let identity = app.identify(request.token(), request.peer);
    match (needs, &identity) {
        (Requirement::Nothing, _) => {}
        (_, Err(why)) => return Err(unauthorized(why)),
        (Requirement::Admin, Ok(identity)) if !identity.admin => {
            let message = "this takes a token with the claim `admin`";
            return Err(refused(&Refusal::new(ErrorCode::Forbidden, message)));
        }
        (_, Ok(_)) => {}
    }
    request.identity = identity.ok();
    Ok(())
}

/// ClientSelector asks, for a stream or a WebSocket; `Err` is the answer.
pub fn identify(request: &Request, app: &App) -> Result<Arc<Identity>, ResponseBox> {
    let identity = app.identify(request.token(), request.peer);
    identity.map_err(|why| unauthorized(&why))
}

/// 401, and how to do better, or 429 and when.
pub fn unauthorized(why: &AuthError) -> ResponseBox {
    let challenge = match why {
        AuthError::TokenNeeded => "Bearer".to_owned(),
        AuthError::Token(why) => {
            let why = description(&why.to_string());
            format!("Bearer error=\"invalid_token\", error_description=\"{why}\"")
        }
        AuthError::TooManyFailures(wait) => return slow_down(&why.to_string(), *wait),
    };
    error(401, ErrorCode::Unauthorized.as_str(), &why.to_string())
        .with("WWW-Authenticate", &challenge)
}

/// Text in the alphabet of `error_description` (RFC 6750 §3), which has neither quotes nor backslashes:
/// a claim that is quoted in it must not end it.
fn description(text: &str) -> String {
    let fitting = text.chars().map(|c| match c {
        '"' => '\'',
        ' '..='~' if c != '\\' => c,
        _ => '?',
    });
    fitting.take(DESCRIPTION_CHARS_MAX).collect()
}

/// 403 with the refusal's words.
pub fn refused(refusal: &Refusal) -> ResponseBox {
    error(403, refusal.code.as_str(), &refusal.message)
}

/// Refuses one who may not read this room.
pub(super) fn may_subscribe(request: &Request, room: &RoomName) -> Result<(), ResponseBox> {
    known(request)?
        .may_subscribe(room)
        .map_err(|refusal| refused(&refusal))
}

/// Refuses one who may not publish to this room.
pub(super) fn may_publish(request: &Request, room: &RoomName) -> Result<(), ResponseBox> {
    known(request)?
        .may_publish(room)
        .map_err(|refusal| refused(&refusal))
}

fn known(request: &Request) -> Result<&Identity, ResponseBox> {
    let nobody = || error(401, ErrorCode::Unauthorized.as_str(), "a token is needed");
    request.identity.as_deref().ok_or_else(nobody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_cannot_end_its_quotes_or_its_line() {
        assert_eq!(description("holds \"a\\b\", \r\n房"), "holds 'a?b', ???");
        assert_eq!(description(&"x".repeat(9000)).len(), DESCRIPTION_CHARS_MAX);
    }
}
