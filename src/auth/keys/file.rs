//! Reads the file of a key.

use std::fs;
use std::io;
use std::path::Path;

use super::error::KeyError;

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Reads the key file of a setting, up to [`KEY_FILE_BYTES_MAX`].
pub(super) fn read_key_file(path: &Path, setting: &'static str) -> Result<Vec<u8>, KeyError> {
    let failed = |why| KeyError::File(setting, path.to_owned(), why);
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut bounded = io::Read::take(file, KEY_FILE_BYTES_MAX);
    io::Read::read_to_end(&mut bounded, &mut bytes).map_err(failed)?;
    Ok(bytes)
}
