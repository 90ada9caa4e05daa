//! The `wscast` program: parses the settings, starts logging, runs the command, returns an exit code.

mod settings_reload;
mod signals;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use log::Level;

use wscast::cli::{self, Command, Failure, Invocation, Notice, ServerSettings, StartText};
use wscast::reload::Reloads;
use wscast::server::{self, Server};
use wscast::shutdown::Shutdown;
use wscast::{logging, os_error};

use settings_reload::SettingsReload;
use signals::SignalHandler;

/// The command line or the environment is wrong.
const EXIT_USAGE: u8 = 2;
/// The server cannot start.
const EXIT_FAILURE: u8 = 1;

/// Replaces the allocator of musl; `Cargo.toml` says why.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let Invocation {
        command,
        notices,
        sources,
    } = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(line) => return fail(&line, EXIT_USAGE),
    };
    match command {
        Command::Serve(settings) => match serve(*settings, &notices) {
            Ok(()) => ExitCode::SUCCESS,
            Err(line) => fail(&sources.rename_flag(line), EXIT_FAILURE),
        },
        Command::CheckConfig { config, settings } => match server::check(&config) {
            Ok(()) => {
                print_warnings(&notices);
                print_result(&settings)
            }
            Err(error) => fail(&sources.rename_flag(error.to_string()), EXIT_FAILURE),
        },
        Command::Print(text) => {
            print_warnings(&notices);
            print_result(&text)
        }
        Command::Client(command) => match command.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure { line, code }) => fail(&line, code),
        },
        Command::Backup(backup) => finish(backup.run().map_err(|line| sources.rename_flag(line))),
        Command::Healthcheck(check) => finish(check.run()),
    }
}

/// Prints the result of a command, one line.
fn finish(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(line) => print_result(&line),
        Err(line) => fail(&line, EXIT_FAILURE),
    }
}

fn serve(settings: ServerSettings, notices: &[Notice]) -> Result<(), String> {
    let ServerSettings {
        config,
        effective,
        file,
    } = settings;
    let log_file = logging::start(&config).map_err(|error| {
        let path = config.log_file.clone().unwrap_or_default();
        format!("--log-file {path:?}: {}", os_error::explain(&path, &error))
    })?;
    for notice in notices {
        log::log!(notice.level, "{}", notice.text);
    }
    let (shutdown, reloads) = (Shutdown::default(), Reloads::default());
    let handler = SignalHandler {
        shutdown: shutdown.clone(),
        reloads: reloads.clone(),
        log_file,
        reloads_files: file.is_some() || config.tls.is_some() || config.auth.has_keys(),
    };
    handler
        .start()
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let text = StartText::new(&config);
    let database = config
        .database
        .as_ref()
        .map(|settings| settings.path.clone());
    let server = Server::bind(config, shutdown, &reloads).map_err(|error| error.to_string())?;
    if let Some(file) = file {
        let reload = SettingsReload::new(std::env::args_os().collect(), file, effective, database);
        let apply = server.reload();
        reloads.add(move || reload.run(&apply));
    }
    reloads.complete();
    // A program that starts the server reads these lines, so it gets no others. A closed stdout does not end the server.
    print(&if std::io::stdout().is_terminal() {
        text.for_terminal(server.address())
    } else {
        text.addresses(server.address())
    })
    .ok();
    server.run().map_err(|error| error.to_string())
}

/// Prints to stdout.
fn print(text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints what a command was run for. A reader that ends early, such as `head`, is no failure; a full disk is one.
fn print_result(text: &str) -> ExitCode {
    match print(text) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("cannot write the output: {why}"), EXIT_FAILURE)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints the warnings of a command that does not log.
fn print_warnings(notices: &[Notice]) {
    use std::io::Write as _;
    let warnings = notices.iter().filter(|notice| notice.level <= Level::Warn);
    for warning in warnings {
        // A closed stderr must not change the exit code.
        writeln!(std::io::stderr(), "wscast: {}", warning.text).ok();
    }
}

fn fail(line: &str, code: u8) -> ExitCode {
    use std::io::Write as _;
    // A closed stderr must not change the exit code.
    writeln!(std::io::stderr(), "wscast: {line}").ok();
    ExitCode::from(code)
}
