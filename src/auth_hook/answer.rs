//! The backend's answer: its status grants or rejects, and its body may contain claims.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{BackendClaimsError, Identity, identity_of_backend};
use crate::outgoing::OutgoingResponse;

/// Bytes of a body that are read. A longer body is invalid.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest time for which an answer is used again.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// Time before the end of the rights from which on an answer is not used again. Clients are closed up to 3 seconds before
/// that end, and would otherwise reconnect with the same rights.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) enum AuthAnswer {
    /// 2xx: the client has these rights.
    Granted(Arc<Identity>),
    /// 401: the backend does not know the client.
    Unknown,
    /// 403: the client is known and has no rights.
    Forbidden,
}

/// Parses the backend's response to a question asked at the Unix time `asked`. An `Err` says why the response is
/// invalid; the client is then rejected.
pub(super) fn parse(response: &OutgoingResponse, asked: Duration) -> Result<AuthAnswer, String> {
    match response.status {
        200..=299 => parse_rights(response, asked),
        401 => Ok(AuthAnswer::Unknown),
        403 => Ok(AuthAnswer::Forbidden),
        status => Err(format!(
            "it responds with {status}; 2xx, 401 and 403 are answers"
        )),
    }
}

fn parse_rights(response: &OutgoingResponse, asked: Duration) -> Result<AuthAnswer, String> {
    if response.is_truncated {
        return Err(format!(
            "its response is longer than {BODY_BYTES_MAX} bytes"
        ));
    }
    let body = response.body.trim_ascii();
    if body.is_empty() && response.may_be_cut {
        return Err(
            "its response ends without a body; claims may be cut off, so send 204 or Content-Length: 0 for an empty one"
                .to_owned(),
        );
    }
    if body.is_empty() {
        return Ok(AuthAnswer::Granted(Arc::new(Identity::anyone())));
    }
    match identity_of_backend(body, asked) {
        Ok(identity) => Ok(AuthAnswer::Granted(Arc::new(identity))),
        Err(BackendClaimsError::Expired) => Ok(AuthAnswer::Unknown),
        Err(BackendClaimsError::Invalid(why)) => {
            let kind = response.header("Content-Type").unwrap_or("no type");
            Err(format!(
                "its response ({kind}) {why}; an empty body or JSON claims are answers"
            ))
        }
    }
}

/// Returns how long an answer may be reused: the time in `Cache-Control`, else `setting`. It is at most an hour, and
/// ends before the rights do.
pub(super) fn lifetime(
    response: &OutgoingResponse,
    answer: &AuthAnswer,
    setting: Duration,
) -> Duration {
    // Several lines are one list (RFC 9110 §5.3).
    let lines = response.values("Cache-Control");
    let directives = lines
        .flat_map(|line| line.split(','))
        .map(|word| word.trim().to_ascii_lowercase());
    let named = directives.filter_map(|word| match word.as_str() {
        "no-store" | "no-cache" => Some(Duration::ZERO),
        word => word
            .strip_prefix("max-age=")?
            .trim_matches('"')
            .parse()
            .ok()
            .map(Duration::from_secs),
    });
    let lifetime = named.min().unwrap_or(setting).min(LIFETIME_MAX);
    match answer {
        AuthAnswer::Granted(identity) => identity.time_left().map_or(lifetime, |left| {
            left.saturating_sub(EXPIRY_MARGIN).min(lifetime)
        }),
        AuthAnswer::Unknown | AuthAnswer::Forbidden => lifetime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RoomName;

    fn answer(response: &OutgoingResponse) -> Result<AuthAnswer, String> {
        parse(response, Duration::ZERO)
    }

    fn response(status: u16, body: &str) -> OutgoingResponse {
        OutgoingResponse {
            status,
            body: body.as_bytes().to_vec(),
            ..OutgoingResponse::default()
        }
    }

    #[test]
    fn status_decides_and_only_claims_or_nothing_grant_rights() {
        let lobby = RoomName::lobby();
        for body in ["", " \r\n"] {
            let Ok(AuthAnswer::Granted(everyone)) = answer(&response(204, body)) else {
                panic!("{body:?} is refused");
            };
            assert!(everyone.may_publish(&lobby).is_ok() && !everyone.admin);
        }
        let claims = r#"{"sub":"alice","subscribe":["*"],"publish":"ops","admin":true}"#;
        let Ok(AuthAnswer::Granted(alice)) = answer(&response(200, claims)) else {
            panic!("claims are refused");
        };
        assert_eq!(alice.user.as_deref(), Some("alice"));
        assert!(alice.admin && alice.may_subscribe(&lobby).is_ok());
        assert!(alice.may_publish(&lobby).is_err());
        for (status, body) in [(401, ""), (401, "{}"), (200, r#"{"exp":1000}"#)] {
            let parsed = answer(&response(status, body));
            assert!(matches!(parsed, Ok(AuthAnswer::Unknown)), "{status} {body}");
        }
        assert!(matches!(
            answer(&response(403, "")),
            Ok(AuthAnswer::Forbidden)
        ));
        for (status, body) in [
            (200, "<html>Please log in</html>"),
            (200, "ok"),
            (200, "[]"),
            (200, "[\"alice\"]"),
            (200, "null"),
            (200, r#"{"sub":"alice","sub":"bob"}"#),
            (200, r#"{"subscribe":["a b"]}"#),
            (200, r#"{"exp":"tomorrow"}"#),
            (302, ""),
            (404, ""),
            (500, ""),
            (429, ""),
        ] {
            assert!(answer(&response(status, body)).is_err(), "{status} {body}");
        }
        let truncated = OutgoingResponse {
            is_truncated: true,
            ..response(200, "")
        };
        assert!(answer(&truncated).is_err());
    }
}
