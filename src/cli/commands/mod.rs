//! The commands besides `serve`: one file each, and the flags that the client commands have in common.

pub(super) mod backup;
mod bench;
pub(super) mod client;
pub(super) mod healthcheck;
pub(super) mod manual;
mod publish;
pub(super) mod server_flags;
mod subscribe;
pub(super) mod token;
