//! `wscast sub` and `wscast pub` as running programs, and servers that have not started yet.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::{program, wait_for, wait_until};

/// A running client. It is killed on drop.
pub struct ClientProgram {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl ClientProgram {
    /// Starts `wscast` with these arguments, as a client of the server at `address`.
    pub fn start(address: impl std::fmt::Display, args: &[&str]) -> Self {
        let mut command = program();
        command
            .env("WSCAST_URL", format!("ws://{address}"))
            .args(args);
        Self::start_command(command)
    }

    pub fn start_command(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("cannot start the client");
        let (lines, stderr) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<String>>)>::default();
        let (to_lines, to_stderr) = (Arc::clone(&lines), Arc::clone(&stderr));
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut err = child.stderr.take().expect("a pipe");
        let out = std::thread::spawn(move || {
            for line in out.lines() {
                to_lines.lock().unwrap().push(line.expect("output is text"));
            }
        });
        let err = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = err.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]);
                to_stderr.lock().unwrap().push_str(&text);
            }
        });
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            lines,
            stderr,
            readers: vec![out, err],
        }
    }

    /// Returns the lines that were printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until exactly these lines were printed.
    pub fn expect_lines(&self, expected: &[&str]) {
        wait_until("the lines are printed", || {
            self.lines().len() >= expected.len()
        });
        assert_eq!(self.lines(), expected, "stderr: {}", self.stderr());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("kill");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("not closed yet");
        stdin.write_all(text.as_bytes()).expect("stdin");
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until the program has ended by itself; returns its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let status = wait_for("the client exits", || self.child.try_wait().expect("wait"));
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        status.code()
    }
}

impl Drop for ClientProgram {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
