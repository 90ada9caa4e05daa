//! Who may do what: which web origins may use the server, and what a token grants.
//!
//! Without a key everyone may do everything; with one, every request stands on an [`Identity`].
//! Algorithm and keys come from the settings, never from a token; neither keys nor tokens are logged.

mod crypto;
mod keys;
mod origin;
mod rights;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use keys::VerifyingKey;

use crate::protocol::{CloseCode, ErrorCode, Refusal};

pub use keys::{KeyError, Secret};
pub use origin::AllowedOrigins;
pub use rights::{Identity, RoomPatterns, Validity};
pub use token::{Grant, Rules, TokenError};

/// What tokens are checked with and what those without one may do.
#[derive(Clone, Default)]
pub struct AuthSettings {
    /// The secret for HS256, from `SECRET_KEY`.
    pub secret: Option<String>,
    /// A file that holds it instead.
    pub secret_file: Option<PathBuf>,
    /// A file with the secret before, whose tokens are still accepted.
    pub previous_secret_file: Option<PathBuf>,
    /// A file with public keys: PEM or a JWKS.
    pub public_key_file: Option<PathBuf>,
    /// What must hold besides the signature.
    pub rules: Rules,
    /// What those without a token may do where there are keys.
    pub anonymous: Anonymous,
}

impl AuthSettings {
    /// Whether there is anything to check a token with.
    pub fn has_keys(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some() || self.public_key_file.is_some()
    }
}

/// Settings are printed for debugging; a secret is not.
impl fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSettings")
            .field("has_secret", &self.secret.is_some())
            .field("secret_file", &self.secret_file)
            .field("previous_secret_file", &self.previous_secret_file)
            .field("public_key_file", &self.public_key_file)
            .field("rules", &self.rules)
            .field("anonymous", &self.anonymous)
            .finish()
    }
}

/// What those without a token may do where tokens are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// Read every room.
    Subscribe,
    /// Read every room and publish to it.
    Both,
}

impl FromStr for Anonymous {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "subscribe" => Ok(Self::Subscribe),
            "both" => Ok(Self::Both),
            _ => Err("write none, subscribe or both"),
        }
    }
}

/// Tells who a client is.
#[derive(Debug)]
pub struct Authority {
    settings: AuthSettings,
    /// Those without a token, where they may do anything; shared by all of them.
    anonymous: Option<Arc<Identity>>,
    /// Empty if everyone may do everything.
    keys: RwLock<Arc<Vec<VerifyingKey>>>,
}

/// Why a client is nobody here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// It has no token and those without one may do nothing.
    TokenNeeded,
    /// Its token grants nothing.
    Token(TokenError),
    /// Its token was not looked at: too many of its address were refused. One is looked at in this time.
    ShutOut(Duration),
}

impl AuthError {
    /// How a connection ends that cannot be without a token.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::TokenNeeded | Self::Token(_) => CloseCode::Unauthorized,
            Self::ShutOut(_) => CloseCode::RateLimited,
        }
    }
}

impl From<&AuthError> for Refusal {
    fn from(why: &AuthError) -> Self {
        match why {
            AuthError::TokenNeeded | AuthError::Token(_) => {
                Self::new(ErrorCode::Unauthorized, why.to_string())
            }
            AuthError::ShutOut(wait) => Self {
                retry_after: Some(*wait),
                ..Self::new(ErrorCode::RateLimited, why.to_string())
            },
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenNeeded => f.write_str("this server wants a token"),
            Self::Token(why) => write!(f, "{why}"),
            Self::ShutOut(_) => f.write_str("too many tokens of this address were refused"),
        }
    }
}

impl Authority {
    /// Reads the keys.
    pub fn load(settings: AuthSettings) -> Result<Self, KeyError> {
        crypto::install();
        let keys = RwLock::new(Arc::new(read_keys(&settings)?));
        let every = RoomPatterns::every;
        let anonymous = match settings.anonymous {
            _ if !settings.has_keys() => Some(Identity::anyone()),
            Anonymous::None => None,
            Anonymous::Subscribe => Some(Identity::anonymous(every(), RoomPatterns::none())),
            Anonymous::Both => Some(Identity::anonymous(every(), every())),
        };
        Ok(Self {
            settings,
            anonymous: anonymous.map(Arc::new),
            keys,
        })
    }

    /// Reads the keys again; if that fails, those of before stay in force.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = Arc::new(read_keys(&self.settings)?);
        *self.keys.write() = keys;
        Ok(())
    }

    /// Whether tokens are checked at all.
    pub fn has_keys(&self) -> bool {
        self.settings.has_keys()
    }

    /// Who this is. Where there is no key, a token says nothing.
    pub fn identify(&self, token: Option<&str>) -> Result<Arc<Identity>, AuthError> {
        let Some(token) = token.filter(|_| self.has_keys()) else {
            return self.anonymous.clone().ok_or(AuthError::TokenNeeded);
        };
        let keys = Arc::clone(&self.keys.read());
        token::check(token, &keys, &self.settings.rules, token::unix_time())
            .map(Arc::new)
            .map_err(AuthError::Token)
    }

    /// Signs a token that this server accepts, if it has a secret to sign with.
    pub fn mint(settings: &AuthSettings, mut grant: Grant) -> Result<Option<String>, KeyError> {
        let Some(secret) = read_secret(settings)? else {
            return Ok(None);
        };
        crypto::install();
        let rules = &settings.rules;
        grant.audience = grant.audience.or_else(|| rules.audience.first().cloned());
        grant.issuer = grant.issuer.or_else(|| rules.issuer.first().cloned());
        Ok(token::mint(grant, &secret, token::unix_time()).ok())
    }
}

fn read_secret(settings: &AuthSettings) -> Result<Option<Secret>, KeyError> {
    match (&settings.secret_file, &settings.secret) {
        (Some(path), _) => Secret::read(path).map(Some),
        (None, Some(secret)) => Secret::new(secret.as_bytes(), "SECRET_KEY").map(Some),
        (None, None) => Ok(None),
    }
}

fn read_keys(settings: &AuthSettings) -> Result<Vec<VerifyingKey>, KeyError> {
    let mut keys = Vec::new();
    keys.extend(read_secret(settings)?.map(|secret| secret.verifying()));
    if let Some(path) = &settings.previous_secret_file {
        keys.push(Secret::read(path)?.verifying());
    }
    if let Some(path) = &settings.public_key_file {
        keys.extend(keys::read_public(path)?);
    }
    Ok(keys)
}
