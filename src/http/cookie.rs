//! The token in a cookie (`--token-cookie`), and the requests whose cookie is believed.
//!
//! A browser adds its cookies to requests that pages of any site make. A cookie therefore counts only if the browser says
//! that a page of a listed origin, or of this server, made the request.

use tiny_http::Method;

use crate::app::App;
use crate::auth::{AllowedOrigins, is_own_page};

use super::request::Request;
use super::wire::Head;

/// The origin of sandboxed pages of any site. A list may allow it, but not with a cookie.
pub(super) const OPAQUE_ORIGIN: &str = "null";

/// Returns the client's token: the one that it has sent by itself, else that of its cookie. Never log the token.
pub(crate) fn token<'a>(request: &'a Request, app: &'a App) -> Option<&'a str> {
    let head = &request.head;
    head.token().or_else(|| {
        let config = app.config.get();
        let token = value(head, config.auth.token_cookie.as_deref()?)?;
        if is_believed(head, &config.allow_origin) {
            return Some(token);
        }
        app.admission.ignore_cookie(head.headers.get("Origin"));
        None
    })
}

/// Returns the value of a cookie (RFC 6265 §5.4). If several have different values, none counts: a page of a
/// neighbouring domain can add one, and the browser does not say which is whose.
fn value<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    let pairs = head
        .headers
        .lines("Cookie")
        .flat_map(|line| line.split(';'));
    let mut values = pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(found, _)| found.trim() == name)
        .map(|(_, value)| without_quotes(value.trim()));
    let value = values.next().filter(|value| !value.is_empty())?;
    values.all(|other| other == value).then_some(value)
}

fn without_quotes(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// Returns whether a page of another site cannot have made the request, or may have.
fn is_believed(head: &Head, allowed: &AllowedOrigins) -> bool {
    let headers = &head.headers;
    let host = headers.get("Host").unwrap_or_default();
    let is_listed = |origin: &str| origin != OPAQUE_ORIGIN && allowed.lists(origin);
    let mut origins = headers.lines("Origin").peekable();
    if origins.peek().is_some() {
        return origins.all(|origin| is_listed(origin) || is_own_page(origin, host));
    }
    // A browser names the origin of every WebSocket, of everything that is not a GET, and of every GET whose response
    // another site's page could read. The remaining case is a GET of this server's own page or of the address bar, and
    // on old browsers one whose response that page cannot read.
    let is_own = |site: &str| matches!(site, "same-origin" | "none");
    matches!(head.method, Method::Get | Method::Head) && headers.lines("Sec-Fetch-Site").all(is_own)
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;

    fn head(method: &str, lines: &str) -> Head {
        let text = format!("{method} / HTTP/1.1\r\nHost: box.example\r\n{lines}\r\n");
        wire::parse(text.as_bytes(), &mut 0).unwrap().unwrap()
    }

    #[test]
    fn value_is_that_of_the_name_if_it_is_the_only_one() {
        for (lines, expected) in [
            ("", None),
            ("Cookie: sid=a.b.c\r\n", Some("a.b.c")),
            ("Cookie: x=1; sid=a ; y=2\r\n", Some("a")),
            ("Cookie: x=1\r\nCookie: sid=a\r\n", Some("a")),
            ("Cookie: sid=\"a\"\r\n", Some("a")),
            ("Cookie: sid=a=b\r\n", Some("a=b")),
            ("Cookie: sid=a; sid=a\r\n", Some("a")),
            ("Cookie: sid=a; sid=b\r\n", None),
            ("Cookie: sid=\r\n", None),
            ("Cookie: Sid=a; xsid=b; sid\r\n", None),
            ("Cookie: x=\"1; sid=a\"\r\n", Some("a\"")),
        ] {
            assert_eq!(value(&head("GET", lines), "sid"), expected, "{lines}");
        }
    }

    #[test]
    fn cookie_is_believed_from_listed_origins_and_the_server_s_own_pages() {
        let list: AllowedOrigins = "https://a.example,null".parse().unwrap();
        let any: AllowedOrigins = "*".parse().unwrap();
        for (method, lines, by_list, by_any) in [
            ("GET", "Origin: https://a.example\r\n", true, false),
            ("POST", "Origin: https://a.example\r\n", true, false),
            ("GET", "Origin: https://evil.example\r\n", false, false),
            ("GET", "Origin: https://box.example\r\n", false, false),
            ("GET", "Origin: null\r\n", false, false),
            ("GET", "Origin: \r\n", false, false),
            (
                "GET",
                "Origin: https://a.example\r\nOrigin: https://evil.example\r\n",
                false,
                false,
            ),
            ("GET", "", true, true),
            ("HEAD", "", true, true),
            ("POST", "", false, false),
            ("DELETE", "", false, false),
            ("GET", "Sec-Fetch-Site: same-origin\r\n", true, true),
            ("GET", "Sec-Fetch-Site: none\r\n", true, true),
            ("GET", "Sec-Fetch-Site: same-site\r\n", false, false),
            ("GET", "Sec-Fetch-Site: cross-site\r\n", false, false),
            ("POST", "Sec-Fetch-Site: same-origin\r\n", false, false),
        ] {
            let head = head(method, lines);
            let believed = (is_believed(&head, &list), is_believed(&head, &any));
            assert_eq!(believed, (by_list, by_any), "{method} {lines}");
        }
    }
}
