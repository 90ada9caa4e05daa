//! Reloading files while the server runs, on SIGHUP.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

type Reload = Box<dyn Fn() -> Result<String, String> + Send>;

/// The functions that reload files. Cheap to clone; all clones share the list.
#[derive(Clone, Default)]
pub struct Reloads(Arc<Mutex<ReloadState>>);

#[derive(Default)]
struct ReloadState {
    reloads: Vec<Reload>,
    /// True once the server has started and no function is added any more.
    is_complete: bool,
    /// True if a reload was requested before.
    is_requested: bool,
}

impl Reloads {
    /// Adds a function. It returns what it reloaded, or why it kept the previous content, each in one line.
    pub fn add(&self, reload: impl Fn() -> Result<String, String> + Send + 'static) {
        self.0.lock().reloads.push(Box::new(reload));
    }

    /// Marks the end of the start: every function was added. Reloads now if that was requested meanwhile.
    pub fn complete(&self) {
        let mut state = self.0.lock();
        state.is_complete = true;
        if state.is_requested {
            state.run();
        }
    }

    /// Calls every function and logs its result, once the server has started. Returns whether there is any function so
    /// far.
    pub fn run(&self) -> bool {
        let mut state = self.0.lock();
        if state.is_complete {
            state.run();
        } else {
            state.is_requested = true;
        }
        !state.reloads.is_empty()
    }
}

impl ReloadState {
    fn run(&self) {
        for reload in &self.reloads {
            match reload() {
                Ok(what) => log::info!("reloaded: {what}"),
                Err(why) => log::error!("not reloaded: {why}"),
            }
        }
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloads")
    }
}
