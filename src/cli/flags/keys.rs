//! The flags for the keys that tokens are checked with.

use std::path::PathBuf;

use crate::auth::{Anonymous, AuthSettings, RequiredClaims};

/// The keys that tokens are checked with. The secret comes from the variable SECRET_KEY or from a file, never
/// from an argument, because every user of the machine can read arguments.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct KeyFlags {
    /// Check tokens (JWT) with the secret in this file; without it, with the secret in the variable SECRET_KEY
    #[arg(
        long,
        env = "WSCAST_SECRET_KEY_FILE",
        value_name = "PATH",
        global = true,
        help_heading = "Tokens"
    )]
    secret_key_file: Option<PathBuf>,
    /// Also accept tokens signed with the previous secret, in this file
    #[arg(
        long,
        env = "WSCAST_PREVIOUS_SECRET_KEY_FILE",
        value_name = "PATH",
        global = true,
        help_heading = "Tokens"
    )]
    previous_secret_key_file: Option<PathBuf>,
    /// Check tokens with the public keys in this file, PEM or JWKS; SIGHUP reloads it
    #[arg(
        long,
        env = "WSCAST_PUBLIC_KEY_FILE",
        value_name = "PATH",
        global = true,
        help_heading = "Tokens"
    )]
    public_key_file: Option<PathBuf>,
    /// Audiences: a token's `aud` must name one of them; a comma-separated list
    #[arg(
        long,
        env = "WSCAST_AUDIENCE",
        value_name = "NAMES",
        value_delimiter = ',',
        global = true,
        help_heading = "Tokens"
    )]
    audience: Vec<String>,
    /// Issuers: a token's `iss` must be one of them; a comma-separated list
    #[arg(
        long,
        env = "WSCAST_ISSUER",
        value_name = "NAMES",
        value_delimiter = ',',
        global = true,
        help_heading = "Tokens"
    )]
    issuer: Vec<String>,
}

impl KeyFlags {
    pub(in crate::cli) fn settings(self, anonymous: Anonymous) -> AuthSettings {
        let secret = std::env::var("SECRET_KEY").ok();
        AuthSettings {
            secret: secret.filter(|secret| !secret.is_empty()),
            secret_file: self.secret_key_file,
            previous_secret_file: self.previous_secret_key_file,
            public_key_file: self.public_key_file,
            required: RequiredClaims {
                audience: self.audience,
                issuer: self.issuer,
            },
            anonymous,
        }
    }
}

/// Describes whether tokens are checked and where the keys come from, without any key.
pub(in crate::cli) fn describe_keys(settings: &AuthSettings) -> String {
    let secret = match (&settings.secret_file, &settings.secret) {
        (Some(_), _) => Some("the secret in --secret-key-file"),
        (None, Some(_)) => Some("the secret in SECRET_KEY"),
        (None, None) => None,
    };
    let public = settings.public_key_file.as_ref();
    let public = public.map(|_| "the keys in --public-key-file");
    let keys: Vec<&str> = secret.into_iter().chain(public).collect();
    if keys.is_empty() {
        return "not checked, because no secret and no public key is set".to_owned();
    }
    format!("checked with {}", keys.join(" and "))
}
