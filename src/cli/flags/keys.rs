//! The flags for the keys that tokens are checked with.

use std::path::PathBuf;

use crate::auth::{Anonymous, AuthSettings, NamedFile, RequiredClaims};
use crate::target_url::TargetUrl;

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
    /// Check tokens with the public keys that this URL answers with (JWKS), https or http. They are fetched again every ten
    /// minutes, on SIGHUP, and when a token names an unknown one
    #[arg(
        long,
        env = "WSCAST_JWKS_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true,
        help_heading = "Tokens"
    )]
    jwks_url: Option<TargetUrl>,
    /// Also check tokens with the secrets in these files. A token picks one by its name (`kid`), and without a name all
    /// are tried; a comma-separated list of up to 16, such as 2026=/run/secrets/2026
    #[arg(
        long,
        env = "WSCAST_NAMED_SECRET_KEY_FILES",
        value_name = "NAME=PATH",
        value_parser = named_files,
        global = true,
        help_heading = "Tokens"
    )]
    named_secret_key_files: Vec<NamedFiles>,
    /// Take the token from this cookie if a request has no other. A page needs an entry in --allow-origin, unless it is
    /// this server's, opened by IP address or as localhost
    #[arg(
        long,
        env = "WSCAST_TOKEN_COOKIE",
        value_name = "NAME",
        value_parser = cookie_name,
        help_heading = "Tokens"
    )]
    token_cookie: Option<String>,
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

/// Parses the name of a cookie (RFC 6265 §4.1.1).
fn cookie_name(text: &str) -> Result<String, String> {
    let is_symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || is_symbol(byte);
    if !text.is_empty() && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err("write the name of a cookie, such as __Host-token".to_owned())
}

/// The entries of one value of --named-secret-key-files.
#[derive(Clone, Debug)]
struct NamedFiles(Vec<NamedFile>);

/// Parses a comma-separated list. Splits it itself, because the error of clap has only the entry, which may be empty.
fn named_files(text: &str) -> Result<NamedFiles, String> {
    if text.ends_with(',') {
        return Err("nothing follows the last comma; leave it out".to_owned());
    }
    text.split(',')
        .map(named_file)
        .collect::<Result<_, _>>()
        .map(NamedFiles)
}

/// Parses `NAME=PATH`, a secret with the name that tokens call it by.
fn named_file(text: &str) -> Result<NamedFile, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(NamedFile {
            name: name.to_owned(),
            path: path.into(),
        }),
        _ if text.is_empty() => Err("nothing precedes a comma; leave that comma out".to_owned()),
        _ => Err("write NAME=PATH, such as 2026=/run/secrets/2026".to_owned()),
    }
}

impl KeyFlags {
    pub(in crate::cli) fn settings(self, anonymous: Anonymous, asks_backend: bool) -> AuthSettings {
        let secret = std::env::var("SECRET_KEY").ok();
        let named = self.named_secret_key_files.into_iter();
        AuthSettings {
            secret: secret.filter(|secret| !secret.is_empty()),
            secret_file: self.secret_key_file,
            previous_secret_file: self.previous_secret_key_file,
            public_key_file: self.public_key_file,
            named_secret_files: named.flat_map(|files| files.0).collect(),
            jwks_url: self.jwks_url,
            token_cookie: self.token_cookie,
            required: RequiredClaims {
                audience: self.audience,
                issuer: self.issuer,
            },
            anonymous,
            asks_backend,
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
    let named = settings.named_secret_files.first();
    let named = named.map(|_| "the secrets in --named-secret-key-files");
    let public = settings.public_key_file.as_ref();
    let public = public.map(|_| "the keys in --public-key-file");
    let url = settings.jwks_url.as_ref().map(|_| "the keys at --jwks-url");
    let backend = settings.asks_backend.then_some("the backend at --auth-url");
    let keys = secret.into_iter().chain(named).chain(public).chain(url);
    let keys = keys.chain(backend);
    let keys: Vec<&str> = keys.collect();
    if keys.is_empty() {
        return "not checked, because no secret and no public key is set".to_owned();
    }
    format!("checked with {}", keys.join(" and "))
}
