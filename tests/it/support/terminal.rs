//! A pseudo-terminal, for programs that behave otherwise on one.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Opens a terminal; returns its own end, which closes it when dropped, and the end for a program. `None` where the
/// machine has no terminals.
pub fn open_terminal() -> Option<(OwnedFd, File)> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok()?;
    grantpt(&terminal).expect("grantpt");
    unlockpt(&terminal).expect("unlockpt");
    let name = ptsname(&terminal, Vec::new()).expect("ptsname");
    let path = name.to_str().expect("a path");
    // The terminal must not become that of this process.
    let flags = OFlags::NOCTTY.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    let side = options.open(path).ok()?;
    Some((terminal, side))
}

/// Reads what is printed on a terminal until it contains `end`, or until all programs have closed the terminal.
pub fn read_terminal_until(terminal: OwnedFd, end: &str) -> String {
    let mut terminal = File::from(terminal);
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(end) {
        // Fails once no program has the terminal open.
        let Ok(read @ 1..) = terminal.read(&mut buffer) else {
            break;
        };
        text += &String::from_utf8_lossy(&buffer[..read]);
    }
    text.replace('\r', "")
}
