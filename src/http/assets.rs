//! The test page and its files, compiled into the binary.

use std::hash::{DefaultHasher, Hash, Hasher};

use tiny_http::{Response, ResponseBox};

use crate::app::App;

use super::packed::{PackedFile, packed};
use super::request::Request;
use super::response::{WithHeader, data, error};

struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: Content,
}

/// The bytes of an asset.
enum Content {
    Packed(PackedFile),
    /// Too short to become smaller.
    Plain(&'static str),
}

/// Declares a file below `assets/`.
macro_rules! asset {
    ($name:literal) => {
        Asset {
            name: $name,
            content_type: content_type($name),
            content: Content::Packed(packed!("assets/", $name)),
        }
    };
}

/// Declares a module at its former address, for programs that still import it from there.
macro_rules! moved {
    ($name:literal, $($to:literal),+) => {
        Asset {
            name: $name,
            content_type: content_type($name),
            content: Content::Plain(concat!($("export * from './", $to, "';\n"),+)),
        }
    };
}

const PAGE: Asset = asset!("index.html");

const ASSETS: &[Asset] = &[
    asset!("client.js"),
    asset!("client/address.js"),
    asset!("client/browser.js"),
    asset!("client/client.js"),
    asset!("client/connection.js"),
    asset!("client/error.js"),
    asset!("client/json.js"),
    asset!("client/listeners.js"),
    asset!("client/membership.js"),
    asset!("client/own.js"),
    asset!("client/publishes.js"),
    asset!("client/requests.js"),
    asset!("client/rooms.js"),
    asset!("client/text.js"),
    asset!("client/timer.js"),
    asset!("client/types.js"),
    moved!("client-base.js", "client/error.js", "client/text.js"),
    moved!("client-connection.js", "client/connection.js"),
    moved!("client-membership.js", "client/membership.js"),
    moved!("client-publishes.js", "client/publishes.js"),
    moved!("client-requests.js", "client/requests.js"),
    moved!("client-rooms.js", "client/rooms.js"),
    moved!("client-types.js", "client/types.js"),
    asset!("page/base/copy.js"),
    asset!("page/base/element.js"),
    asset!("page/base/format.js"),
    asset!("page/base/json.js"),
    asset!("page/base/settings.js"),
    asset!("page/base/theme.js"),
    asset!("page/compose/composer.js"),
    asset!("page/compose/memory.js"),
    asset!("page/compose/outgoing.js"),
    asset!("page/connection/frames.js"),
    asset!("page/connection/health.js"),
    asset!("page/connection/status.js"),
    asset!("page/connection/token.js"),
    asset!("page/log/heights.js"),
    asset!("page/log/log.js"),
    asset!("page/log/row.js"),
    asset!("page/log/virtual.js"),
    asset!("page/page.css"),
    asset!("page/page.js"),
    asset!("page/panels.css"),
    asset!("page/panels/charts.js"),
    asset!("page/panels/code.js"),
    asset!("page/panels/frames.js"),
    asset!("page/panels/operator.js"),
    asset!("page/panels/panels.js"),
    asset!("page/panels/token.js"),
    asset!("page/rooms/history.js"),
    asset!("page/rooms/list.js"),
    asset!("page/rooms/members.js"),
    asset!("page/rooms/rows.js"),
    asset!("page/rooms/tab.js"),
    asset!("page/rooms/unread.js"),
    asset!("page/rooms/view.js"),
    asset!("page/words/chinese.js"),
    asset!("page/words/describe.js"),
    asset!("page/words/english.js"),
    asset!("page/words/words.js"),
];

const fn content_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b'h', b't', b'm', b'l'] => "text/html; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    }
}

/// Lets the page load its own files and open a WebSocket, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `GET /`
pub(super) fn page(request: &Request, _app: &App) -> ResponseBox {
    serve(&PAGE, request)
        .with("Content-Security-Policy", PAGE_POLICY)
        .with("Referrer-Policy", "no-referrer")
}

/// `GET /assets/{name}`, with up to two folders before the name
pub(super) fn asset(request: &Request, _app: &App) -> ResponseBox {
    let path = match request.head.segments.get(1..).unwrap_or_default() {
        // A slash at the end of a path changes nothing.
        [path @ .., last] if last.is_empty() => path,
        path => path,
    };
    match ASSETS
        .iter()
        .find(|asset| asset.name.split('/').eq(path.iter().map(String::as_str)))
    {
        Some(asset) => serve(asset, request),
        None => error(404, "not_found", "no such asset"),
    }
}

/// The names carry no version, so browsers revalidate each time and get 304 while nothing changed.
fn serve(asset: &Asset, request: &Request) -> ResponseBox {
    match &asset.content {
        Content::Packed(file) => serve_packed(asset.content_type, file, request),
        Content::Plain(text) => serve_bytes(asset.content_type, *text, request),
    }
}

/// Serves a file as gzip if the client accepts that (RFC 9110 §12.5.3).
pub(super) fn serve_packed(
    content_type: &str,
    file: &PackedFile,
    request: &Request,
) -> ResponseBox {
    let response = if request.head.accepts_gzip() {
        let response = serve_bytes(content_type, file.gzip(), request);
        match response.status_code().0 {
            200 => response.with("Content-Encoding", "gzip"),
            _ => response,
        }
    } else {
        serve_bytes(content_type, file.unpack(), request)
    };
    response.with("Vary", "Accept-Encoding")
}

/// Serves bytes that only a new version of the program changes. Other bytes of one file, such as its gzip, have another
/// ETag.
pub(super) fn serve_bytes(
    content_type: &str,
    bytes: impl Into<Vec<u8>> + AsRef<[u8]>,
    request: &Request,
) -> ResponseBox {
    let etag = etag(bytes.as_ref());
    let is_current = request
        .head
        .headers
        .list("If-None-Match")
        .any(|tag| tag.trim_start_matches("W/") == etag || tag == "*");
    let response = if is_current {
        Response::empty(304).boxed()
    } else {
        data(200, content_type, bytes)
    };
    response
        .with("ETag", &etag)
        .with("Cache-Control", "no-cache")
}

fn etag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_unpacks_to_the_file_of_the_repository() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        for asset in ASSETS.iter().chain([&PAGE]) {
            if let Content::Packed(file) = &asset.content {
                let expected = std::fs::read(folder.join(asset.name)).unwrap();
                assert_eq!(file.unpack(), expected, "{}", asset.name);
                assert!(file.gzip().len() < expected.len(), "{}", asset.name);
            }
        }
    }
}
