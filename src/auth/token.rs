//! JSON Web Tokens (RFC 7519): checking one gives an [`Identity`]; minting signs a new one.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::keys::{Secret, VerifyingKey};
use super::rights::{Identity, RoomPatterns, Validity, parse_user};

/// Longest token, in bytes; a request's head must hold it.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the token issuer's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The reason why a token is refused. Its text is for the client and does not contain the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The text is not a JSON Web Token.
    Malformed,
    /// No key verifies the signature, or the algorithm is not the key's.
    Signature,
    /// The time `exp` has passed.
    Expired,
    /// The time `nbf` or `iat` is in the future.
    NotYetValid,
    /// The claim `aud` names no audience of this server.
    Audience,
    /// The claim `iss` is not a trusted issuer.
    Issuer,
    /// A claim is missing or has a wrong value; the text says which.
    Claim(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("this is not a JSON Web Token"),
            Self::Signature => f.write_str("the token is not signed by a key of this server"),
            Self::Expired => f.write_str("the token has expired"),
            Self::NotYetValid => f.write_str("the token is not valid yet"),
            Self::Audience => f.write_str("the token is for another audience"),
            Self::Issuer => f.write_str("the token is from another issuer"),
            Self::Claim(what) => write!(f, "the token's claim {what}"),
        }
    }
}

/// Claims that every token must have besides a valid signature.
#[derive(Clone, Debug, Default)]
pub struct RequiredClaims {
    /// The claim `aud` must name one of these. If the list is empty, any value is accepted.
    pub audience: Vec<String>,
    /// The claim `iss` must be one of these. If the list is empty, any value is accepted.
    pub issuer: Vec<String>,
}

/// The claims that are read; others are ignored.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    /// A NumericDate may have a fraction (RFC 7519 §2).
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(default)]
    subscribe: OneOrMany,
    #[serde(default)]
    publish: OneOrMany,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    aud: OneOrMany,
    iss: Option<String>,
}

/// A claim that is a string or a list of strings.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
        .iter()
        .map(String::as_str)
    }
}

/// Checks a token; `now` is the time since the Unix epoch.
///
/// The algorithm is the key's. A token that names another algorithm is refused, `none` included.
pub(super) fn check(
    token: &str,
    keys: &[VerifyingKey],
    required: &RequiredClaims,
    now: Duration,
) -> Result<Identity, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
        // No key has an algorithm that the library does not know, such as none.
        ErrorKind::InvalidAlgorithmName | ErrorKind::Json(_) => TokenError::Signature,
        _ => TokenError::Malformed,
    })?;
    // RFC 7515 §4.1.11: a token with unsupported extensions must be refused. No extension is supported here.
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    let of_algorithm = keys.iter().filter(|key| key.algorithm == header.alg);
    let named = of_algorithm.filter(|key| match (&header.kid, &key.id) {
        (Some(wanted), Some(id)) => wanted == id,
        _ => true,
    });
    for key in named {
        match jsonwebtoken::decode::<Claims>(token, &key.key, &signature_only(key)) {
            Ok(token) => return identity(token.claims, required, now),
            Err(error) => match error.kind() {
                ErrorKind::InvalidSignature => {}
                ErrorKind::Json(why) => return Err(TokenError::Claim(format!("set: {why}"))),
                _ => return Err(TokenError::Malformed),
            },
        }
    }
    Err(TokenError::Signature)
}

/// Returns a validation of the signature only. [`identity`] checks the claims, at a given time and with an
/// error for each.
fn signature_only(key: &VerifyingKey) -> Validation {
    let mut validation = Validation::new(key.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn identity(
    claims: Claims,
    required: &RequiredClaims,
    now: Duration,
) -> Result<Identity, TokenError> {
    let until = parse_date("exp", claims.exp)?;
    if until <= now {
        return Err(TokenError::Expired);
    }
    for (name, start) in [("nbf", claims.nbf), ("iat", claims.iat)] {
        if let Some(start) = start
            && parse_date(name, start)? > now + CLOCK_SKEW
        {
            return Err(TokenError::NotYetValid);
        }
    }
    if !required.audience.is_empty()
        && !claims
            .aud
            .iter()
            .any(|aud| required.audience.iter().any(|ours| ours == aud))
    {
        return Err(TokenError::Audience);
    }
    if !required.issuer.is_empty() && !claims.iss.is_some_and(|iss| required.issuer.contains(&iss))
    {
        return Err(TokenError::Issuer);
    }
    let from = claims.iat.map(|iat| parse_date("iat", iat)).transpose()?;
    let rooms = |name: &str, rooms: &OneOrMany| {
        RoomPatterns::parse(rooms.iter()).map_err(|bad| {
            TokenError::Claim(format!("`{name}` holds {bad:?}, which is not a room"))
        })
    };
    let sub = claims.sub.map(|sub| {
        let invalid = || TokenError::Claim("`sub` must be 1 to 128 bytes of text".to_owned());
        parse_user(&sub).ok_or_else(invalid)
    });
    Ok(Identity {
        user: sub.transpose()?,
        subscribe: rooms("subscribe", &claims.subscribe)?,
        publish: rooms("publish", &claims.publish)?,
        admin: claims.admin,
        validity: Some(Validity {
            from: from.unwrap_or(now).min(now),
            until,
        }),
    })
}

fn parse_date(name: &str, seconds: f64) -> Result<Duration, TokenError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| TokenError::Claim(format!("`{name}` is not a date")))
}

/// The user, rights and lifetime of a token to create.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The claim `sub`.
    pub user: Option<String>,
    /// Patterns of the rooms to read.
    pub subscribe: Vec<String>,
    /// Patterns of the rooms to publish to.
    pub publish: Vec<String>,
    /// Whether the token allows to list and close clients.
    pub admin: bool,
    /// How long the token is valid.
    pub lifetime: Duration,
}

/// Creates a token and signs it with HS256. The first required audience and issuer become its `aud` and `iss`.
pub(super) fn mint(
    grant: Grant,
    required: &RequiredClaims,
    secret: &Secret,
    now: Duration,
) -> Result<String, TokenError> {
    let (from, until) = (now.as_secs(), (now + grant.lifetime).as_secs());
    let mut claims = json!({ "iat": from, "exp": until });
    let mut add = |name: &str, value: Value| claims[name] = value;
    if let Some(user) = grant.user {
        add("sub", user.into());
    }
    if !grant.subscribe.is_empty() {
        add("subscribe", grant.subscribe.into());
    }
    if !grant.publish.is_empty() {
        add("publish", grant.publish.into());
    }
    if grant.admin {
        add("admin", true.into());
    }
    if let Some(audience) = required.audience.first() {
        add("aud", audience.as_str().into());
    }
    if let Some(issuer) = required.issuer.first() {
        add("iss", issuer.as_str().into());
    }
    let header = Header::new(jsonwebtoken::Algorithm::HS256);
    jsonwebtoken::encode(&header, &claims, &secret.signing()).map_err(|_| TokenError::Malformed)
}

/// Returns the time since the Unix epoch.
pub(super) fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
