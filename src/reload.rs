//! What is read again while the server runs.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

type Reader = Box<dyn Fn() -> Result<String, String> + Send>;

/// Cheap to clone; whoever reads a file at start that may change adds how it is read again.
#[derive(Clone, Default)]
pub struct Reloads(Arc<Mutex<Vec<Reader>>>);

impl Reloads {
    /// `read` says what it read, or why all stays as it was, each in one line.
    pub fn add(&self, read: impl Fn() -> Result<String, String> + Send + 'static) {
        let mut readers = self.0.lock();
        readers.push(Box::new(read));
    }

    /// Reads all again and logs a line for each; says whether there was anything.
    pub fn run(&self) -> bool {
        let readers = self.0.lock();
        for read in readers.iter() {
            match read() {
                Ok(what) => log::info!("reloaded: {what}"),
                Err(why) => log::error!("not reloaded: {why}"),
            }
        }
        !readers.is_empty()
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloads")
    }
}
