//! Reloading files while the server runs, on SIGHUP.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

type Reload = Box<dyn Fn() -> Result<String, String> + Send>;

/// The functions that reload files. Cheap to clone; all clones share the list.
#[derive(Clone, Default)]
pub struct Reloads(Arc<Mutex<Vec<Reload>>>);

impl Reloads {
    /// Adds a function. It returns what it reloaded, or why it kept the previous content, each in one line.
    pub fn add(&self, reload: impl Fn() -> Result<String, String> + Send + 'static) {
        self.0.lock().push(Box::new(reload));
    }

    /// Calls every function and logs its result. Returns whether there was any.
    pub fn run(&self) -> bool {
        let reloads = self.0.lock();
        for reload in reloads.iter() {
            match reload() {
                Ok(what) => log::info!("reloaded: {what}"),
                Err(why) => log::error!("not reloaded: {why}"),
            }
        }
        !reloads.is_empty()
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloads")
    }
}
