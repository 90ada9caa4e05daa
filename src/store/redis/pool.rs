//! A few links that clients' threads take turns with.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::threads::REPLY_TIMEOUT;

use super::answer::{LinkError, REDIS_TIMEOUT};
use super::link::Link;
use super::shared::Shared;

/// Links for reading. An answer takes well below a millisecond, so few serve many.
const LINKS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Pool {
    give_back: Sender<Link>,
    free: Receiver<Link>,
}

impl Pool {
    /// None of them is connected before it is needed.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let (give_back, free) = bounded(LINKS_MAX);
        for _ in 0..LINKS_MAX {
            let _has_room = give_back.try_send(shared.link());
        }
        Self { give_back, free }
    }

    /// Waits for its turn while many ask. What is asked may be asked twice: a link that was not used for a while
    /// does not know that it broke.
    pub(super) fn with<T>(
        &self,
        ask: impl Fn(&mut Link) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let free = self.free.recv_timeout(REPLY_TIMEOUT);
        let mut link = free.map_err(|_| LinkError::NotSent("too many ask at once".to_owned()))?;
        let asked = Instant::now();
        let mut answer = ask(&mut link);
        let broke = matches!(answer, Err(LinkError::Unanswered(_)));
        // One that did not answer in time would not do so now.
        if broke && asked.elapsed() < REDIS_TIMEOUT / 2 {
            answer = ask(&mut link);
        }
        let _has_room = self.give_back.try_send(link);
        answer
    }
}
