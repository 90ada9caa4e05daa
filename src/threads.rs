//! Starting threads. No other module does, so every thread has a name and a chosen stack size.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

/// How long a client's thread waits for a reply of another thread, such as the broadcaster or the broker.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Stack of a thread that serves one client. Only used pages cost memory. Input is parsed without recursion, so
/// no client can make the stack deep.
const CLIENT_STACK_BYTES: usize = 128 * 1024;
/// Stack of the few threads that serve all clients.
const SERVICE_STACK_BYTES: usize = 512 * 1024;

/// Stack of a thread for a rare and deep task.
///
/// glibc reuses the stack of an ended thread, with its used pages, for a new thread that needs at least a quarter of
/// it. This size is large enough that client threads never get such a stack.
const DEEP_STACK_BYTES: usize = 8 * CLIENT_STACK_BYTES;
/// Niceness of such a thread. Otherwise a client that reads a long history would take as much of a core as all
/// live traffic.
const DEEP_TASK_NICENESS: i32 = 10;

/// Starts a thread that serves one client. Its panic is logged and ends only this thread.
///
/// Fails when the machine has no more threads; the caller then refuses the client.
pub fn spawn_client(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(CLIENT_STACK_BYTES)
        .spawn(run)
        .map(drop)
}

/// Runs the rest of a client's task on a new thread. If the machine has no more threads, this one does.
pub fn move_to_new_thread(name: &str, run: impl FnOnce() + Send + 'static) {
    let task = Arc::new(Mutex::new(Some(run)));
    let offered = Arc::clone(&task);
    let spawned = spawn_client(name, move || {
        let run = offered.lock().take();
        drop(offered);
        run.into_iter().for_each(|run| run());
    });
    if spawned.is_err() {
        let run = task.lock().take();
        run.into_iter().for_each(|run| run());
    }
}

/// Runs a rare task of a client on a deep stack and waits for its result.
///
/// A thread keeps the stack pages that it has used. The task's thread ends and returns them, so a client that
/// has resumed costs no more memory than one that has not.
pub fn run_on_deep_stack<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let mut run = Some(run);
    let ran = std::thread::scope(|scope| {
        let task = || {
            // On Linux this changes only this thread. A failure changes nothing, which is acceptable.
            rustix::process::nice(DEEP_TASK_NICENESS).ok();
            run.take().map(|run| run())
        };
        let thread = Builder::new()
            .name("deep-task".to_owned())
            .stack_size(DEEP_STACK_BYTES)
            .spawn_scoped(scope, task);
        thread.ok().map(|thread| thread.join())
    });
    match (ran, run) {
        (Some(Ok(Some(result))), _) => result,
        (Some(Err(panic)), _) => std::panic::resume_unwind(panic),
        // The machine has no more threads, so the caller's stack has to do.
        (_, Some(run)) => run(),
        (_, None) => unreachable!("a task that did not run is still there"),
    }
}

/// Starts a thread that all clients depend on. Its panic ends the process at once, because a server without it
/// would accept clients and never reply.
pub fn spawn_service(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(SERVICE_STACK_BYTES)
        .spawn(move || exit_on_panic(name, run))
}

/// Runs a task that all clients depend on, or whose panic would leave shared state in the middle of a change. Its panic
/// ends the process at once.
pub fn exit_on_panic<R>(name: &'static str, run: impl FnOnce() -> R) -> R {
    let _exit = ExitOnPanic(name);
    run()
}

struct ExitOnPanic(&'static str);

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("the {} thread panicked; the server stops", self.0);
            std::process::exit(70);
        }
    }
}
