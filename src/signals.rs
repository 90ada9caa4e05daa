//! Signals: SIGTERM and SIGINT shut down, SIGHUP opens the log file again and reloads files.

use std::fs;
use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use wscast::logging::LogFile;
use wscast::reload::Reloads;
use wscast::shutdown::Shutdown;
use wscast::threads;

/// The parts of the server that signals act on.
pub(crate) struct SignalHandler {
    pub(crate) shutdown: Shutdown,
    pub(crate) reloads: Reloads,
    pub(crate) log_file: Option<LogFile>,
    /// True if an operator may send SIGHUP to reload: with a settings file or a certificate, and if tokens are checked,
    /// even if no key is in a file.
    pub(crate) reloads_files: bool,
}

impl SignalHandler {
    /// Starts the thread that handles signals.
    ///
    /// A SIGHUP or SIGINT that the parent ignores stays ignored. `nohup` ignores SIGHUP, and a shell ignores SIGINT for
    /// its background jobs.
    pub(crate) fn start(self) -> io::Result<()> {
        let ignored = ignored_signals();
        let may_be_ignored = [SIGHUP, SIGINT];
        let handled = [SIGTERM, SIGINT, SIGHUP].into_iter().filter(|signal| {
            !(may_be_ignored.contains(signal) && ignored & (1 << (signal - 1)) != 0)
        });
        let mut signals = SignalsInfo::<WithOrigin>::new(handled)?;
        threads::spawn_service("signals", move || {
            let mut may_exit = false;
            for origin in signals.forever() {
                may_exit = self.handle(&origin, may_exit);
            }
        })?;
        Ok(())
    }

    /// Handles one signal. The first SIGTERM or SIGINT requests shutdown; the second ends the process at once.
    /// Returns whether the next one is the second.
    fn handle(&self, origin: &Origin, may_exit: bool) -> bool {
        if origin.signal == SIGHUP {
            // Never counts as the first or second: a closed terminal may send it twice, and a SIGTERM after it.
            if !self.reload(origin) {
                self.shutdown.request();
            }
            return may_exit;
        }
        if may_exit {
            std::process::exit(128 + origin.signal);
        }
        self.shutdown.request();
        true
    }

    /// Opens the log file again and reloads files. Returns whether the server keeps running.
    ///
    /// Without files to reload, the server ends if the terminal was closed. Without a log file and keys as well, every
    /// SIGHUP ends the server.
    fn reload(&self, origin: &Origin) -> bool {
        if let Some(file) = &self.log_file {
            match file.reopen() {
                Ok(()) => log::info!("opened the log file again"),
                Err(error) => log::error!(
                    "cannot open the log file again, so the log stays in the old one: {error}"
                ),
            }
        }
        let is_expected = self.log_file.is_some() || self.reloads_files;
        self.reloads.run() || (is_expected && !is_from_closed_terminal(origin))
    }
}

/// Returns the signals that the process ignores, as bits; none if the system does not report them.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// Returns whether a SIGHUP means that the terminal was closed. In that case the kernel or the terminal's shell
/// sends it. A SIGHUP from another program, such as logrotate, has another meaning.
fn is_from_closed_terminal(origin: &Origin) -> bool {
    match (&origin.cause, &origin.process) {
        (Cause::Kernel, _) => true,
        (_, Some(process)) => Some(process.pid) == session_leader() && !has_terminal(),
        _ => false,
    }
}

/// Returns the process id of the leader of this session, which is the shell that started the server.
fn session_leader() -> Option<i32> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in parentheses: state, parent, process group, session (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(3)?.parse().ok()
}

/// Returns whether the process has a terminal. Linux takes it from all processes when it is closed.
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}
