//! Messages about settings that were ignored or are doubtful.

use log::Level;

/// A message about settings that does not stop the program.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The level at which it is logged.
    pub level: Level,
    /// The message, on a single line.
    pub text: String,
}

impl Notice {
    pub(super) fn new(level: Level, text: String) -> Self {
        Self { level, text }
    }
}
