//! Files in the program, compressed with gzip by the build script `assets/pack.rs`.

/// A file of the repository, as gzip.
#[derive(Debug)]
pub(super) struct PackedFile(&'static [u8]);

/// Returns the [`PackedFile`] of a path in the repository. The build script lists what it packs.
macro_rules! packed {
    ($($path:expr),+) => {
        $crate::http::packed::PackedFile::new(include_bytes!(concat!(
            env!("OUT_DIR"),
            "/packed/",
            $($path),+
        )))
    };
}
pub(super) use packed;

/// Bytes before and after the deflated data (RFC 1952 §2.3): the build script writes no optional field.
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;

impl PackedFile {
    pub(super) const fn new(gzip: &'static [u8]) -> Self {
        Self(gzip)
    }

    /// Returns the file as gzip.
    pub(super) fn gzip(&self) -> &'static [u8] {
        self.0
    }

    /// Returns the file as it is in the repository.
    pub(super) fn unpack(&self) -> Vec<u8> {
        let deflated = &self.0[HEADER_BYTES..self.0.len() - TRAILER_BYTES];
        // The build script wrote these bytes, and a test unpacks each file.
        miniz_oxide::inflate::decompress_to_vec(deflated).unwrap_or_default()
    }

    /// Returns the text of the file.
    #[cfg(feature = "docs")]
    pub(super) fn text(&self) -> String {
        // All such files are UTF-8, or they would not be Markdown.
        String::from_utf8(self.unpack()).unwrap_or_default()
    }
}
