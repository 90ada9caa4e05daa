//! The bodies of requests that publish: JSON, lines of JSON, or text.

use tiny_http::ResponseBox;

use crate::app::App;
use crate::auth::is_own_page;
use crate::http::request::{Admitted, Request};
use crate::http::response::{bad_request, error};
use crate::protocol::{ErrorCode, Refusal};

/// The kind of a body, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// `application/json`, `text/json` or `application/…+json`.
    Json,
    /// `application/x-ndjson` or another name of JSON lines.
    JsonLines,
    /// `text/plain`.
    Text,
    /// `application/x-www-form-urlencoded`, which `curl -d` sends for any data.
    Form,
    Other,
}

impl BodyKind {
    /// Returns the kind of a request's body. The type may have any parameters.
    pub(super) fn of(request: &Request) -> Self {
        let content_type = request.head.headers.get("Content-Type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = media_type.to_ascii_lowercase();
        match media_type.split_once('/') {
            Some(("application" | "text", "json")) => Self::Json,
            Some((
                "application",
                "x-ndjson" | "ndjson" | "jsonl" | "x-jsonl" | "jsonlines" | "x-jsonlines"
                | "json-lines",
            )) => Self::JsonLines,
            Some(("text", "plain")) => Self::Text,
            Some(("application", "x-www-form-urlencoded")) => Self::Form,
            Some(("application", subtype)) => {
                let name = subtype.strip_suffix("+json").unwrap_or_default();
                match name.is_empty() || name.contains([' ', ',', '/']) {
                    true => Self::Other,
                    false => Self::Json,
                }
            }
            _ => Self::Other,
        }
    }

    /// Returns whether a page of any origin can send this kind without a CORS preflight (the Fetch standard's
    /// CORS-safelisted request headers).
    fn is_simple(self) -> bool {
        matches!(self, Self::Text | Self::Form)
    }
}

/// Checks that a page of another origin may send a body of this kind. A browser sends a preflight before any other
/// kind.
pub(super) fn check_origin(
    kind: BodyKind,
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<(), ResponseBox> {
    if !kind.is_simple() {
        return Ok(());
    }
    let headers = &admitted.request.head.headers;
    let host = headers.get("Host").unwrap_or_default();
    let origins = headers.lines("Origin");
    let origins = origins.filter(|origin| !is_own_page(origin, host));
    // A browser that keeps the origin secret still says that it is another one (Fetch Metadata).
    let is_foreign = !headers.contains("Origin")
        && matches!(
            headers.get("Sec-Fetch-Site"),
            Some("cross-site" | "same-site")
        )
        && !app.config.get().allow_origin.allows(Some("null"));
    if !is_foreign && app.admission.allows_origins(origins) {
        return Ok(());
    }
    let message = "--allow-origin does not list the page's origin";
    Err(error(403, "origin_not_allowed", message))
}

/// Returns the body as text. It may begin with a byte order mark, which `ClientMessage::parse` removes itself.
pub(super) fn text<'a>(admitted: &'a Admitted<'_>) -> Result<&'a str, ResponseBox> {
    let headers = &admitted.request.head.headers;
    if headers
        .lines("Content-Encoding")
        .any(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        return Err(unsupported("send the body without Content-Encoding"));
    }
    if !headers.contains("Content-Length") && !headers.contains("Transfer-Encoding") {
        let message = "send a body with Content-Length, or in chunks";
        return Err(error(411, "length_required", message));
    }
    std::str::from_utf8(&admitted.body).map_err(|_| match BodyKind::of(admitted.request) {
        BodyKind::Text | BodyKind::Form => error(
            400,
            "bad_request",
            "the body is not UTF-8; send text in UTF-8",
        ),
        _ => bad_request(&Refusal::new(
            ErrorCode::InvalidJson,
            "the body is not UTF-8; send JSON in UTF-8",
        )),
    })
}

/// Returns a text without the byte order mark at its start.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// 415 for a body that the route does not take.
pub(super) fn unsupported(message: &str) -> ResponseBox {
    error(415, "unsupported_media_type", message)
}
