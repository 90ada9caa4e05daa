//! The scripts that Redis runs for us: each is one step that nothing comes between.

use std::sync::LazyLock;

use redis::Cmd;

const NUMBERS: &str = include_str!("scripts/numbers.lua");

/// A script, known to Redis by the digest of its text.
pub(super) struct Script(LazyLock<Text>);

struct Text {
    text: String,
    digest: String,
}

impl Script {
    const fn new(text: fn() -> Text) -> Self {
        Self(LazyLock::new(text))
    }

    /// A call on these keys; its arguments are to be added.
    pub(super) fn call(&self, keys: &[String]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.0.digest).arg(keys.len()).arg(keys);
        command
    }

    fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.0.text);
        command
    }
}

fn text(script: &str) -> Text {
    let text = [NUMBERS, script].concat();
    let digest = redis::Script::new(&text).get_hash().to_owned();
    Text { text, digest }
}

pub(super) static OPEN: Script = Script::new(|| text(include_str!("scripts/open.lua")));
pub(super) static PUBLISH: Script = Script::new(|| text(include_str!("scripts/publish.lua")));
pub(super) static HISTORY: Script = Script::new(|| text(include_str!("scripts/history.lua")));
pub(super) static RUN: Script = Script::new(|| text(include_str!("scripts/run.lua")));
pub(super) static BEAT: Script = Script::new(|| text(include_str!("scripts/beat.lua")));

/// What makes them known to a server.
pub(super) fn load_all() -> Vec<Cmd> {
    [&OPEN, &PUBLISH, &HISTORY, &RUN, &BEAT]
        .map(Script::load)
        .into()
}
