//! The keys of the file in errors.

use crate::protocol::quote;

/// Least similarity, from 0 to 1, of an unknown key to the one that is suggested instead.
const SIMILARITY_MIN: f64 = 0.7;
/// Longest key that is compared with others, and that an error repeats whole, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// Returns the name that is most similar to a key, if it is similar at all.
pub(super) fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The time of a comparison grows with the length of the key.
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let key = key.to_ascii_lowercase();
    let key = key.strip_prefix("wscast-").unwrap_or(&key);
    let nearest = names
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.map(|(_, name)| name)
}

/// Returns a key on one short line, in quotes if TOML wants them.
pub(super) fn shown(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if key.len() <= KEY_BYTES_MAX && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        quote(key)
    }
}
