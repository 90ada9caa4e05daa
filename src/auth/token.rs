//! JSON Web Tokens (RFC 7519): from text to an [`Identity`], and back for who mints them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::keys::{Secret, VerifyingKey};
use super::rights::{Identity, RoomPatterns, Validity, user};

/// Longest token, in bytes; a request's head must hold it.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the clock of who minted a token may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Why a token grants nothing; its `Display` is a sentence for the client and does not hold the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is no JSON Web Token.
    Malformed,
    /// No key here has signed it, or not with the algorithm of that key.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` is yet to come.
    NotYetValid,
    /// `aud` is for somebody else.
    Audience,
    /// `iss` is not who tokens are accepted from.
    Issuer,
    /// A claim is missing or cannot be understood.
    Claim(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("this is no JSON Web Token"),
            Self::Signature => f.write_str("the token is not signed by a key of this server"),
            Self::Expired => f.write_str("the token has expired"),
            Self::NotYetValid => f.write_str("the token is not valid yet"),
            Self::Audience => f.write_str("the token is for another audience"),
            Self::Issuer => f.write_str("the token is from another issuer"),
            Self::Claim(what) => write!(f, "the token's claim {what}"),
        }
    }
}

/// What must hold for every token besides its signature.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `aud` must be, or list, one of these, if there are any.
    pub audience: Vec<String>,
    /// `iss` must be one of these, if there are any.
    pub issuer: Vec<String>,
}

/// The claims that we read; others are ignored.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    /// NumericDate may have a fraction (RFC 7519 §2).
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(default)]
    subscribe: Texts,
    #[serde(default)]
    publish: Texts,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    aud: Texts,
    iss: Option<String>,
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Texts {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
        .iter()
        .map(String::as_str)
    }
}

/// Checks a token at a moment, given in time since the Unix epoch.
///
/// The algorithm is that of the key; a token that names another is refused, `none` included.
pub(super) fn check(
    token: &str,
    keys: &[VerifyingKey],
    rules: &Rules,
    now: Duration,
) -> Result<Identity, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
        // An algorithm that the library does not know, such as none, is in no key of ours.
        ErrorKind::InvalidAlgorithmName | ErrorKind::Json(_) => TokenError::Signature,
        _ => TokenError::Malformed,
    })?;
    // RFC 7515 §4.1.11: it says what must be understood, and there is nothing that we would.
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
            Ok(token) => return identity(token.claims, rules, now),
            Err(error) => match error.kind() {
                ErrorKind::InvalidSignature => {}
                ErrorKind::Json(why) => return Err(TokenError::Claim(format!("set: {why}"))),
                _ => return Err(TokenError::Malformed),
            },
        }
    }
    Err(TokenError::Signature)
}

/// The claims are ours to judge, with the time given and with words that say which was wrong.
fn signature_only(key: &VerifyingKey) -> Validation {
    let mut validation = Validation::new(key.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn identity(claims: Claims, rules: &Rules, now: Duration) -> Result<Identity, TokenError> {
    let until = date("exp", claims.exp)?;
    if until <= now {
        return Err(TokenError::Expired);
    }
    let begins = [("nbf", claims.nbf), ("iat", claims.iat)];
    for (name, begin) in begins {
        if let Some(begin) = begin
            && date(name, begin)? > now + CLOCK_SKEW
        {
            return Err(TokenError::NotYetValid);
        }
    }
    if !rules.audience.is_empty()
        && !claims
            .aud
            .iter()
            .any(|aud| rules.audience.iter().any(|ours| ours == aud))
    {
        return Err(TokenError::Audience);
    }
    if !rules.issuer.is_empty() && !claims.iss.is_some_and(|iss| rules.issuer.contains(&iss)) {
        return Err(TokenError::Issuer);
    }
    let from = claims.iat.map(|iat| date("iat", iat)).transpose()?;
    let rooms = |name: &str, rooms: &Texts| {
        RoomPatterns::parse(rooms.iter())
            .map_err(|bad| TokenError::Claim(format!("`{name}` holds {bad:?}, which is no room")))
    };
    let sub = claims.sub.map(|sub| {
        let unfit = || TokenError::Claim("`sub` must be 1 to 128 bytes of text".to_owned());
        user(&sub).ok_or_else(unfit)
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

fn date(name: &str, seconds: f64) -> Result<Duration, TokenError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| TokenError::Claim(format!("`{name}` is no date")))
}

/// What a new token is to grant.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// `sub`
    pub user: Option<String>,
    /// Rooms to read.
    pub subscribe: Vec<String>,
    /// Rooms to publish to.
    pub publish: Vec<String>,
    /// Whether it may see and close clients.
    pub admin: bool,
    /// `aud`
    pub audience: Option<String>,
    /// `iss`
    pub issuer: Option<String>,
    /// How long it is valid.
    pub lifetime: Duration,
}

/// Signs a token with HS256.
pub(super) fn mint(grant: Grant, secret: &Secret, now: Duration) -> Result<String, TokenError> {
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
    if let Some(audience) = grant.audience {
        add("aud", audience.into());
    }
    if let Some(issuer) = grant.issuer {
        add("iss", issuer.into());
    }
    let header = Header::new(jsonwebtoken::Algorithm::HS256);
    jsonwebtoken::encode(&header, &claims, &secret.signing()).map_err(|_| TokenError::Malformed)
}

/// The time since the Unix epoch.
pub(super) fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
