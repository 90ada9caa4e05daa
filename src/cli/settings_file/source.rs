//! Reads the file, within bounds, and finds the line of a position in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::os_error;

/// Largest settings file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of a settings file.
#[derive(Debug)]
pub(super) struct SettingsText {
    path: PathBuf,
    text: String,
}

impl SettingsText {
    /// Reads a regular file of at most [`FILE_BYTES_MAX`]. The error is one line.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = read(path).map_err(|why| format!("--config {path:?}: {why}"))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self {
                path: path.to_owned(),
                text,
            }),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
                let why = "is not text; write the file in UTF-8";
                Err(format!("{}:{line}: {why}", shown(path)))
            }
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the path and the line of a span, as `wscast.toml:3`.
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("{}:{line}", shown(&self.path))
    }
}

/// Returns a path as one line.
fn shown(path: &Path) -> String {
    path.to_string_lossy().replace(char::is_control, "?")
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let explain = |why: io::Error| match why.kind() {
        io::ErrorKind::NotFound => format!("{why}; write the path of a TOML file"),
        io::ErrorKind::PermissionDenied => {
            format!("{why}; let the user that runs the server read it")
        }
        _ => os_error::explain(path, &why),
    };
    let file = open(path).map_err(explain)?;
    let metadata = file.metadata().map_err(explain)?;
    if !metadata.is_file() {
        return Err("is no regular file; write the path of a TOML file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(explain)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let max = FILE_BYTES_MAX >> 20;
        return Err(format!("is larger than {max} MiB; write a smaller file"));
    }
    Ok(bytes)
}

/// Opens the file. Without `NONBLOCK` a named pipe would block the start until somebody writes into it.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}
