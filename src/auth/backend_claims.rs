//! The claims with which the backend of the connect hook answers: those of a token, without a signature.

use std::time::Duration;

use super::claims::{self, Claims};
use super::rights::{Identity, RightsSource, Validity};
use super::time::unix_time;
use super::token::{TokenError, granted};

/// The reason why the claims of a backend grant nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackendClaimsError {
    /// The time `exp` has passed.
    Expired,
    /// The text is not a JSON object, or a claim is wrong. The text says why, and follows a noun.
    Invalid(String),
}

/// Returns the identity that claims grant: `sub`, `subscribe`, `publish`, `admin` and `exp`. Unlike a token they need no
/// `exp`; without it the rights last as long as the connection. They count as issued at `asked`, when the backend was asked:
/// a user who is revoked meanwhile must not get in by the answer.
pub(crate) fn identity_of_backend(
    json: &[u8],
    asked: Duration,
) -> Result<Identity, BackendClaimsError> {
    let invalid = |why: String| BackendClaimsError::Invalid(why);
    // A struct can also be parsed from a list of its fields' values.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("is not a JSON object".to_owned()));
    }
    let claims: Claims =
        serde_json::from_slice(json).map_err(|why| invalid(format!("cannot be read: {why}")))?;
    let now = unix_time();
    let until = claims::date("exp", &claims.exp).map_err(invalid)?;
    if until.is_some_and(|until| until <= now) {
        return Err(BackendClaimsError::Expired);
    }
    let validity = until.map(|until| Validity { from: now, until });
    let identity = granted(&claims, RightsSource::BackendClaims, validity, Some(asked));
    identity.map_err(|why| match why {
        TokenError::Claim(why) => invalid(format!("has a wrong claim: {why}")),
        why => invalid(format!("is refused: {why}")),
    })
}
