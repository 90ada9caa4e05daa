//! JSON Web Tokens (RFC 7519): checking one gives an [`Identity`]; minting signs a new one.

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::Header;
use serde_json::{Value, json};

use super::claims::{self, Claim, Claims, InvalidClaim, Numbers};
use super::keys::{Secret, VerifyingKey};
use super::rights::{Identity, RightsSource, RoomPatterns, Validity, parse_user};

/// Longest token, in KiB. It must fit into a request's head.
const TOKEN_KIB_MAX: usize = 8;
/// Parts of an encrypted token (RFC 7516 §7.1). A signed one has three.
const JWE_PARTS: usize = 5;
/// Longest name of an algorithm that an error repeats, in bytes.
const ALGORITHM_BYTES_MAX: usize = 20;
/// Largest accepted lead of the token issuer's clock over this machine's.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The reason why a token is refused. Its text is for the client and does not contain the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The text is not a JSON Web Token.
    Malformed,
    /// The token is longer than any that is read.
    TooLong,
    /// The token requires an extension by `crit`.
    Extension,
    /// The token's header has no `alg`.
    NoAlgorithm,
    /// The token is encrypted.
    Encrypted,
    /// No key has the algorithm that the token is signed with.
    Algorithm {
        /// The algorithm that the token names.
        used: String,
        /// The algorithms of the keys.
        checked: String,
    },
    /// No key of the token's algorithm has the `kid` that the token names.
    UnknownKey,
    /// No key verifies the signature.
    Signature,
    /// The time `exp` has passed.
    Expired,
    /// The time `nbf` or `iat` is in the future.
    NotYetValid,
    /// The token's user was revoked after the token was issued, or at an unknown time.
    Revoked,
    /// The claim `aud` names no audience of this server.
    Audience,
    /// The claim `iss` is not a trusted issuer.
    Issuer,
    /// The claims are not a JSON object, or a claim is present twice. The text says which.
    Claims(String),
    /// A claim is missing or has a wrong value; the text says which.
    Claim(InvalidClaim),
}

impl From<InvalidClaim> for TokenError {
    fn from(what: InvalidClaim) -> Self {
        Self::Claim(what)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("this is not a JSON Web Token"),
            Self::TooLong => write!(f, "the token is longer than {TOKEN_KIB_MAX} KiB"),
            Self::Extension => {
                f.write_str("the token requires extensions (`crit`), and this server has none")
            }
            Self::NoAlgorithm => {
                f.write_str("the token's header does not name its algorithm (`alg`)")
            }
            Self::Encrypted => {
                f.write_str("the token is encrypted, and this server reads signed ones")
            }
            Self::Algorithm { used, checked } if used.eq_ignore_ascii_case("none") => {
                write!(f, "the token is not signed; this server checks {checked}")
            }
            Self::Algorithm { used, checked } => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let is_shown = used.len() <= ALGORITHM_BYTES_MAX && used.chars().all(is_plain);
                let used = if is_shown {
                    used
                } else {
                    "an unknown algorithm"
                };
                write!(
                    f,
                    "the token is signed with {used}; this server checks {checked}"
                )
            }
            Self::UnknownKey => {
                f.write_str("the token names a key (`kid`) that this server does not have")
            }
            Self::Signature => f.write_str("the token is not signed by a key of this server"),
            Self::Expired => f.write_str("the token has expired"),
            Self::NotYetValid => f.write_str("the token is not valid yet"),
            Self::Revoked => f.write_str("the token was revoked; a new one is needed"),
            Self::Audience => f.write_str("the token is for another audience"),
            Self::Issuer => f.write_str("the token is from another issuer"),
            Self::Claims(why) => write!(f, "the token's claims {why}"),
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

/// Checks a token; `now` is the time since the Unix epoch.
///
/// The algorithm is the key's. A token that names another algorithm is refused, `none` included.
pub(super) fn check(
    token: &str,
    keys: &[&VerifyingKey],
    required: &RequiredClaims,
    now: Duration,
) -> Result<Identity, TokenError> {
    if token.len() > TOKEN_KIB_MAX * 1024 {
        return Err(TokenError::TooLong);
    }
    let token = SignedToken::parse(token)?;
    let mut of_algorithm = keys
        .iter()
        .filter(|key| name_of(key) == token.algorithm)
        .peekable();
    if of_algorithm.peek().is_none() {
        return Err(TokenError::Algorithm {
            used: token.algorithm,
            checked: checked_algorithms(keys),
        });
    }
    let mut named = of_algorithm
        .filter(|key| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        })
        .peekable();
    if named.peek().is_none() {
        return Err(TokenError::UnknownKey);
    }
    if !named.any(|key| token.is_signed_by(key)) {
        return Err(TokenError::Signature);
    }
    let claims = decode_part(token.claims)?;
    // A struct can also be parsed from a list of its fields' values.
    if !claims.trim_ascii_start().starts_with(b"{") {
        return Err(TokenError::Claims("are not a JSON object".to_owned()));
    }
    let claims: Claims = serde_json::from_slice(&claims)
        .map_err(|why| TokenError::Claims(format!("cannot be read: {why}")))?;
    identity(&claims, required, now)
}

