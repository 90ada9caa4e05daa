//! The documentation at `/docs/`, compiled into the binary, so that a machine without internet has it.
//!
//! | path | response |
//! |---|---|
//! | `/docs/`, `/docs/protocol`, `/docs/zh/`, `/docs/zh/protocol` | pages as HTML |
//! | `/docs/README.md`, `/docs/protocol.md`, `/docs/zh/protocol.md` | the same as Markdown, for programs |
//! | `/docs/style.css`, `/docs/page.png` | files of the pages |
//!
//! Every link is relative, so that the pages also work below a path that a proxy removes.

mod files;
mod html;
mod markdown;

use tiny_http::{Response, ResponseBox};

use self::files::{DocPage, FILES};
use super::assets::{serve_bytes, serve_packed};
use super::packed::{PackedFile, packed};
use super::request::Request;
use super::response::{WithHeader, error};
use crate::app::App;

/// Lets a page load its style and its pictures, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const OPENAPI: PackedFile = packed!("assets/openapi.json");
const LLMS: PackedFile = packed!("assets/llms.txt");
/// Stands for the program's version in these files.
const VERSION: &str = "{version}";

/// `GET /openapi.json`
pub(super) fn openapi(request: &Request, _app: &App) -> ResponseBox {
    serve_bytes("application/json", with_version(&OPENAPI), request)
}

/// `GET /llms.txt`
pub(super) fn llms(request: &Request, _app: &App) -> ResponseBox {
    serve_bytes("text/plain; charset=utf-8", with_version(&LLMS), request)
}

fn with_version(file: &PackedFile) -> Vec<u8> {
    let text = file.text();
    text.replace(VERSION, env!("CARGO_PKG_VERSION")).into()
}

/// `GET /docs`, `GET /docs/{name}` and `GET /docs/{language}/{name}`
pub(super) fn docs(request: &Request, _app: &App) -> ResponseBox {
    let path: Vec<&str> = request.head.segments.iter().map(String::as_str).collect();
    match path[1..] {
        // Relative links start from a folder, whose address ends with a slash.
        [] => moved("docs/"),
        ["zh"] => moved("zh/"),
        ["zh", name] => page(name, "zh", request),
        [name] => page(name, "", request),
        [name, ""] => moved(&format!("../{name}")),
        _ => missing(),
    }
}

fn page(name: &str, language: &str, request: &Request) -> ResponseBox {
    if language.is_empty()
        && let Some((_, content_type, content)) = FILES.iter().find(|(file, ..)| *file == name)
    {
        return serve_packed(content_type, content, request);
    }
    let source = name.strip_suffix(".md");
    let Some(page) = DocPage::find(source.unwrap_or(name), language) else {
        return missing();
    };
    if source.is_some() {
        let content_type = "text/markdown; charset=utf-8";
        return serve_packed(content_type, &page.markdown, request);
    }
    serve_bytes("text/html; charset=utf-8", html::render(page), request)
        .with("Content-Security-Policy", PAGE_POLICY)
        .with("Referrer-Policy", "no-referrer")
}

fn moved(location: &str) -> ResponseBox {
    Response::empty(308)
        .boxed()
        .with("Location", location)
        .with("Cache-Control", "no-cache")
}

fn missing() -> ResponseBox {
    error(404, "not_found", "no such page; /docs/ lists them")
}
