//! `wscast token`: creates tokens and explains them, with the same keys as the server.

use std::sync::Arc;
use std::time::Duration;

use log::Level;

use crate::auth::{AuthSettings, Authority, Grant, Identity, REVOCATION_KEPT, RoomPatterns};
use crate::cli::flags::values::seconds_or_more;
use crate::cli::notice::Notice;
use crate::jwks;
use crate::protocol::RoomName;

const NEEDS_SECRET: &str = "creating a token needs the server's secret; set SECRET_KEY, --secret-key-file or the --config \
                            that names it";

/// Create a token with the server's secret, or explain one
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct TokenCommand {
    /// The user: the token's claim `sub`
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Rooms that the user may read, such as `ops`, `ops-*`, `*` or `@*`; a comma-separated list
    #[arg(long, value_name = "ROOMS", value_delimiter = ',')]
    subscribe: Vec<String>,
    /// Rooms that the user may publish to, in the same form
    #[arg(long, value_name = "ROOMS", value_delimiter = ',')]
    publish: Vec<String>,
    /// Let the user list and close clients, revoke users, and delete messages
    #[arg(long)]
    admin: bool,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = seconds_or_more)]
    ttl: Duration,

    #[command(subcommand)]
    check: Option<Check>,
}

#[derive(Debug, clap::Subcommand)]
enum Check {
    /// Print what a token grants, or why it is refused
    Check {
        /// The token; `-` reads it from standard input
        token: String,
    },
}

impl TokenCommand {
    /// Returns warnings about a new token.
    pub(in crate::cli) fn warnings(&self) -> impl Iterator<Item = Notice> {
        let texts = match self.check {
            Some(_) => [None, None],
            None => [self.grants_little(), self.outlives_revocation()],
        };
        texts
            .into_iter()
            .flatten()
            .map(|text| Notice::new(Level::Warn, text))
    }

    fn grants_little(&self) -> Option<String> {
        let grants_rooms = !self.subscribe.is_empty() || !self.publish.is_empty();
        if self.admin || grants_rooms {
            return None;
        }
        Some(match &self.user {
            Some(user) => format!(
                "this token opens only the room {}; for others add --subscribe or --publish",
                RoomName::of_user(user)
            ),
            None => "this token grants nothing; add --subscribe, --publish or --admin".to_owned(),
        })
    }

    fn outlives_revocation(&self) -> Option<String> {
        let days = REVOCATION_KEPT.as_secs() / (24 * 60 * 60);
        let text = format!(
            "a revocation is kept for {days} days, and this token would be accepted again after that; give a shorter --ttl"
        );
        // A token without a user cannot be revoked.
        let is_revocable = self.user.is_some();
        (is_revocable && self.ttl > REVOCATION_KEPT).then_some(text)
    }

    /// Returns the text to print; `Err` is one line for stderr.
    pub(in crate::cli) fn run(self, settings: &AuthSettings) -> Result<String, String> {
        if !settings.has_keys() {
            return Err(match self.check {
                Some(_) => {
                    "token check: set SECRET_KEY, --secret-key-file or --public-key-file".to_owned()
                }
                None => format!("token: {NEEDS_SECRET}"),
            });
        }
        match self.check {
            Some(Check::Check { token }) => check(&token, settings),
            None => self.mint(settings),
        }
    }

    fn mint(self, settings: &AuthSettings) -> Result<String, String> {
        for rooms in [&self.subscribe, &self.publish] {
            RoomPatterns::parse(rooms.iter().map(String::as_str)).map_err(|bad| {
                format!("token: {bad:?} is not a room; write ops, 'ops-*' or '*'")
            })?;
        }
        let grant = Grant {
            user: self.user,
            subscribe: self.subscribe,
            publish: self.publish,
            admin: self.admin,
            lifetime: self.ttl,
        };
        let token = Authority::mint(settings, grant).map_err(|why| why.to_string())?;
        let token = token.ok_or_else(|| format!("token: {NEEDS_SECRET}"))?;
        // A token that the server would refuse is reported now, not on first use.
        identify(&token, settings)?;
        Ok(token + "\n")
    }
}

fn check(token: &str, settings: &AuthSettings) -> Result<String, String> {
    let token = match token {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|why| format!("token: {why}"))?,
        token => token.to_owned(),
    };
    // Editors of Windows write a byte order mark.
    let token = token.trim().trim_start_matches('\u{feff}');
    let identity = identify(token, settings)?;
    let user = identity.user.as_deref().unwrap_or("(none)");
    let own_room = identity.user.as_deref().map(RoomName::of_user);
    let own_room = own_room.map_or_else(|| "(none)".to_owned(), |room| room.to_string());
    let left = identity.time_left().unwrap_or_default().as_secs();
    Ok(format!(
        "user       {user}\nown room   {own_room}\nsubscribe  {}\npublish    {}\nadmin      {}\nexpires    in {left} s\n",
        identity.subscribe, identity.publish, identity.admin
    ))
}

fn identify(token: &str, settings: &AuthSettings) -> Result<Arc<Identity>, String> {
    let authority = Authority::load(settings.clone()).map_err(|why| why.to_string())?;
    jwks::start(settings, &authority, &Arc::default()).map_err(|why| format!("token: {why}"))?;
    authority
        .identify(Some(token))
        .map_err(|why| format!("token: {why}"))
}
