//! The only place that spawns: every thread has a name and a stack size.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long a client's thread waits for a reply of another thread, such as the broadcaster or the broker.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Stack of a thread that serves one client. Only touched pages cost memory; what a client sends is
/// parsed without recursion, so depth does not depend on it.
const CLIENT_STACK_BYTES: usize = 128 * 1024;
/// Stack of the few threads that serve everyone.
const SERVICE_STACK_BYTES: usize = 512 * 1024;

/// Stack of a thread that does something rare for a client. glibc keeps the stacks of ended threads,
/// touched pages included, for new threads of up to a quarter of the size; clients are not to get these.
const ASIDE_STACK_BYTES: usize = 8 * CLIENT_STACK_BYTES;
/// How far such a thread stands back for those that serve everyone: a client that reads a long past as
/// fast as it can would otherwise take as much of a core as all live traffic.
const ASIDE_NICENESS: i32 = 10;

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

/// Runs something rare and deep for a client on a stack of its own, and waits for it.
///
/// Pages of a stack that were touched once stay with their thread. This one gives them back, so that a
/// client that only listens afterwards costs no more for having come back from a gap.
pub fn run_aside<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let mut run = Some(run);
    let ran = std::thread::scope(|scope| {
        let aside = || {
            // On Linux this is the thread's alone. Where it cannot be, it is only less polite.
            let _lower = rustix::process::nice(ASIDE_NICENESS);
            run.take().map(|run| run())
        };
        let thread = Builder::new()
            .name("aside".to_owned())
            .stack_size(ASIDE_STACK_BYTES)
            .spawn_scoped(scope, aside);
        thread.ok().map(|thread| thread.join())
    });
    match (ran, run) {
        (Some(Ok(Some(result))), _) => result,
        (Some(Err(panic)), _) => std::panic::resume_unwind(panic),
        // The machine has no more threads: then the deep stack is the price.
        (_, Some(run)) => run(),
        (_, None) => unreachable!("what did not run is still there"),
    }
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
