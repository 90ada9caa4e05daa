//! The `wscast` program: parses the settings, starts logging, runs the command, returns an exit code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use wscast::cli::{self, Command};
use wscast::config::Config;
use wscast::reload::Reloads;
use wscast::server::Server;
use wscast::shutdown::Shutdown;
use wscast::{logging, threads};

/// The command line or the environment is wrong.
const EXIT_USAGE: u8 = 2;
/// The server cannot start.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(config)) => match serve(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(line) => fail(&line, EXIT_FAILURE),
        },
        Ok(Command::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(line) => fail(&line, EXIT_USAGE),
    }
}

fn serve(config: Config) -> Result<(), String> {
    logging::start(&config).map_err(|error| {
        let path = config.log_file.clone().unwrap_or_default();
        format!("--log-file {path:?}: {error}; name a file in a writable directory")
    })?;
    let (shutdown, reloads) = (Shutdown::default(), Reloads::default());
    handle_signals(shutdown.clone(), reloads.clone())
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let sockets: String = config.listen.iter().fold(String::new(), |lines, path| {
        lines + &format!("socket  unix:{}\n", path.display())
    });
    let s = if config.tls.is_some() { "s" } else { "" };
    let server = Server::bind(config, shutdown, &reloads).map_err(|error| error.to_string())?;
    let address = local_address(server.address());
    print(&format!(
        "page    http{s}://{address}/\nsocket  ws{s}://{address}/ws\n{sockets}"
    ));
    server.run().map_err(|error| error.to_string())
}

/// Starts the thread that handles signals. The first SIGTERM or SIGINT requests shutdown; the second ends the
/// process at once. SIGHUP reloads files. If there are none to reload, it means that the terminal was closed, and
/// requests shutdown too.
fn handle_signals(shutdown: Shutdown, reloads: Reloads) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    threads::spawn_service("signals", move || {
        for signal in signals.forever() {
            if signal == SIGHUP && reloads.run() {
                continue;
            }
            if shutdown.is_requested() {
                std::process::exit(128 + signal);
            }
            shutdown.request();
        }
    })?;
    Ok(())
}

/// Returns an address that a person on this machine can connect to, in place of "any address".
fn local_address(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Prints to stdout. A closed stdout does not end the server.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}

fn fail(line: &str, code: u8) -> ExitCode {
    use std::io::Write as _;
    // A closed stderr must not change the exit code.
    writeln!(std::io::stderr(), "wscast: {line}").ok();
    ExitCode::from(code)
}
