//! How the client commands reach a server, and how they fail.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::flags::values::duration;
use crate::client::{ClientError, ServerAccess, ServerAddress};

/// The variables of the client commands, which are no settings of the server.
pub(in crate::cli) const CLIENT_VARIABLES: [&str; 3] =
    ["WSCAST_URL", "WSCAST_TOKEN", "WSCAST_CA_FILE"];

/// Exit code of a command that failed, the same as that of a server that cannot start.
const EXIT_FAILED: u8 = 1;
/// Exit code if the server cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;
/// Exit code if the server refuses the client.
const EXIT_REFUSED: u8 = 4;

/// The reason why a command ended, and its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The line for stderr.
    pub line: String,
    /// The exit code.
    pub code: u8,
}

/// How to reach the server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerFlags {
    /// The server: ws://HOST:PORT, or wss://HOST:PORT with TLS; the path is /ws where the URL has none
    #[arg(
        long,
        env = "WSCAST_URL",
        value_name = "URL",
        default_value = "ws://127.0.0.1:5000/ws"
    )]
    url: ServerAddress,
    /// A token, where the server checks tokens. Every user of this machine can read arguments, so better set the variable
    #[arg(
        long,
        env = "WSCAST_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// For wss: trust the certificate authorities in this PEM file instead of the system's
    #[arg(long, env = "WSCAST_CA_FILE", value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// Time to connect, the TLS handshake included
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,
}

impl ServerFlags {
    pub(super) fn server(self) -> Result<ServerAccess, Failure> {
        let token = self.token.map(|token| token.trim().to_owned());
        if token.iter().any(|token| token.contains(char::is_control)) {
            let line = "--token: is no token; write the text that `wscast token` prints";
            return Err(Failure::from(ClientError::Failed(line.to_owned())));
        }
        Ok(ServerAccess {
            address: self.url,
            token: token.filter(|token| !token.is_empty()),
            ca_file: self.ca_file,
            connect_timeout: self.connect_timeout,
        })
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::Unreachable(_) => EXIT_UNREACHABLE,
            ClientError::Refused(_) => EXIT_REFUSED,
            ClientError::Failed(_) | ClientError::OutputClosed => EXIT_FAILED,
        };
        let line = error.to_string();
        Self { line, code }
    }
}
