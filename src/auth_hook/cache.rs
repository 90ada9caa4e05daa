//! The answers that are used again, by the digest of their question.

use std::num::NonZeroUsize;
use std::time::Instant;

use lru::LruCache;
use parking_lot::Mutex;

use super::answer::AuthAnswer;

/// Most answers that are kept. The least recently used answer is evicted.
const ANSWERS_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

pub(super) struct AnswerCache(Mutex<LruCache<[u8; 32], CachedAnswer>>);

struct CachedAnswer {
    answer: AuthAnswer,
    expires: Instant,
}

impl AnswerCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(ANSWERS_MAX)))
    }

    pub(super) fn get(&self, key: &[u8; 32], now: Instant) -> Option<AuthAnswer> {
        let mut answers = self.0.lock();
        let cached = answers.get(key)?;
        if cached.expires > now {
            return Some(cached.answer.clone());
        }
        answers.pop(key);
        None
    }

    pub(super) fn put(&self, key: [u8; 32], answer: AuthAnswer, expires: Instant) {
        self.0.lock().put(key, CachedAnswer { answer, expires });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(n: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    #[test]
    fn answers_expire_and_are_bounded() {
        let (cache, now) = (AnswerCache::new(), Instant::now());
        let later = now + Duration::from_secs(1);
        cache.put(key(0), AuthAnswer::Unknown, later);
        assert!(cache.get(&key(0), now).is_some());
        assert!(cache.get(&key(0), later).is_none());
        for n in 0..10_000 {
            cache.put(key(n), AuthAnswer::Forbidden, later);
        }
        assert!(cache.get(&key(0), now).is_none());
        assert!(cache.get(&key(9_999), now).is_some());
        assert_eq!(cache.0.lock().len(), ANSWERS_MAX.get());
    }
}
