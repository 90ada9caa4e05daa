//! The program as a command that ends by itself.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::wait_for;

/// Exit codes.
pub const USAGE: Option<i32> = Some(2);
pub const FAILURE: Option<i32> = Some(1);

/// A user without rights, other than the one of most tests.
pub const NOBODY: u32 = 65534;

/// Returns the program with no settings but its defaults.
pub fn program() -> Command {
    command_without_settings(env!("CARGO_BIN_EXE_wscast"))
}

/// Returns a command, which may start the program, without the settings in the environment of the tests.
pub fn command_without_settings(name: &str) -> Command {
    let mut command = Command::new(name);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WSCAST_") || name == "PORT" || name == "HOST" {
            command.env_remove(name);
        }
    }
    command
}

/// The exit code and output of a program that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Returns the only line of output, which must be on stderr.
    pub fn only_line(&self) -> &str {
        assert_eq!(self.stdout, "", "stderr: {}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        let [line] = lines[..] else {
            panic!("not one line: {:?}", self.stderr);
        };
        assert!(line.starts_with("wscast: "), "{line}");
        line
    }

    /// Returns a setting's value as `--check-config` prints it.
    pub fn setting(&self, flag: &str) -> Option<&str> {
        let line = |line| str::strip_prefix(line, flag)?.strip_prefix(" = ");
        let rest = self.stdout.lines().find_map(line)?;
        let value = rest.rsplit_once("  # ").map_or(rest, |(value, _)| value);
        Some(value.trim_end())
    }

    /// Returns where a setting's value comes from, as `--check-config` prints it.
    pub fn origin(&self, flag: &str) -> Option<&str> {
        let mut settings = self.settings();
        settings.find_map(|(known, _, origin)| (known == flag).then_some(origin))
    }

    /// Returns the flag, the value and the origin of each setting that `--check-config` prints.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.stdout.lines().filter_map(|line| {
            let (flag, rest) = line.split_once(" = ")?;
            let (value, origin) = rest.rsplit_once("  # ")?;
            Some((flag, value.trim_end(), origin))
        })
    }
}

/// Runs a program to its end. Kills it and panics if it does not end.
pub fn run(command: &mut Command) -> Ended {
    struct Running(Child);
    impl Drop for Running {
        fn drop(&mut self) {
            let _ended = self.0.kill();
            let _reaped = self.0.wait();
        }
    }
    command.stdin(Stdio::null());
    let spawned = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = Running(spawned.expect("cannot start the program"));
    let status = wait_for("the program ends", || running.0.try_wait().expect("wait"));
    // The output fits into a pipe, so nothing had to be read before the end.
    let read = |from: Option<&mut dyn Read>| {
        let mut text = String::new();
        from.expect("a pipe")
            .read_to_string(&mut text)
            .expect("output is text");
        text
    };
    let stdout = read(running.0.stdout.as_mut().map(|out| out as &mut dyn Read));
    let stderr = read(running.0.stderr.as_mut().map(|err| err as &mut dyn Read));
    Ended {
        code: status.code(),
        stdout,
        stderr,
    }
}
