//! SIGHUP of a closed terminal, of logrotate and of nohup, and signals that the parent ignores.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::token::SECRET;
use crate::support::{TempDir, TestServer, open_terminal, skip, wait_until};

/// Returns a command that runs `command` while it ignores a signal, as `nohup` and shells do.
fn ignoring(signal: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("trap '' {signal}; exec \"$@\"");
    shell.args(["-c", &script, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// Starts a server as the leader of a session with a terminal of its own. The terminal is closed with the descriptor.
fn start_in_terminal(command: &Command, secret: &str) -> Option<(TestServer, OwnedFd)> {
    let (terminal, side) = open_terminal()?;
    let mut session = Command::new("setsid");
    session.args(["--ctty", "--wait"]);
    session.arg(command.get_program()).args(command.get_args());
    session.stdin(Stdio::from(side)).env("SECRET_KEY", secret);
    Some((TestServer::start_command(session), terminal))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn assert_still_serves(server: &mut TestServer) {
    server.client().close();
    assert!(server.is_running());
}

#[test]
fn hangup_reopens_a_log_file_that_was_rotated() {
    for creates_anew in [false, true] {
        let dir = TempDir::new();
        let (path, old) = (dir.path("wscast.log"), dir.path("wscast.log.1"));
        let mut server = TestServer::start(&["--log-file", &dir.arg("wscast.log")]);
        wait_until("the log is written", || {
            read(&path).contains("listening on")
        });
        fs::rename(&path, &old).expect("rename");
        if creates_anew {
            fs::write(&path, "created by logrotate\n").expect("write");
        }
        server.signal(Signal::HUP);
        wait_until("the log is in the new file", || {
            read(&path).contains("log file")
        });
        let length = read(&old).len();
        let id = server.client().id();
        wait_until("the client is in the new file", || {
            read(&path).contains(&id)
        });
        assert_eq!(read(&old).len(), length);
        assert_eq!(read(&path).contains("created by logrotate"), creates_anew);
        assert_still_serves(&mut server);
    }
}

#[test]
fn log_stays_in_the_old_file_if_the_new_one_cannot_be_opened() {
    let dir = TempDir::new();
    let (path, old) = (dir.path("log/wscast.log"), dir.path("old"));
    fs::create_dir(dir.path("log")).expect("mkdir");
    let mut server = TestServer::start(&["--log-file", &dir.arg("log/wscast.log")]);
    fs::rename(dir.path("log"), &old).expect("rename");
    server.signal(Signal::HUP);
    let kept = old.join("wscast.log");
    wait_until("the error is logged", || {
        read(&kept).contains("cannot open the log file")
    });
    assert!(!path.exists());
    assert_still_serves(&mut server);
}

#[test]
fn hangup_reloads_keys_and_reopens_the_log_together() {
    let dir = TempDir::new();
    let path = dir.path("wscast.log");
    fs::write(dir.path("secret"), SECRET).expect("write");
    let key = dir.arg("secret");
    let log_file = dir.arg("wscast.log");
    let mut server = TestServer::start(&["--log-file", &log_file, "--secret-key-file", &key]);
    fs::rename(&path, dir.path("old")).expect("rename");
    server.signal(Signal::HUP);
    wait_until("both are logged", || {
        let log = read(&path);
        log.contains("log file") && log.contains("reloaded: keys")
    });
    assert!(server.is_running());
}

#[test]
fn hangup_without_a_file_to_reload_shuts_down() {
    let mut server = TestServer::start(&[]);
    let mut alice = server.client();
    // A closed terminal may send it twice.
    server.signal(Signal::HUP);
    server.signal(Signal::HUP);
    assert_eq!(alice.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// A unit file may send SIGHUP for every reload.
#[test]
fn server_with_a_secret_survives_a_hangup_from_kill() {
    let mut server = TestServer::with_tokens(&[]);
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let mut server = TestServer::with_tokens(&[]);
    server.signal(Signal::HUP);
    assert_eq!(server.raw().get("/health").status, 200);
    assert!(server.is_running());
}

#[test]
fn terminate_after_a_hangup_still_closes_everyone() {
    let mut server = TestServer::start(&["--drain-delay=1s"]);
    let mut alice = server.client();
    server.signal(Signal::HUP);
    wait_until("the shutdown has started", || {
        server.log().contains("draining")
    });
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn closed_terminal_shuts_down_even_with_a_log_file() {
    let dir = TempDir::new();
    let log_file = dir.arg("wscast.log");
    for (args, secret) in [
        (&[][..], ""),
        (&["--log-file", log_file.as_str()], ""),
        (&[], SECRET),
    ] {
        let command = TestServer::command(args);
        let Some((mut server, terminal)) = start_in_terminal(&command, secret) else {
            return skip("no pseudo-terminal");
        };
        let mut alice = (secret.is_empty()).then(|| server.client());
        drop(terminal);
        if let Some(alice) = &mut alice {
            assert_eq!(alice.close_code(), 1001, "{args:?}");
        }
        assert_eq!(server.wait_for_exit().code(), Some(0), "{args:?}");
    }
}

#[test]
fn hangup_from_kill_in_a_terminal_only_reopens_the_log() {
    let dir = TempDir::new();
    let command = TestServer::command(&["--log-file", &dir.arg("wscast.log")]);
    let Some((mut server, _terminal)) = start_in_terminal(&command, "") else {
        return skip("no pseudo-terminal");
    };
    server.signal(Signal::HUP);
    wait_until("the log is opened again", || {
        server.log().contains("log file again")
    });
    assert_still_serves(&mut server);
}

#[test]
fn ignored_hangup_and_interrupt_stay_ignored() {
    for (name, signal) in [("HUP", Signal::HUP), ("INT", Signal::INT)] {
        let command = ignoring(name, &TestServer::command(&[]));
        let mut server = TestServer::start_command(command);
        let mut alice = server.client();
        server.signal(signal);
        server.signal(signal);
        alice.say("still here");
        alice.expect("still here");
        assert_still_serves(&mut server);
        server.signal(Signal::TERM);
        assert_eq!(alice.close_code(), 1001, "{name}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{name}");
    }
}

#[test]
fn nohup_survives_its_terminal() {
    let Some((mut server, terminal)) =
        start_in_terminal(&ignoring("HUP", &TestServer::command(&[])), "")
    else {
        return skip("no pseudo-terminal");
    };
    let mut alice = server.client();
    drop(terminal);
    alice.say("after the terminal");
    alice.expect("after the terminal");
    assert_still_serves(&mut server);
}

/// `wscast 2>&1 | head` closes the other end of the pipe.
#[test]
fn server_survives_a_broken_pipe() {
    let dir = TempDir::new();
    let pipe = dir.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let command = TestServer::command(&[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 2>\"$0\"", &dir.arg("pipe")]);
    shell.arg(command.get_program()).args(command.get_args());
    // A pipe opens at both ends at once, so this end is opened meanwhile.
    let reader = std::thread::spawn(move || fs::File::open(pipe).expect("the pipe"));
    let mut server = TestServer::start_command(shell);
    drop(reader.join().expect("the other end"));
    let mut alice = server.client();
    alice.say("no one reads the log");
    alice.expect("no one reads the log");
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn server_survives_a_closed_output() {
    let command = TestServer::command(&[]);
    let mut shell = Command::new("sh");
    // The first line of output is read here, and nothing after it.
    shell.args(["-c", "exec \"$@\" 2>&-", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    let mut server = TestServer::start_command(shell);
    let mut alice = server.client();
    alice.say("no one reads the log");
    alice.expect("no one reads the log");
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}
