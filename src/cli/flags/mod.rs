//! Groups of the server's flags, and the parsers of their values.

pub(super) mod history;
pub(super) mod hooks;
pub(super) mod host;
pub(super) mod keys;
pub(super) mod limits;
pub(super) mod log;
pub(super) mod nodes;
pub(super) mod tls;
pub(super) mod values;
