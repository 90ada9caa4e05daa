//! Authorization of a request: the identity of its client, or the response to a client without one (RFC 6750 §3).

use std::sync::Arc;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::auth::{AuthError, Identity};
use crate::protocol::{ErrorCode, Refusal, RoomName};

use super::auth_question::auth_question;
use super::cookie::token;
use super::request::Request;
use super::response::{WithHeader, bad_request, error, forbidden, rate_limited, unavailable_for};

/// Longest description of an error in a challenge, in characters.
const DESCRIPTION_CHARS_MAX: usize = 200;

/// The rights that a route requires of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// An identity. A handler that lists rooms leaves out those the client may not read.
    Identity,
    /// The right of an operator: to list and close clients, and to delete messages.
    Admin,
    /// The right to read the room in the path.
    ReadRoom,
    /// The right to read every room of an event stream.
    ReadRooms,
    /// The right to publish to the room in the path.
    PublishToRoom,
}

/// Returns the client's identity if it meets the requirement; `Err` is the response if it does not.
pub(crate) fn authorize(
    request: &Request,
    requirement: Requirement,
    app: &App,
) -> Result<Arc<Identity>, ResponseBox> {
    let token = token(request, app);
    let question = || auth_question(request, token, app);
    let identity = app
        .admission
        .identify(token, request.peer, question)
        .map_err(|why| match why {
            // Some clients send the token alone, or after another scheme.
            AuthError::TokenNeeded if request.head.headers.contains("Authorization") => {
                let message = "this server needs a token; write `Authorization: Bearer TOKEN`";
                error(401, ErrorCode::Unauthorized.as_str(), message)
                    .with("WWW-Authenticate", "Bearer")
            }
            why => unauthorized(&why),
        })?;
    match requirement {
        Requirement::Identity => {}
        Requirement::Admin if identity.admin => {}
        Requirement::Admin => {
            let message = "this takes a token with the claim `admin`";
            return Err(forbidden(&Refusal::new(ErrorCode::Forbidden, message)));
        }
        Requirement::ReadRoom => {
            let room = request.room().map_err(|why| bad_request(&why))?;
            identity
                .may_subscribe(&room)
                .map_err(|why| forbidden(&why))?;
        }
        Requirement::ReadRooms => {
            for room in stream_rooms(request, &identity)? {
                identity
                    .may_subscribe(&room)
                    .map_err(|why| forbidden(&why))?;
            }
        }
        Requirement::PublishToRoom => {
            let room = request.room().map_err(|why| bad_request(&why))?;
            identity.may_publish(&room).map_err(|why| forbidden(&why))?;
        }
    }
    Ok(identity)
}

/// Returns the rooms of an event stream; `Err` is the response if the query names none, or one that is none.
pub(crate) fn stream_rooms(
    request: &Request,
    identity: &Identity,
) -> Result<Vec<RoomName>, ResponseBox> {
    let rooms = request.stream_rooms(identity);
    rooms.map_err(|why| match why.code {
        ErrorCode::Forbidden => forbidden(&why),
        _ => bad_request(&why),
    })
}

/// 401 with a challenge that gives the reason, or 429 if tokens of this address are not checked for now.
pub(crate) fn unauthorized(why: &AuthError) -> ResponseBox {
    let challenge = match why {
        AuthError::TokenNeeded | AuthError::Unknown => "Bearer".to_owned(),
        AuthError::Forbidden => return forbidden(&Refusal::from(why)),
        AuthError::Unavailable => return unavailable_for(&Refusal::from(why)),
        AuthError::Token(why) => {
            let why = description(&why.to_string());
            format!("Bearer error=\"invalid_token\", error_description=\"{why}\"")
        }
        AuthError::KeysUnavailable => return unavailable_for(&Refusal::from(why)),
        AuthError::TooManyFailures(wait) => return rate_limited(&why.to_string(), *wait),
    };
    error(401, ErrorCode::Unauthorized.as_str(), &why.to_string())
        .with("WWW-Authenticate", &challenge)
}

/// Maps a text to the alphabet of `error_description` (RFC 6750 §3), which has neither quotes nor backslashes,
/// so that a claim quoted in the text cannot end the parameter.
fn description(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' => '\'',
            ' '..='~' if c != '\\' => c,
            _ => '?',
        })
        .take(DESCRIPTION_CHARS_MAX)
        .collect()
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
