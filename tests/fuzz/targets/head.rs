//! Request heads. The result does not depend on the sizes of reads, and an accepted head has only one interpretation.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use wscast::auth::AllowedOrigins;
use wscast::http::{
    BodyLength, HEAD_BYTES_MAX, Head, HeadError, Persistence, error, parse, render,
};

/// Headers that the server reads.
const HEADERS: [&str; 10] = [
    "Host",
    "Connection",
    "Upgrade",
    "Content-Length",
    "Transfer-Encoding",
    "Authorization",
    "Origin",
    "Expect",
    "Sec-WebSocket-Key",
    "Last-Event-ID",
];

fuzz_target!(|input: &[u8]| {
    let whole = parse(input, &mut 0);
    check_byte_by_byte(input, &whole);
    match whole {
        Ok(Some(head)) => check_accepted(input, &head),
        Ok(None) => assert!(input.len() <= HEAD_BYTES_MAX, "waits forever"),
        Err(_) => {}
    }
});

/// Checks that a head that arrives byte by byte has the same result as the whole. A head that is too large may be
/// refused for its size before another error arrives.
fn check_byte_by_byte(input: &[u8], whole: &Result<Option<Head>, HeadError>) {
    let mut scanned = 0;
    let first = (1..=input.len()).find_map(|n| match parse(&input[..n], &mut scanned) {
        Ok(None) => None,
        result => Some((n, result)),
    });
    match (first, whole) {
        (None, Ok(None)) => {}
        (Some((n, Ok(Some(slow)))), Ok(Some(fast))) => {
            assert_eq!((n, slow.len), (fast.len, fast.len));
            assert_eq!(format!("{slow:?}"), format!("{fast:?}"));
        }
        (Some((_, Err(slow))), Err(fast)) => {
            let large = input.len() > HEAD_BYTES_MAX && slow == HeadError::TooLarge;
            assert!(large || slow == *fast, "{slow:?}, at once {fast:?}");
        }
        (first, whole) => panic!("{first:?}, at once {whole:?}"),
    }
}

fn check_accepted(input: &[u8], head: &Head) {
    let bytes = &input[..head.len];
    assert!(head.len <= HEAD_BYTES_MAX);
    assert!(bytes.ends_with(b"\r\n\r\n"));
    let text = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let blank = text.windows(4).position(|four| four == b"\r\n\r\n");
    assert_eq!(
        blank,
        Some(text.len() - 4),
        "the head ends at the first blank line"
    );
    assert!(!bytes.contains(&0));
    let alone = bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    assert!(!alone, "a lone CR or LF");

    // The bytes after the head do not change it.
    let alone = parse(bytes, &mut 0);
    assert_eq!(
        format!("{:?}", Ok::<_, HeadError>(Some(head))),
        format!("{alone:?}")
    );

    assert!(!head.segments.is_empty() && head.minor_version <= 1);
    let hosts = head.headers.lines("host").count();
    assert!(hosts == 1 || (hosts == 0 && head.minor_version == 0));
    for line in HEADERS.iter().flat_map(|name| head.headers.lines(name)) {
        assert!(!line.contains(|c: char| c.is_ascii_control() && c != '\t'));
        assert_eq!(line, line.trim_matches([' ', '\t']));
    }
    let token = head.token();
    // A byte that is not UTF-8 is replaced by a character of three bytes.
    assert!(token.is_none_or(|token| token.len() < 3 * head.len));
    check_body_length(head);
    check_response_lines(head);
}

/// Checks that every server finds the same end of the body.
fn check_body_length(head: &Head) {
    let lengths: Vec<_> = head.headers.lines("Content-Length").collect();
    let codings = head.headers.lines("Transfer-Encoding").count();
    match head.body {
        BodyLength::None => {
            assert_eq!(codings, 0);
            assert!(
                lengths
                    .iter()
                    .all(|digits| digits.bytes().all(|d| d == b'0'))
            );
        }
        BodyLength::Bytes(length) => {
            assert!(length > 0 && codings == 0 && lengths.len() == 1);
            assert!(lengths[0].bytes().all(|digit| digit.is_ascii_digit()));
            assert_eq!(lengths[0].parse(), Ok(length));
        }
        BodyLength::Chunked => assert!(codings > 0 && lengths.is_empty()),
    }
}

/// Checks that no request adds a line to the response.
fn check_response_lines(head: &Head) {
    let pattern = "https://*.example.com".parse().expect("a pattern");
    for allowed in [AllowedOrigins::Any, AllowedOrigins::Listed(vec![pattern])] {
        for after in [
            Persistence::KeepAlive(Duration::from_secs(75)),
            Persistence::Close,
        ] {
            let response = render(error(404, "x", "y"), Some(head), &allowed, after);
            let response = String::from_utf8(response).expect("ASCII");
            let (lines, body) = response.split_once("\r\n\r\n").expect("a head");
            assert!(body.is_empty() || body == r#"{"error":{"code":"x","message":"y"}}"#);
            let mut lines = lines.split("\r\n");
            assert!(lines.next().is_some_and(|line| line.starts_with("HTTP/1.")));
            for line in lines {
                let (name, value) = line.split_once(':').expect("a header");
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
                assert!(!value.contains(|c: char| c.is_control()), "{line:?}");
            }
        }
    }
}
