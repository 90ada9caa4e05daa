//! Identities that the backend of the connect hook grants.

use std::sync::Arc;

use crate::auth::{AuthError, Identity};
use crate::auth_hook::{AuthAnswer, AuthHook, AuthQuestion};
use crate::socket::Peer;

use super::Admission;

impl Admission {
    /// Not inlined, so that the clients of a server without a backend do not touch the stack that this takes.
    #[inline(never)]
    pub(super) fn ask_backend(
        &self,
        hook: &AuthHook,
        token: Option<&str>,
        peer: Peer,
        question: &AuthQuestion,
    ) -> Result<Arc<Identity>, AuthError> {
        // A client without credentials may still send a token after it has connected. Where tokens are checked here, so may
        // one whose browser has sent cookies.
        let may_send_token =
            token.is_none() && (self.authority.has_keys() || !question.has_credentials());
        let is_revoked = |identity: &Identity| self.is_revoked(identity);
        match hook.ask(question, self.limited_address(peer), is_revoked) {
            Some(AuthAnswer::Granted(identity)) => Ok(identity),
            Some(AuthAnswer::Unknown) if may_send_token => Err(AuthError::TokenNeeded),
            Some(AuthAnswer::Unknown) => {
                self.metrics.auth_calls_refused.add(1);
                Err(AuthError::Unknown)
            }
            Some(AuthAnswer::Forbidden) => {
                self.metrics.auth_calls_refused.add(1);
                Err(AuthError::Forbidden)
            }
            None => Err(AuthError::Unavailable),
        }
    }
}
