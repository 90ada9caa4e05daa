//! The text that the server prints at its start: its addresses and, on a terminal, how open it is and the next command.

use std::net::{IpAddr, SocketAddr};

use super::connectable;
use crate::auth::{AllowedOrigins, Anonymous};
use crate::config::Config;

/// The text that the server prints once its sockets are bound.
#[derive(Debug)]
pub struct StartText {
    /// `s` if the port uses TLS, for `https` and `wss`.
    s: &'static str,
    /// A line for each Unix socket.
    unix_sockets: String,
    /// The lines for a person: access, origins, history.
    notes: String,
}

impl StartText {
    /// Returns the text for a server with these settings.
    pub fn new(config: &Config) -> Self {
        let unix_sockets = config.listen.iter().fold(String::new(), |lines, path| {
            lines + &format!("socket  unix:{}\n", path.display())
        });
        Self {
            s: if config.tls.is_some() { "s" } else { "" },
            unix_sockets,
            notes: format!(
                "reach   {}\naccess  {}\norigin  {}\nkeeps   {}\n",
                reach(config),
                access(config),
                origins(config),
                history(config)
            ),
        }
    }

    /// Returns the lines for programs: the page and the WebSocket, if there is a port, and the Unix sockets.
    pub fn addresses(&self, bound: Option<SocketAddr>) -> String {
        let s = self.s;
        let port = bound.map(local).map_or_else(String::new, |address| {
            format!("page    http{s}://{address}/\nsocket  ws{s}://{address}/ws\n")
        });
        port + &self.unix_sockets
    }

    /// Returns the lines for a person at a terminal.
    pub fn for_terminal(&self, bound: Option<SocketAddr>) -> String {
        let Some(address) = bound.map(local) else {
            return self.addresses(bound) + &self.notes + "stop    Ctrl-C\n";
        };
        let s = self.s;
        // The port of --url's default is left out.
        let url = match (s, address.port()) {
            ("", 5000) => String::new(),
            _ => format!("--url ws{s}://{address} "),
        };
        let sub = format!("wscast sub {url}lobby");
        let publish = format!("wscast pub {url}lobby hello");
        format!(
            "{}{}try     open the page in two windows, or, in two terminals:\n        {sub}\n        {publish}\n\
             stop    Ctrl-C\n",
            self.addresses(bound),
            self.notes
        )
    }
}

/// Returns the bound address as a person on this machine can connect to it.
fn local(bound: SocketAddr) -> SocketAddr {
    SocketAddr::new(connectable(bound.ip()), bound.port())
}

fn reach(config: &Config) -> &'static str {
    if config.inherit_sockets {
        "through the sockets of the .socket unit"
    } else if config.host.iter().all(IpAddr::is_loopback) {
        "from this machine only; --host 0.0.0.0,:: opens the port to its networks"
    } else {
        "from every network of this machine; --host 127.0.0.1 closes the port to them"
    }
}

fn access(config: &Config) -> &'static str {
    if config.auth.asks_backend {
        return "clients that the backend at --auth-url lets in";
    }
    match (config.auth.has_keys(), config.auth.anonymous) {
        (false, _) => "no key: everyone may read and publish; SECRET_KEY=… makes tokens necessary",
        (true, Anonymous::None) => "with a token only; `wscast token` creates one",
        (true, Anonymous::Subscribe) => "everyone may read; publishing needs a token",
        (true, Anonymous::Both) => "everyone may read and publish; only operators need a token",
    }
}

fn origins(config: &Config) -> String {
    match &config.allow_origin {
        AllowedOrigins::Any => {
            "any: pages of every web site may connect; --allow-origin https://example.com limits them"
                .to_owned()
        }
        listed @ AllowedOrigins::Listed(_) => format!("pages of {listed} may connect"),
    }
}

fn history(config: &Config) -> String {
    match (&config.database, &config.redis) {
        (Some(database), _) => format!("the history, in {}", database.path.display()),
        (None, Some(_)) => "the history, in Redis".to_owned(),
        (None, None) => {
            "the history in memory, until the server ends; --db wscast.db keeps it".to_owned()
        }
    }
}
