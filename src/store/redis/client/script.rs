//! Lua scripts that Redis runs atomically.

use std::sync::LazyLock;

use redis::Cmd;

/// A script, called by the digest of its text (`EVALSHA`).
pub(crate) struct Script(LazyLock<Source>);

/// The text of a script and its digest.
pub(crate) struct Source {
    text: String,
    digest: String,
}

impl Source {
    pub(crate) fn new(text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }
}

impl Script {
    pub(crate) const fn new(source: fn() -> Source) -> Self {
        Self(LazyLock::new(source))
    }

    /// Returns a call with these keys, to which the caller adds the arguments.
    pub(crate) fn call(&self, keys: &[String]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.0.digest).arg(keys.len()).arg(keys);
        command
    }

    /// Returns the command that makes the script known to a server.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.0.text);
        command
    }
}
