//! Errors of the system about a path of a setting, with what an operator can do about them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// Longest path of a Unix socket, in bytes (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Returns the error with the directory and the user that it is about, as the end of a line.
pub fn explain(path: &Path, error: &io::Error) -> String {
    let directory = directory(path);
    let reason = match error.kind() {
        ErrorKind::NotFound if !directory.exists() => Some(format!(
            "the directory {directory:?} does not exist; create it, and let {} write in it",
            user()
        )),
        ErrorKind::PermissionDenied => Some(not_permitted(path, &directory)),
        ErrorKind::ReadOnlyFilesystem => Some(format!(
            "the directory {directory:?} is on a read-only file system; choose another, or mount a volume that {} \
             may write",
            user()
        )),
        ErrorKind::NotADirectory => Some("a part of the path is a file; name a directory".into()),
        ErrorKind::StorageFull => Some(format!("free some space for {directory:?}")),
        // `sun_path` has 108 bytes, including the terminating NUL.
        ErrorKind::InvalidInput if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX => Some(format!(
            "a socket's path may have at most {SOCKET_PATH_BYTES_MAX} bytes"
        )),
        ErrorKind::IsADirectory => Some("name a file in a writable directory".into()),
        _ => None,
    };
    match reason {
        Some(reason) => format!("{error}; {reason}"),
        None => error.to_string(),
    }
}

/// Returns why no file can be created beside `path`, unless one can.
pub(crate) fn explain_directory(path: &Path) -> Option<String> {
    let directory = directory(path);
    let may_write = access(&directory, Access::WRITE_OK | Access::EXEC_OK);
    may_write
        .err()
        .map(|errno| explain(&directory.join("file"), &errno.into()))
}

fn not_permitted(path: &Path, directory: &Path) -> String {
    let user = user();
    if path.exists() && access(path, Access::WRITE_OK).is_err() {
        return format!("{user} may not write this file; let that user write it, or name another");
    }
    // The first directory on the path that the user may not enter. Nothing below it can be checked.
    let mut ancestors: Vec<&Path> = directory.ancestors().collect();
    ancestors.reverse();
    let closed = ancestors.into_iter().find(|ancestor| {
        !ancestor.as_os_str().is_empty() && access(*ancestor, Access::EXEC_OK).is_err()
    });
    match closed {
        Some(closed) => format!(
            "{user} may not enter the directory {closed:?}; let that user enter it, or choose another"
        ),
        None => format!(
            "{user} may not write in the directory {directory:?}; give it to that user, or choose another"
        ),
    }
}

/// Returns the directory that holds the path.
fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns the user of this process, by name and number if it has a name.
fn user() -> String {
    let uid = geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then_some(name)
    });
    match name {
        Some(name) => format!("the user {name} (uid {uid})"),
        None => format!("the user with uid {uid}"),
    }
}
