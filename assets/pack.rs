//! The build script: compresses the files that the program serves with gzip. `src/http/packed.rs` contains them.
//!
//! Almost every client accepts gzip and gets these bytes as they are. The program is also a third of a MiB smaller.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The files and folders that the program serves.
const SOURCES: [&str; 8] = [
    "README.md",
    "assets/client",
    "assets/client.js",
    "assets/docs",
    "assets/index.html",
    "assets/llms.txt",
    "assets/openapi.json",
    "assets/page",
];
/// From 0 to 10. Higher levels take twice the time for half a percent.
const LEVEL: u8 = 8;
/// RFC 1952 §2.3.1: gzip, deflate, no further fields, no time, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

fn main() -> io::Result<()> {
    let folder = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let folder = PathBuf::from(folder).join("packed");
    println!("cargo::rerun-if-changed=assets/pack.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        pack(Path::new(source), &folder)?;
    }
    Ok(())
}

/// Writes a file, or each file below a folder, to its path below `folder`.
fn pack(source: &Path, folder: &Path) -> io::Result<()> {
    if source.is_dir() {
        fs::create_dir_all(folder.join(source))?;
        for entry in fs::read_dir(source)? {
            pack(&entry?.path(), folder)?;
        }
        return Ok(());
    }
    let packed = folder.join(source);
    fs::create_dir_all(packed.parent().unwrap_or(folder))?;
    fs::write(packed, gzip(&fs::read(source)?))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = HEADER.to_vec();
    packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, LEVEL));
    packed.extend(crc32(bytes).to_le_bytes());
    packed.extend((bytes.len() as u32).to_le_bytes());
    packed
}

/// The checksum of RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    let add_bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), add_bit);
    !bytes.iter().fold(u32::MAX, add)
}
