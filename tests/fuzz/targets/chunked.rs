//! Bodies in chunks. The result does not depend on the sizes of reads, and every reader finds the same end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wscast::http::{ChunkedBody, ChunkedError};

const BODY_BYTES_MAX: usize = 1000;

/// The body, and the number of bytes that it took; `None` if it is not complete.
type Decoded = Result<Option<(Vec<u8>, usize)>, ChunkedError>;

fuzz_target!(|input: &[u8]| {
    let whole = decode(input, usize::MAX);
    for read in [1, 2, 7] {
        assert_eq!(decode(input, read), whole, "in pieces of {read}");
    }
    if let Ok(Some((body, taken))) = whole {
        assert!(body.len() <= BODY_BYTES_MAX && taken <= input.len());
        // The bytes after the body do not change it, and no byte of it is missing.
        assert_eq!(decode(&input[..taken], 3), Ok(Some((body.clone(), taken))));
        assert_eq!(decode(&input[..taken - 1], 3), Ok(None));
        assert_eq!(by_lines(&input[..taken]), body);
    }
});

/// Decodes in pieces of `read` bytes.
fn decode(input: &[u8], read: usize) -> Decoded {
    let mut chunked = ChunkedBody::new(BODY_BYTES_MAX);
    let mut taken = 0;
    for piece in input.chunks(read.min(input.len().max(1))) {
        taken += chunked.decode(piece)?;
        if let Some(body) = chunked.take() {
            return Ok(Some((body, taken)));
        }
    }
    assert_eq!(taken, input.len(), "bytes before the end are left over");
    Ok(None)
}

/// Decodes as a naive reader does, which looks for the ends of lines.
fn by_lines(mut input: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = take_line(&mut input);
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size.trim_ascii_end()).expect("digits");
        assert!(size.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        let (chunk, rest) = input.split_at(size);
        body.extend_from_slice(chunk);
        input = rest;
        assert!(take_line(&mut input).is_empty());
    }
    while !take_line(&mut input).is_empty() {}
    assert!(input.is_empty(), "bytes after the end");
    body
}

fn take_line<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let end = input
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line");
    let (line, rest) = input.split_at(end + 1);
    *input = rest;
    let line = line.strip_suffix(b"\r\n").expect("CR before LF");
    assert!(!line.contains(&b'\r'), "a lone CR");
    line
}
