//! Randomness that can be repeated.

use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The environment variable that repeats a randomized scenario with a seed printed earlier.
const VARIABLE: &str = "WSCAST_TEST_SEED";

/// The seed of one scenario. Prints itself if the scenario fails.
pub struct Seed(u64);

impl Seed {
    /// Takes the seed from `WSCAST_TEST_SEED`, or a random one.
    pub fn new() -> Self {
        match std::env::var(VARIABLE) {
            Ok(seed) => Self(seed.parse().expect("WSCAST_TEST_SEED must be a number")),
            Err(_) => Self(rand::random()),
        }
    }

    /// The same seed in every run.
    pub fn fixed(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the scenario's generator.
    pub fn rng(&self) -> StdRng {
        self.rng_of(0)
    }

    /// Returns a generator of its own for thread number `thread`, so that scheduling does not change its numbers.
    pub fn rng_of(&self, thread: u64) -> StdRng {
        StdRng::seed_from_u64(self.0.wrapping_add(thread))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat with {VARIABLE}={}", self.0);
        }
    }
}

pub fn random_bytes(rng: &mut StdRng, count: usize) -> Vec<u8> {
    (0..count).map(|_| rng.random()).collect()
}
