//! Tests that cannot run here, because a program or a right is missing.
//!
//! Rust's test harness has no "skipped": it reports such a test as passed. Each one therefore also writes a line
//! `name: reason` to the file that `WSCAST_SKIPPED` names, which `make test` counts in its summary.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Records that the running test is skipped. The test must return after this call.
#[track_caller]
pub fn skip(reason: &str) {
    let test = test_name();
    eprintln!("SKIPPED {test}: {reason}");
    let Some(path) = std::env::var_os("WSCAST_SKIPPED") else {
        return;
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let line = format!("{test}: {reason}\n");
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("cannot write to the file that WSCAST_SKIPPED names");
}

/// The name of the running test. The harness names threads after tests, except with `--test-threads=1`.
#[track_caller]
fn test_name() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => Location::caller().to_string(),
    }
}
