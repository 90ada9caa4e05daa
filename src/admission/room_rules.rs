//! Checks of the rules for rooms by name. The rights of a token are checked before.

use super::Admission;
use crate::auth::Identity;
use crate::config::Publishers;
use crate::protocol::{ErrorCode, Refusal, RoomName};

/// The way in which a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishedOver {
    /// An HTTP request.
    Http,
    /// A WebSocket.
    Session,
}

impl Admission {
    /// Returns an error unless the rule of the room lets this client publish a payload of this size.
    pub(crate) fn check_publish(
        &self,
        room: &RoomName,
        identity: &Identity,
        over: PublishedOver,
        payload_bytes: usize,
    ) -> Result<(), Refusal> {
        if !self.config.has_room_rules() {
            return Ok(());
        }
        let config = self.config.get();
        let Some(rule) = config.rooms.find(room) else {
            return Ok(());
        };
        let is_identified = identity.is_identified();
        let may_publish = match rule.publish {
            Publishers::Anyone => true,
            Publishers::Token => is_identified,
            Publishers::Server => is_identified && over == PublishedOver::Http,
        };
        if !may_publish {
            let who = match rule.publish {
                Publishers::Server => "servers publish, by POST with a token or a backend's claims",
                _ => "clients with a token or a backend's claims publish",
            };
            let message = format!("only {who} to {room}");
            return Err(Refusal::new(ErrorCode::Forbidden, message));
        }
        match rule.max_message_bytes {
            Some(max) if payload_bytes > max => {
                let message = format!("a payload in {room} may have at most {max} bytes");
                Err(Refusal::new(ErrorCode::MessageTooLarge, message))
            }
            _ => Ok(()),
        }
    }

    /// Returns an error if the rule of the room hides its members.
    pub(crate) fn check_presence(&self, room: &RoomName) -> Result<(), Refusal> {
        if self.config.shows_presence(room) {
            return Ok(());
        }
        let message = format!("presence is off in {room}");
        Err(Refusal::new(ErrorCode::Forbidden, message))
    }
}
