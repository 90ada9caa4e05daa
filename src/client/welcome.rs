//! The wait for the welcome, which is the first frame of a connection.

use std::time::{Duration, Instant};

use serde_json::json;

use super::connection::{ClientConnection, ServerAccess};
use super::error::Lost;
use crate::protocol::RoomName;

/// Time from the handshake to the welcome. After it the client checks whether the server waits for a token.
pub(super) const WELCOME_WITHIN: Duration = Duration::from_secs(1);
/// The id of that check, a request that a server which waits for a token refuses.
pub(super) const TOKEN_CHECK_ID: &str = "token-check";

/// The times of a connection that had no welcome yet.
pub(super) struct WelcomeDeadline {
    deadline: Instant,
    /// When to check whether the server waits for a token; `None` if it was sent one, or the check was sent.
    token_check: Option<Instant>,
}

impl WelcomeDeadline {
    /// Starts to wait after the handshake.
    pub(super) fn new(server: &ServerAccess) -> Self {
        let now = Instant::now();
        Self {
            deadline: now + server.connect_timeout,
            token_check: server.token.is_none().then_some(now + WELCOME_WITHIN),
        }
    }

    /// Sends the check of the token if it is due, which the caller flushes. Returns until when to wait; an error once
    /// the welcome is overdue.
    pub(super) fn check(
        &mut self,
        connection: &mut ClientConnection,
        room: &RoomName,
    ) -> Result<Instant, Lost> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Lost::Broken("the server sends no welcome".to_owned()));
        }
        if self.token_check.take_if(|at| *at <= now).is_some() {
            let room = room.as_str();
            let check = json!({"type": "presence", "room": room, "id": TOKEN_CHECK_ID});
            connection.send(check.to_string())?;
        }
        let token_check = self.token_check.unwrap_or(self.deadline);
        Ok(token_check.min(self.deadline))
    }
}
