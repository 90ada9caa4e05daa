//! Authorization: the web origins that may use the server, and the rights that a token grants.
//!
//! Without a key every client may read and publish everywhere; with one, every request needs an [`Identity`].
//! Algorithm and keys come from the settings, never from a token. Neither keys nor tokens are logged.

mod backend_claims;
mod claims;
mod keys;
mod origin;
mod revocations;
mod rights;
mod time;
mod token;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use keys::{Refresh, RemoteKeys, Secret, VerifyingKey};

use crate::metrics::Metrics;
use crate::protocol::{CloseCode, ErrorCode, RETRY, Refusal};
use crate::target_url::TargetUrl;
use crate::threads;

/// Longest time that a start waits for the keys of `--jwks-url`.
const FIRST_KEYS_TIMEOUT: Duration = Duration::from_secs(5);
/// Most named secrets. A token without a `kid` is checked with each.
const NAMED_SECRETS_MAX: usize = 16;

pub(crate) use backend_claims::{BackendClaimsError, identity_of_backend};
pub(crate) use keys::FetchKeys;
pub use keys::KeyError;
pub use origin::AllowedOrigins;
pub(crate) use origin::is_origin;
pub(crate) use origin::is_own_page;
pub(crate) use revocations::{
    REVOCATION_KEPT, REVOCATIONS_MAX, Revocations, TooManyRevocations, oldest_kept,
};
pub(crate) use rights::parse_user;
pub use rights::{Identity, RightsSource, RoomPatterns, Validity};
pub(crate) use time::unix_time;
pub(crate) use token::is_token;
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
    /// Files with further secrets, each with the name that tokens pick it by.
    pub named_secret_files: Vec<NamedFile>,
    /// A file with public keys, PEM or JWKS.
    pub public_key_file: Option<PathBuf>,
    /// An address of public keys that are fetched again from time to time.
    pub jwks_url: Option<TargetUrl>,
    /// The cookie that holds the token of a client that sends no other.
    pub token_cookie: Option<String>,
    /// Claims that a token must have.
    pub required: RequiredClaims,
    /// Rights of clients without a token, if tokens are checked.
    pub anonymous: Anonymous,
    /// True if a backend decides about clients without a token that is checked here.
    pub asks_backend: bool,
}

impl AuthSettings {
    /// Returns whether there is a key to check tokens with.
    pub fn has_keys(&self) -> bool {
        let files = [&self.secret_file, &self.public_key_file];
        self.secret.is_some()
            || files.into_iter().any(Option::is_some)
            || !self.named_secret_files.is_empty()
            || self.jwks_url.is_some()
    }

    /// Returns whether a key is in a file or at a URL, which can be read again.
    pub(crate) fn has_key_files(&self) -> bool {
        let files = [
            &self.secret_file,
            &self.previous_secret_file,
            &self.public_key_file,
        ];
        files.into_iter().any(Option::is_some)
            || !self.named_secret_files.is_empty()
            || self.jwks_url.is_some()
    }
}

/// A file with a secret, and the name of the secret (`kid`).
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// The name in the headers of tokens.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// Shows whether there is a secret, not the secret.
impl fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSettings")
            .field("has_secret", &self.secret.is_some())
            .field("secret_file", &self.secret_file)
            .field("previous_secret_file", &self.previous_secret_file)
            .field("named_secret_files", &self.named_secret_files)
            .field("public_key_file", &self.public_key_file)
            .field("has_jwks_url", &self.jwks_url.is_some())
            .field("token_cookie", &self.token_cookie)
            .field("required", &self.required)
            .field("anonymous", &self.anonymous)
            .field("asks_backend", &self.asks_backend)
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

impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Subscribe => "subscribe",
            Self::Both => "both",
        })
    }
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
    /// The keys at `--jwks-url`.
    remote_keys: Option<Arc<RemoteKeys>>,
    revocations: Arc<Revocations>,
}

/// The reason why a client has no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The client has no token, and clients without one have no rights.
    TokenNeeded,
    /// The token is refused.
    Token(TokenError),
    /// The token may be signed by a key at `--jwks-url`, whose server does not answer.
    KeysUnavailable,
    /// The token was not checked, because too many tokens from this address were refused. The next token is checked
    /// after this time.
    TooManyFailures(Duration),
    /// The backend does not know the client.
    Unknown,
    /// The backend knows the client and grants it no rights.
    Forbidden,
    /// The backend gives no usable answer.
    Unavailable,
}

impl AuthError {
    /// Returns the close code of a connection that needs an identity.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::TokenNeeded | Self::Token(_) | Self::Unknown => CloseCode::Unauthorized,
            Self::Forbidden => CloseCode::Forbidden,
            Self::Unavailable => CloseCode::TryAgainLater,
            Self::KeysUnavailable => CloseCode::TryAgainLater,
            Self::TooManyFailures(_) => CloseCode::RateLimited,
        }
    }
}

