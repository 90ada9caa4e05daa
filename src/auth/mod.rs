//! Authorization: the web origins that may use the server, and the rights that a token grants.
//!
//! Without a key every client may read and publish everywhere; with one, every request needs an [`Identity`].
//! Algorithm and keys come from the settings, never from a token. Neither keys nor tokens are logged.

mod claims;
mod keys;
mod origin;
mod rights;
mod time;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use keys::{Secret, VerifyingKey};

use crate::protocol::{CloseCode, ErrorCode, Refusal};

pub use keys::KeyError;
pub use origin::AllowedOrigins;
pub(crate) use origin::is_origin;
pub(crate) use origin::is_own_page;
pub(crate) use rights::parse_user;
pub use rights::{Identity, RoomPatterns, Validity};
pub(crate) use time::unix_time;
pub use token::{Grant, RequiredClaims, TokenError};

/// The keys that tokens are checked with, and the rights of clients without a token.
#[derive(Clone, Default)]
pub struct AuthSettings {
    /// The secret for HS256, from `SECRET_KEY`.
    pub secret: Option<String>,
    /// A file with the secret; it wins over `secret`.
    pub secret_file: Option<PathBuf>,
    /// A file with the previous secret, whose tokens are still accepted.
    pub previous_secret_file: Option<PathBuf>,
    /// A file with public keys, PEM or JWKS.
    pub public_key_file: Option<PathBuf>,
    /// Claims that a token must have.
    pub required: RequiredClaims,
    /// Rights of clients without a token, if tokens are checked.
    pub anonymous: Anonymous,
}

impl AuthSettings {
    /// Returns whether there is a key to check tokens with.
    pub fn has_keys(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some() || self.public_key_file.is_some()
    }

    /// Returns whether a key is in a file, which can be read again.
    pub(crate) fn has_key_files(&self) -> bool {
        let files = [
            &self.secret_file,
            &self.previous_secret_file,
            &self.public_key_file,
        ];
        files.into_iter().any(Option::is_some)
    }
}

/// Shows whether there is a secret, not the secret.
impl fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSettings")
            .field("has_secret", &self.secret.is_some())
            .field("secret_file", &self.secret_file)
            .field("previous_secret_file", &self.previous_secret_file)
            .field("public_key_file", &self.public_key_file)
            .field("required", &self.required)
            .field("anonymous", &self.anonymous)
            .finish()
    }
}

/// The rights of clients without a token, if tokens are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// No rights.
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

/// Identifies clients by their tokens.
#[derive(Debug)]
pub struct Authority {
    settings: AuthSettings,
    /// The identity of all clients without a token; `None` if they have no rights.
    anonymous: Option<Arc<Identity>>,
    /// Empty if tokens are not checked.
    keys: RwLock<Arc<Vec<VerifyingKey>>>,
}

/// The reason why a client has no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The client has no token, and clients without one have no rights.
    TokenNeeded,
    /// The token is refused.
    Token(TokenError),
    /// The token was not checked, because too many tokens from this address were refused. The next token is checked
    /// after this time.
    TooManyFailures(Duration),
}

impl AuthError {
    /// Returns the close code of a connection that needs an identity.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::TokenNeeded | Self::Token(_) => CloseCode::Unauthorized,
            Self::TooManyFailures(_) => CloseCode::RateLimited,
        }
    }
}

impl From<&AuthError> for Refusal {
    fn from(why: &AuthError) -> Self {
        match why {
            AuthError::TokenNeeded | AuthError::Token(_) => {
                Self::new(ErrorCode::Unauthorized, why.to_string())
            }
            AuthError::TooManyFailures(wait) => Self {
                retry_after: Some(*wait),
                ..Self::new(ErrorCode::RateLimited, why.to_string())
            },
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenNeeded => f.write_str("this server needs a token"),
            Self::Token(why) => write!(f, "{why}"),
            Self::TooManyFailures(_) => {
                f.write_str("too many tokens from this address were refused")
            }
        }
    }
}

impl Authority {
    /// Reads the keys that the settings name.
    pub fn load(settings: AuthSettings) -> Result<Self, KeyError> {
        keys::install_algorithms();
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

    /// Reads the keys again. On an error the previous keys stay in use.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = Arc::new(read_keys(&self.settings)?);
        *self.keys.write() = keys;
        Ok(())
    }

    /// Returns whether tokens are checked.
    pub fn has_keys(&self) -> bool {
        self.settings.has_keys()
    }

    /// Returns the identity that a token grants. An empty token is no token. Without keys the token is ignored.
    pub fn identify(&self, token: Option<&str>) -> Result<Arc<Identity>, AuthError> {
        // A token that was read from a file may end in a line break.
        let token = token.map(str::trim).filter(|token| !token.is_empty());
        let Some(token) = token.filter(|_| self.has_keys()) else {
            return self.anonymous.clone().ok_or(AuthError::TokenNeeded);
        };
        self.check(token)
    }

    /// Not inlined, so that clients without a token do not touch the stack that a check takes.
    #[inline(never)]
    fn check(&self, token: &str) -> Result<Arc<Identity>, AuthError> {
        let keys = Arc::clone(&self.keys.read());
        token::check(token, &keys, &self.settings.required, time::unix_time())
            .map(Arc::new)
            .map_err(AuthError::Token)
    }

    /// Creates a token that this server accepts; `None` if there is no secret to sign with.
    pub fn mint(settings: &AuthSettings, grant: Grant) -> Result<Option<String>, KeyError> {
        let Some(secret) = read_secret(settings)? else {
            return Ok(None);
        };
        keys::install_algorithms();
        Ok(token::mint(grant, &settings.required, &secret, time::unix_time()).ok())
    }
}

fn read_secret(settings: &AuthSettings) -> Result<Option<Secret>, KeyError> {
    match (&settings.secret_file, &settings.secret) {
        (Some(path), _) => Secret::read(path, "--secret-key-file").map(Some),
        (None, Some(secret)) => Secret::new(secret.as_bytes(), "SECRET_KEY").map(Some),
        (None, None) => Ok(None),
    }
}

fn read_keys(settings: &AuthSettings) -> Result<Vec<VerifyingKey>, KeyError> {
    let mut keys = Vec::new();
    keys.extend(read_secret(settings)?.map(|secret| secret.verifying()));
    if let Some(path) = &settings.previous_secret_file {
        keys.push(Secret::read(path, "--previous-secret-key-file")?.verifying());
    }
    if let Some(path) = &settings.public_key_file {
        keys.extend(keys::read_public_keys(path)?);
    }
    Ok(keys)
}
