//! `wscast token`: mints tokens for people and explains them, with the keys that the server uses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Anonymous, AuthSettings, Authority, Grant, Identity, RoomPatterns, Rules};

/// What tokens are checked with. The secret itself comes from the variable SECRET_KEY or a file, never
/// from an argument, which everybody on the machine can read.
#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    /// Check tokens (JWT) with the secret in this file; so does the variable SECRET_KEY
    #[arg(
        long,
        env = "WSCAST_SECRET_KEY_FILE",
        value_name = "PATH",
        global = true,
        help_heading = "Tokens"
    )]
    secret_key_file: Option<PathBuf>,
    /// Accept tokens of the secret before this one as well
    #[arg(
        long,
        env = "WSCAST_PREVIOUS_SECRET_KEY_FILE",
        value_name = "PATH",
        global = true,
        help_heading = "Tokens"
    )]
    previous_secret_key_file: Option<PathBuf>,
    /// Check tokens with the public keys in this file: PEM or JWKS; read again on SIGHUP
    #[arg(
        long,
        env = "WSCAST_PUBLIC_KEY_FILE",
        value_name = "PATH",
        global = true,
        help_heading = "Tokens"
    )]
    public_key_file: Option<PathBuf>,
    /// Audience that a token must be for; a comma-separated list
    #[arg(
        long,
        env = "WSCAST_AUDIENCE",
        value_name = "NAMES",
        value_delimiter = ',',
        global = true,
        help_heading = "Tokens"
    )]
    audience: Vec<String>,
    /// Issuer that a token must be from; a comma-separated list
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

impl Keys {
    pub(super) fn settings(self, anonymous: Anonymous) -> AuthSettings {
        let secret = std::env::var("SECRET_KEY").ok();
        AuthSettings {
            secret: secret.filter(|secret| !secret.is_empty()),
            secret_file: self.secret_key_file,
            previous_secret_file: self.previous_secret_key_file,
            public_key_file: self.public_key_file,
            rules: Rules {
                audience: self.audience,
                issuer: self.issuer,
            },
            anonymous,
        }
    }
}

/// Mint a token with the server's secret, or explain one
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct TokenCommand {
    /// Who the token is for: its claim `sub`
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Rooms it may read, such as ops, 'ops-*' or '*'; a comma-separated list
    #[arg(long, value_name = "ROOMS", value_delimiter = ',')]
    subscribe: Vec<String>,
    /// Rooms it may publish to
    #[arg(long, value_name = "ROOMS", value_delimiter = ',')]
    publish: Vec<String>,
    /// Let it see and close clients
    #[arg(long)]
    admin: bool,
    /// How long it is valid: 90, 90s, 15m, 12h or 30d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    ttl: Duration,

    #[command(subcommand)]
    check: Option<Check>,
}

#[derive(Debug, clap::Subcommand)]
enum Check {
    /// Say what a token grants, or why it grants nothing
    Check {
        /// The token; `-` reads it from standard input
        token: String,
    },
}

impl TokenCommand {
    /// What is to be printed; `Err` is one line for stderr.
    pub(super) fn run(self, settings: &AuthSettings) -> Result<String, String> {
        if !settings.has_keys() {
            return Err("token: set SECRET_KEY, --secret-key-file or --public-key-file".to_owned());
        }
        match self.check {
            Some(Check::Check { token }) => check(&token, settings),
            None => self.mint(settings),
        }
    }

    fn mint(self, settings: &AuthSettings) -> Result<String, String> {
        for rooms in [&self.subscribe, &self.publish] {
            RoomPatterns::parse(rooms.iter().map(String::as_str))
                .map_err(|bad| format!("token: {bad:?} is no room; write ops, 'ops-*' or '*'"))?;
        }
        let grant = Grant {
            user: self.user,
            subscribe: self.subscribe,
            publish: self.publish,
            admin: self.admin,
            lifetime: self.ttl,
            ..Grant::default()
        };
        let token = Authority::mint(settings, grant).map_err(|why| why.to_string())?;
        let token =
            token.ok_or("token: minting takes a secret: SECRET_KEY or --secret-key-file")?;
        // Whoever mints learns at once if the server would not take it.
        understand(&token, settings)?;
        Ok(token + "\n")
    }
}

fn check(token: &str, settings: &AuthSettings) -> Result<String, String> {
    let token = match token {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|why| format!("token: {why}"))?,
        token => token.to_owned(),
    };
    let identity = understand(token.trim(), settings)?;
    let user = identity.user.as_deref().unwrap_or("(nobody)");
    let left = identity.time_left().unwrap_or_default().as_secs();
    Ok(format!(
        "user       {user}\nsubscribe  {}\npublish    {}\nadmin      {}\nexpires    in {left} s\n",
        identity.subscribe, identity.publish, identity.admin
    ))
}

fn understand(token: &str, settings: &AuthSettings) -> Result<Arc<Identity>, String> {
    let authority = Authority::load(settings.clone()).map_err(|why| why.to_string())?;
    authority
        .identify(Some(token))
        .map_err(|why| format!("token: {why}"))
}

/// `90`, `90s`, `15m`, `12h` or `30d`.
fn time(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: u64 = 10 * 365 * 86_400;
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    match seconds {
        Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err("write a time such as 90s, 15m, 12h or 30d".to_owned()),
    }
}