impl From<&AuthError> for Refusal {
    fn from(why: &AuthError) -> Self {
        match why {
            AuthError::TokenNeeded | AuthError::Token(_) | AuthError::Unknown => {
                Self::new(ErrorCode::Unauthorized, why.to_string())
            }
            AuthError::KeysUnavailable => Self::new(ErrorCode::KeysUnavailable, why.to_string()),
            AuthError::Forbidden => Self::new(ErrorCode::Forbidden, why.to_string()),
            AuthError::Unavailable => Self {
                retry_after: Some(RETRY),
                ..Self::new(ErrorCode::AuthUnavailable, why.to_string())
            },
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
            Self::KeysUnavailable => {
                f.write_str("the key of this token cannot be fetched now; try again later")
            }
            Self::TooManyFailures(_) => {
                f.write_str("too many tokens from this address were refused")
            }
            Self::Unknown => f.write_str("the backend does not know this client; sign in first"),
            Self::Forbidden => f.write_str("the backend refuses this client"),
            Self::Unavailable => {
                f.write_str("the backend of --auth-url gives no usable answer; try again later")
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
            // Only the backend lets such clients in.
            _ if settings.asks_backend => None,
            _ if !settings.has_keys() => Some(Identity::anyone()),
            Anonymous::None => None,
            Anonymous::Subscribe => Some(Identity::anonymous(every(), RoomPatterns::none())),
            Anonymous::Both => Some(Identity::anonymous(every(), every())),
        };
        let remote_keys = settings
            .jwks_url
            .as_ref()
            .map(|url| RemoteKeys::new(&url.to_string()));
        Ok(Self {
            remote_keys: remote_keys.map(Arc::new),
            settings,
            anonymous: anonymous.map(Arc::new),
            keys,
            revocations: Arc::default(),
        })
    }

    /// Starts the thread that fetches the keys at `--jwks-url`, and waits a little for the first ones. Does nothing
    /// without such a URL.
    pub(crate) fn fetch_keys(&self, fetch: FetchKeys, metrics: Arc<Metrics>) -> io::Result<()> {
        let Some(remote) = &self.remote_keys else {
            return Ok(());
        };
        let deadline = Instant::now() + FIRST_KEYS_TIMEOUT;
        let fetcher = Arc::clone(remote);
        threads::spawn_service("jwks", move || fetcher.run(&fetch, &metrics))?;
        if !remote.wait_for_first(deadline) {
            log::warn!(
                "the keys of --jwks-url are not fetched yet; tokens are rejected until they are"
            );
        }
        Ok(())
    }

    /// Reads the keys again. On an error the previous keys stay in use.
    pub fn reload(&self) -> Result<(), KeyError> {
        if let Some(remote) = &self.remote_keys {
            remote.request();
        }
        let keys = Arc::new(read_keys(&self.settings)?);
        *self.keys.write() = keys;
        Ok(())
    }

    /// Returns the revoked users. The store adds those that it has kept, and those of other nodes.
    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
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
        let identity = match self.check_with_known_keys(token) {
            Err(why) => match self.refresh_keys(token, &why) {
                Some(Refresh::Fetched) => self.check_with_known_keys(token),
                Some(Refresh::Unavailable) => return Err(AuthError::KeysUnavailable),
                Some(Refresh::Recent) | None => Err(why),
            },
            identity => identity,
        };
        let identity = identity.map_err(AuthError::Token)?;
        if self.revocations.include(&identity) {
            return Err(AuthError::Token(TokenError::Revoked));
        }
        Ok(Arc::new(identity))
    }

    fn check_with_known_keys(&self, token: &str) -> Result<Identity, TokenError> {
        let keys = Arc::clone(&self.keys.read());
        let remote_keys = self.remote_keys.as_ref().map(|remote| remote.keys());
        let remote_keys = remote_keys.iter().flat_map(|keys| keys.iter());
        let keys: Vec<&VerifyingKey> = keys.iter().chain(remote_keys).collect();
        token::check(token, &keys, &self.settings.required, time::unix_time())
    }

    /// Fetches the keys at `--jwks-url` again if the token may be refused because its key is new there.
    fn refresh_keys(&self, token: &str, why: &TokenError) -> Option<Refresh> {
        let remote = self.remote_keys.as_ref()?;
        let lacks_key = matches!(
            why,
            TokenError::UnknownKey | TokenError::Signature | TokenError::Algorithm { .. }
        );
        if !lacks_key {
            return None;
        }
        let known = remote.keys();
        let is_known = match token::key_id(token) {
            Some(id) => known.iter().any(|key| key.id.as_ref() == Some(&id)),
            None => !known.is_empty(),
        };
        (!is_known).then(|| remote.refresh(Instant::now()))
    }

    /// Creates a token that this server accepts; `None` if there is no secret to sign with.
    pub fn mint(settings: &AuthSettings, grant: Grant) -> Result<Option<String>, KeyError> {
        let named = || read_named_secrets(settings).map(|secrets| secrets.into_iter().next());
        let Some(secret) = read_secret(settings)?.map_or_else(named, |secret| Ok(Some(secret)))?
        else {
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

/// Reads the named secrets, in the order of the setting.
fn read_named_secrets(settings: &AuthSettings) -> Result<Vec<Secret>, KeyError> {
    let files = &settings.named_secret_files;
    if files.len() > NAMED_SECRETS_MAX {
        return Err(KeyError::TooManySecrets);
    }
    let mut secrets: Vec<Secret> = Vec::new();
    for NamedFile { name, path } in files {
        if secrets.iter().any(|known| known.name() == Some(name)) {
            return Err(KeyError::NameTwice(name.clone()));
        }
        let secret = Secret::read(path, "--named-secret-key-files")?;
        secrets.push(secret.named(name.clone()));
    }
    Ok(secrets)
}

fn read_keys(settings: &AuthSettings) -> Result<Vec<VerifyingKey>, KeyError> {
    let mut keys = Vec::new();
    keys.extend(read_secret(settings)?.map(|secret| secret.verifying()));
    let named = read_named_secrets(settings)?;
    keys.extend(named.iter().map(Secret::verifying));
    if let Some(path) = &settings.previous_secret_file {
        keys.push(Secret::read(path, "--previous-secret-key-file")?.verifying());
    }
    if let Some(path) = &settings.public_key_file {
        keys.extend(keys::read_public_keys(path)?);
    }
    Ok(keys)
}
