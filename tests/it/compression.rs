//! Files that the program contains, as gzip for clients that accept it.

use crate::support::{Response, TestServer};

const GZIP: &str = "Accept-Encoding: deflate, gzip;q=0.8";
const FILES: [&str; 7] = [
    "/",
    "/assets/page/page.css",
    "/assets/page/words/chinese.js",
    "/assets/client/client.js",
    "/docs/style.css",
    "/docs/page.png",
    "/docs/zh/protocol.md",
];

/// Returns the file in a gzip without optional fields (RFC 1952 §2.3).
fn unpacked(gzip: &[u8]) -> Vec<u8> {
    assert_eq!(gzip[..4], [0x1f, 0x8b, 8, 0], "the header of a gzip");
    let deflated = &gzip[10..gzip.len() - 8];
    let bytes = miniz_oxide::inflate::decompress_to_vec(deflated).expect("deflated data");
    let length = u32::from_le_bytes(gzip[gzip.len() - 4..].try_into().expect("four bytes"));
    assert_eq!(bytes.len(), length as usize, "the length in the trailer");
    bytes
}

fn is_gzip(response: &Response) -> bool {
    response.header("Content-Encoding") == Some("gzip")
}

// The same files with and without gzip: equal content, one type, an ETag each.
#[test]
fn files_are_gzip_for_clients_that_accept_it() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for path in FILES {
        let plain = browser.get(path);
        let gzip = browser.request("GET", path, &[GZIP]);
        assert_eq!((plain.status, gzip.status), (200, 200), "{path}");
        assert!(!is_gzip(&plain) && is_gzip(&gzip), "{path}");
        assert_eq!(unpacked(&gzip.body), plain.body, "{path}");
        assert_ne!(plain.header("ETag"), gzip.header("ETag"), "{path}");
        assert_eq!(plain.header("Content-Type"), gzip.header("Content-Type"));
        for response in [&plain, &gzip] {
            assert_eq!(response.header("Vary"), Some("Accept-Encoding"), "{path}");
        }
        let head = browser.request("HEAD", path, &[GZIP]);
        assert_eq!(head.header("Content-Length"), gzip.header("Content-Length"));
        assert!(is_gzip(&head), "{path}");
    }
}

#[test]
fn each_encoding_is_revalidated_by_its_own_tag() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for path in FILES {
        let etag = |response: Response| response.header("ETag").expect("an ETag").to_owned();
        let plain = etag(browser.get(path));
        let gzip = etag(browser.request("GET", path, &[GZIP]));
        for (accepts, tag, status) in [
            (GZIP, &gzip, 304),
            (GZIP, &plain, 200),
            ("Accept-Encoding: identity", &plain, 304),
            ("Accept-Encoding: identity", &gzip, 200),
        ] {
            let condition = format!("If-None-Match: {tag}");
            let response = browser.request("GET", path, &[accepts, &condition]);
            assert_eq!(response.status, status, "{path} {accepts}");
            assert_eq!(response.header("Vary"), Some("Accept-Encoding"), "{path}");
        }
    }
}

// Figures and errors change, and are small. An event stream that a proxy compresses would be held back.
#[test]
fn other_responses_are_never_compressed() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for path in ["/health", "/stats", "/rooms", "/assets/nothing", "/nothing"] {
        let response = browser.request("GET", path, &[GZIP]);
        assert_eq!(response.header("Content-Encoding"), None, "{path}");
        assert!(response.json().is_object(), "{path}");
    }
}
