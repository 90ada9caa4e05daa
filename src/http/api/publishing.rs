//! The publisher of messages over HTTP.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::auth::Identity;
use crate::http::request::Admitted;
use crate::http::response::bad_request;
use crate::protocol::{
    ErrorCode, PublishRequest, Refusal, RequestId, RoomName, SERVER, Scope, SessionHash, UserHash,
};
use crate::rooms::{ExcludedUser, Exclusion};
use crate::store::Publish;

/// The client that publishes with a request.
pub(super) struct HttpPublisher {
    /// The token's user, the server for an operator without one, else a client id of its own.
    from: Arc<str>,
    /// A publish id is compared within a scope, so that two clients that both count 1, 2, 3 do not lose messages.
    scope: Option<Scope>,
    /// The clients that do not receive messages without an echo, if the request has a session.
    own_clients: Option<Exclusion>,
    received: Instant,
}

impl HttpPublisher {
    /// Returns the publisher of a request; `Err` is the response if its `session` is wrong.
    pub(super) fn of(admitted: &Admitted<'_>, app: &App) -> Result<Self, ResponseBox> {
        let session = admitted.request.session();
        let session = session.map_err(|why| bad_request(&why))?;
        let identity = &admitted.identity;
        let from = match &identity.user {
            Some(user) => user.clone(),
            None if identity.admin => SERVER.into(),
            None => app.admission.next_client_id().to_string().into(),
        };
        Ok(Self {
            from,
            own_clients: session
                .as_ref()
                .and_then(SessionHash::of)
                .map(|session| Exclusion::Session(session, excluded_user(identity))),
            scope: identity.user.clone().map(Scope::User).or(session),
            received: Instant::now(),
        })
    }

    /// Returns a message of this publisher for a room. Fails if it is without an echo, but the request has no session.
    pub(super) fn publish(
        &self,
        room: &RoomName,
        message: &PublishRequest<'_>,
        id: Option<RequestId>,
    ) -> Result<Publish, Refusal> {
        let except = match (message.echo, self.own_clients) {
            (true, _) => None,
            (false, Some(own_clients)) => Some(own_clients),
            (false, None) => {
                let message =
                    "`echo` needs `session`: that of the client that is not to receive the message";
                return Err(Refusal::new(ErrorCode::InvalidField, message));
            }
        };
        Ok(Publish {
            room: room.clone(),
            from: Arc::clone(&self.from),
            kind: message.kind,
            payload: message.payload.into(),
            id,
            scope: self.scope.clone(),
            ttl: message.ttl,
            except,
            received: self.received,
        })
    }
}

/// Returns the user whose clients a publisher may exclude by their session.
fn excluded_user(identity: &Identity) -> ExcludedUser {
    match &identity.user {
        Some(user) => ExcludedUser::Only(UserHash::of(user)),
        None if identity.is_identified() => ExcludedUser::Any,
        None => ExcludedUser::Nobody,
    }
}