/// Returns the name of the key that a token asks for (`kid`), which nobody has verified.
pub(super) fn key_id(token: &str) -> Option<String> {
    SignedToken::parse(token).ok()?.key_id
}

/// A token (RFC 7515 §7.1). No part of it is trusted before its signature is verified.
struct SignedToken<'a> {
    algorithm: String,
    key_id: Option<String>,
    claims: &'a str,
    /// Header and claims as they were signed.
    message: &'a str,
    signature: &'a str,
}

impl<'a> SignedToken<'a> {
    fn parse(token: &'a str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = token.split('.').take(JWE_PARTS + 1).collect();
        let (header, claims, signature) = match parts[..] {
            [header, claims, signature] => (header, claims, signature),
            _ if parts.len() == JWE_PARTS => return Err(TokenError::Encrypted),
            _ => return Err(TokenError::Malformed),
        };
        let message = &token[..header.len() + 1 + claims.len()];
        let header = decode_part(header)?;
        let header: Value = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        // RFC 7515 §4.1.11: a token with unsupported extensions must be refused. No extension is supported here.
        if !header["crit"].is_null() {
            return Err(TokenError::Extension);
        }
        let algorithm = header["alg"].as_str().ok_or(TokenError::NoAlgorithm)?;
        Ok(Self {
            algorithm: algorithm.to_owned(),
            key_id: header["kid"].as_str().map(str::to_owned),
            claims,
            message,
            signature,
        })
    }

    fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let message = self.message.as_bytes();
        jsonwebtoken::crypto::verify(self.signature, message, &key.key, key.algorithm)
            .unwrap_or(false)
    }
}

/// Returns whether a text has the form of a token that this server could check.
pub(crate) fn is_token(text: &str) -> bool {
    SignedToken::parse(text.trim()).is_ok()
}

fn decode_part(part: &str) -> Result<Vec<u8>, TokenError> {
    let decoded = BASE64URL_NOPAD.decode(part.as_bytes());
    decoded.map_err(|_| TokenError::Malformed)
}

/// The name of a key's algorithm in a token's header.
fn name_of(key: &VerifyingKey) -> String {
    format!("{:?}", key.algorithm)
}

/// The algorithms of the keys, each once: `HS256 or ES256`.
fn checked_algorithms(keys: &[&VerifyingKey]) -> String {
    let mut names: Vec<String> = keys.iter().map(|key| name_of(key)).collect();
    names.sort();
    names.dedup();
    names.join(" or ")
}

fn identity(
    claims: &Claims,
    required: &RequiredClaims,
    now: Duration,
) -> Result<Identity, TokenError> {
    let exp = claims::date("exp", &claims.exp)?;
    let until = exp.ok_or_else(|| TokenError::Claim("`exp` is missing".to_owned()))?;
    if until <= now {
        return Err(TokenError::Expired);
    }
    let issued = claims::date("iat", &claims.iat)?;
    let starts = [claims::date("nbf", &claims.nbf)?, issued];
    if starts
        .into_iter()
        .flatten()
        .any(|start| start > now + CLOCK_SKEW)
    {
        return Err(TokenError::NotYetValid);
    }
    let audience = claims::texts("aud", &claims.aud, Numbers::AreInvalid)?;
    let is_ours = |aud: &String| required.audience.contains(aud);
    if !required.audience.is_empty() && !audience.iter().any(is_ours) {
        return Err(TokenError::Audience);
    }
    let issuer = claims::text("iss", &claims.iss, Numbers::AreInvalid)?;
    let is_trusted = |issuer: String| required.issuer.contains(&issuer);
    if !required.issuer.is_empty() && !issuer.is_some_and(is_trusted) {
        return Err(TokenError::Issuer);
    }
    let validity = Validity {
        from: issued.unwrap_or(now).min(now),
        until,
    };
    granted(claims, RightsSource::Token, Some(validity), issued)
}

/// Returns the identity that claims of this source grant for this time; `issued` is when they were issued, if they say so.
pub(super) fn granted(
    claims: &Claims,
    source: RightsSource,
    validity: Option<Validity>,
    issued: Option<Duration>,
) -> Result<Identity, TokenError> {
    let sub = claims::text("sub", &claims.sub, Numbers::AreTexts)?;
    let user = sub.map(|sub| {
        let invalid = || TokenError::Claim("`sub` must be 1 to 128 bytes of text".to_owned());
        parse_user(&sub).ok_or_else(invalid)
    });
    Ok(Identity {
        source,
        user: user.transpose()?,
        subscribe: room_patterns("subscribe", &claims.subscribe)?,
        publish: room_patterns("publish", &claims.publish)?,
        admin: claims::flag("admin", &claims.admin)?,
        validity,
        issued,
    })
}

fn room_patterns(name: &str, claim: &Claim) -> Result<RoomPatterns, TokenError> {
    let rooms = claims::texts(name, claim, Numbers::AreTexts)?;
    RoomPatterns::parse(rooms.iter().map(String::as_str))
        .map_err(|bad| TokenError::Claim(format!("`{name}` holds {bad:?}, which is not a room")))
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
    /// True if the token allows to list and close clients.
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
    let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = secret.name().cloned();
    jsonwebtoken::encode(&header, &claims, &secret.signing()).map_err(|_| TokenError::Malformed)
}
