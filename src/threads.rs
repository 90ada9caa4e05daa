//! The only place that spawns: every thread has a name and a stack size.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Stack of a thread that serves one client. Only touched pages cost memory; what a client sends is
/// parsed without recursion, so depth does not depend on it.
const CLIENT_STACK_BYTES: usize = 128 * 1024;
/// Stack of the few threads that serve everyone.
const SERVICE_STACK_BYTES: usize = 512 * 1024;

/// Starts a thread that serves one client. Its panic is logged by the hook and stays its own.
///
/// Fails when the machine has no more threads; the caller turns that client away.
pub fn spawn_client(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(CLIENT_STACK_BYTES)
        .spawn(run)
        .map(drop)
}

/// Starts a thread that everyone depends on. The server cannot go on without it, so its panic ends
/// the process at once and visibly, instead of leaving a server that accepts and never answers.
pub fn spawn_service(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(SERVICE_STACK_BYTES)
        .spawn(move || {
            let _exit = ExitOnPanic(name);
            run();
        })
}

struct ExitOnPanic(&'static str);

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("the {} thread failed; the server cannot go on", self.0);
            std::process::exit(70);
        }
    }
}
