//! A session's token: the first one, its renewal, and its expiry.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::{Identity, unix_time};
use crate::auth_hook::AuthQuestion;
use crate::protocol::{CloseCode, ErrorCode, Refusal, RequestId, RoomName, Scope, ServerMessage};

use super::rooms::reserve_rooms;
use super::session::Session;
use super::token_timer::{TokenEvent, TokenTimer};
use super::transport::Transport;

impl Session<'_> {
    /// Returns the client's identity, or the refusal of a request that came before the token.
    pub(super) fn identity(&self) -> Result<&Arc<Identity>, Refusal> {
        self.identity.as_ref().ok_or_else(|| {
            let message = "send your token first: {\"type\":\"auth\",\"token\":\"…\"}";
            Refusal::new(ErrorCode::Unauthorized, message)
        })
    }

    /// Sets the identity that the client's token grants.
    pub(super) fn set_identity(&mut self, identity: Arc<Identity>) {
        if let Some(user) = &identity.user {
            self.from = Arc::clone(user);
            self.scope = Scope::User(Arc::clone(user));
        }
        self.token_timer = TokenTimer::for_identity(&identity, Instant::now(), unix_time());
        self.identity = Some(identity);
    }

    /// Checks a token that the client has sent. The first token admits the client; a later one of the same user
    /// renews its identity.
    pub(super) fn authenticate(
        &mut self,
        token: &str,
        id: Option<&RequestId>,
    ) -> Result<(), Refusal> {
        let admitted = self.identity.clone();
        let question = || AuthQuestion {
            authorization: Some(format!("Bearer {token}")),
            address: self.peer.ip(),
            method: "GET".to_owned(),
            path: "/ws".to_owned(),
            rooms: self
                .requested
                .iter()
                .filter_map(|room| room.name.clone())
                .collect(),
            ..AuthQuestion::default()
        };
        let identity = self
            .app
            .admission
            .identify(Some(token), self.peer, question);
        let identity = match identity {
            Ok(identity) => identity,
            Err(why) if admitted.is_some() => return Err(Refusal::from(&why)),
            Err(why) => return self.reject(id, &Refusal::from(&why), why.close_code()),
        };
        match admitted {
            Some(admitted) if admitted.user != identity.user => {
                let message = "this token is another user's; open a new connection with it";
                Err(Refusal::new(ErrorCode::Forbidden, message))
            }
            Some(_) => {
                self.set_identity(Arc::clone(&identity));
                self.confirm(&identity, id);
                self.leave_revoked_rooms(&identity);
                Ok(())
            }
            None => self.admit(identity, id),
        }
    }

    /// Admits a client to the rooms that it requested when it connected.
    fn admit(&mut self, identity: Arc<Identity>, id: Option<&RequestId>) -> Result<(), Refusal> {
        let requested = std::mem::take(&mut self.requested);
        match reserve_rooms(requested, &identity, self.peer, self.app) {
            Ok(rooms) => {
                self.set_identity(Arc::clone(&identity));
                self.confirm(&identity, id);
                self.join_first_rooms(rooms);
                self.close_if_revoked(&identity);
                Ok(())
            }
            Err(refusal) => {
                let code = match refusal.code {
                    ErrorCode::RoomFull => CloseCode::RoomFull,
                    ErrorCode::RateLimited => CloseCode::RateLimited,
                    ErrorCode::Forbidden => CloseCode::Forbidden,
                    // The store or the server cannot admit the client now.
                    _ => CloseCode::TryAgainLater,
                };
                self.reject(id, &refusal, code)
            }
        }
    }

    /// Closes a client whose user was revoked while it was admitted. To be called once the broadcaster knows it.
    pub(super) fn close_if_revoked(&self, identity: &Identity) {
        if self.app.admission.is_revoked(identity) {
            self.outbox.close(CloseCode::Unauthorized);
        }
    }

    fn confirm(&self, identity: &Identity, id: Option<&RequestId>) {
        let authenticated = ServerMessage::Authenticated {
            user: identity.user.as_deref(),
            expires: identity.validity.map(|validity| validity.until.as_secs()),
        };
        self.outbox.push(&authenticated.to_frames(id));
    }

    /// Refuses a client's first token and closes its connection.
    fn reject(
        &self,
        id: Option<&RequestId>,
        refusal: &Refusal,
        code: CloseCode,
    ) -> Result<(), Refusal> {
        self.refuse(id, refusal);
        self.outbox.close(code);
        Ok(())
    }

    /// Leaves the rooms that the new token no longer grants.
    fn leave_revoked_rooms(&mut self, identity: &Identity) {
        let names = self.rooms.iter().map(|seat| seat.numbering().name());
        let revoked: Vec<RoomName> = names
            .filter(|name| identity.may_subscribe(name).is_err())
            .cloned()
            .collect();
        for room in revoked {
            // Fails only for a room that the client is not in.
            self.leave(room, None).ok();
        }
    }

    /// Warns the client that its token expires, or closes it because the token has.
    pub(super) fn check_token_timer(&mut self, transport: &mut Transport) {
        let Some(event) = self.token_timer.take_due(Instant::now(), unix_time()) else {
            return;
        };
        transport.send_pongs();
        match event {
            TokenEvent::ExpiresSoon(left) => {
                let in_ms = left.as_millis() as u64;
                let warning = ServerMessage::TokenExpiring { in_ms };
                self.outbox.push(&warning.to_frames(None));
            }
            TokenEvent::Expired => self.outbox.close(CloseCode::Unauthorized),
        }
    }
}
