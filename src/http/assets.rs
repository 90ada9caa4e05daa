//! The test page and its files, compiled in: one binary is all there is to install.

use std::hash::{DefaultHasher, Hash, Hasher};

use tiny_http::{Response, ResponseBox};

use crate::app::App;

use super::answer::{WithHeader, data};
use super::{Request, error};

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const PAGE: Asset = Asset {
    name: "index.html",
    content_type: "text/html; charset=utf-8",
    bytes: include_bytes!("../../assets/index.html"),
};

/// Style sheets and modules by name; the name's ending says which it is.
macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        &[$(Asset {
            name: $name,
            content_type: content_type($name),
            bytes: include_bytes!(concat!("../../assets/", $name)),
        }),+]
    };
}

const ASSETS: &[Asset] = assets![
    "client.js",
    "client-base.js",
    "client-connection.js",
    "client-membership.js",
    "client-publishes.js",
    "client-requests.js",
    "client-rooms.js",
    "client-types.js",
    "page.css",
    "page.js",
    "page-element.js",
    "page-json.js",
    "page-log.js",
    "page-rooms.js",
    "page-words.js",
];

const fn content_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    }
}

/// What the page may do: its own files and a socket, nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `GET /`
pub(super) fn page(request: &Request, _app: &App) -> ResponseBox {
    serve(&PAGE, request)
        .with("Content-Security-Policy", PAGE_POLICY)
        .with("Referrer-Policy", "no-referrer")
}

/// `GET /assets/{name}`
pub(super) fn asset(request: &Request, _app: &App) -> ResponseBox {
    let name = request
        .segments
        .last()
        .map(String::as_str)
        .unwrap_or_default();
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => serve(asset, request),
        None => error(404, "not_found", "no such asset"),
    }
}

/// The names carry no version, so a browser asks each time and is told 304 while nothing changed.
fn serve(asset: &Asset, request: &Request) -> ResponseBox {
    let etag = etag(asset);
    let current = request
        .header_lines("If-None-Match")
        .flat_map(|line| line.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    let response = if current {
        Response::empty(304).boxed()
    } else {
        data(200, asset.content_type, asset.bytes)
    };
    response
        .with("ETag", &etag)
        .with("Cache-Control", "no-cache")
}

fn etag(asset: &Asset) -> String {
    let mut hasher = DefaultHasher::new();
    asset.bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}
