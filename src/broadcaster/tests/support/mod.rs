//! A broadcaster whose clock, events and clients belong to the test.

mod broadcaster;
mod client;
mod frame;
mod presence;
mod room;

pub(super) use broadcaster::{TestBroadcaster, WELCOME};
pub(super) use client::{TOO_MANY_TO_HOLD, TestClient};
pub(super) use frame::ReceivedFrame;
pub(super) use presence::{UNIX_TIME, by_key, listed, remote_clients, with_user, without_user};
pub(super) use room::TestRoom;
