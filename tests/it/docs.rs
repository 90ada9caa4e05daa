//! The documentation that the program serves: pages, links, Markdown, the description of the routes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Response, TestServer};

/// Returns the values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    let parts = html.split(&start).skip(1);
    parts
        .map(|part| part.split('"').next().expect("a value"))
        .collect()
}

/// Returns the path that a relative link on the page `from` leads to.
fn target(from: &str, link: &str) -> String {
    let mut folders: Vec<&str> = from.split('/').collect();
    folders.pop();
    for part in link.split('/') {
        match part {
            ".." => assert!(folders.len() > 1 && folders.pop().is_some(), "{link}"),
            "." => {}
            part => folders.push(part),
        }
    }
    let mut path = folders.join("/");
    if link.ends_with('.') {
        path += "/";
    }
    path
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .expect("UTF-8")
        .into_owned()
}

fn html(response: &Response) -> String {
    let content_type = response.header("Content-Type");
    assert_eq!(content_type, Some("text/html; charset=utf-8"));
    String::from_utf8(response.body.clone()).expect("UTF-8")
}

// Follows every link from /docs/ on. Each is relative, leads to something that is served, and its anchor exists.
#[test]
fn every_link_of_the_pages_works() {
    let server = TestServer::start(&["--max-http-rate=0"]);
    let mut pages: BTreeMap<String, String> = BTreeMap::new();
    let mut wanted: BTreeSet<String> = ["/docs/".to_owned()].into();
    let mut seen = BTreeSet::new();
    let mut anchors = Vec::new();
    while let Some(path) = wanted.pop_first() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let response = server.raw().get(&path);
        assert_eq!(response.status, 200, "{path}");
        let is_page = ![".css", ".png", ".svg"]
            .iter()
            .any(|end| path.ends_with(end));
        if !path.starts_with("/docs/") || !is_page {
            continue;
        }
        let policy = response
            .header("Content-Security-Policy")
            .expect("a policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        let text = html(&response);
        assert!(!text.contains("<script") && !text.contains(" style="));
        for link in [attributes(&text, "href"), attributes(&text, "src")].concat() {
            if link.contains("://") || link.starts_with("data:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = match file {
                "" => path.clone(),
                file => target(&path, file),
            };
            assert!(!file.starts_with('/'), "{path}: {link}");
            if !anchor.is_empty() {
                anchors.push((path.clone(), to.clone(), decoded(anchor)));
            }
            wanted.insert(to);
        }
        pages.insert(path, text);
    }
    for (from, to, anchor) in anchors {
        let ids = attributes(&pages[&to], "id");
        assert!(ids.contains(&anchor.as_str()), "{from}: {to}#{anchor}");
    }
    assert!(pages.len() > 20, "{:?}", pages.keys());
    for path in ["/", "/docs/style.css", "/docs/page.png", "/docs/zh/"] {
        assert!(seen.contains(path), "nothing leads to {path}");
    }
}

#[test]
fn pages_are_html_for_people_and_markdown_for_programs() {
    let server = TestServer::with_tokens(&[]);
    let page = server.raw().get("/docs/protocol");
    let text = html(&page);
    assert!(
        text.contains("<html lang=\"en\">") && text.contains("<title>Protocol · wscast</title>")
    );
    assert!(text.contains("<h2 id=\"publish-once\">") && text.contains("<table>"));
    let chinese = html(&server.raw().get("/docs/zh/protocol"));
    assert!(chinese.contains("<html lang=\"zh\">"), "{chinese}");
    for path in [
        "/docs/protocol.md",
        "/docs/zh/protocol.md",
        "/docs/README.md",
    ] {
        let markdown = server.raw().get(path);
        assert_eq!(
            markdown.header("Content-Type"),
            Some("text/markdown; charset=utf-8")
        );
        assert!(markdown.body.starts_with(b"# "), "{path}");
    }
    let etag = page.header("ETag").expect("an ETag");
    let headers = [format!("If-None-Match: {etag}")];
    let again = server
        .raw()
        .request("GET", "/docs/protocol", &[&headers[0]]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(server.raw().request("HEAD", "/docs/", &[]).status, 200);
}

#[test]
fn addresses_without_their_slash_lead_to_the_right_one() {
    let server = TestServer::start(&[]);
    for (path, location) in [
        ("/docs", "docs/"),
        ("/docs/zh", "zh/"),
        ("/docs/protocol/", "../protocol"),
    ] {
        let response = server.raw().get(path);
        assert_eq!(response.status, 308, "{path}");
        assert_eq!(response.header("Location"), Some(location));
    }
    for path in [
        "/docs/nothing",
        "/docs/nothing.md",
        "/docs/de/protocol",
        "/docs/%2e%2e",
    ] {
        let response = server.raw().get(path);
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.json()["error"]["code"], "not_found");
    }
}

#[test]
fn description_of_the_routes_and_the_overview_name_the_version() {
    let server = TestServer::with_tokens(&[]);
    let openapi: Value = server.raw().get("/openapi.json").json();
    assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));
    let overview = server.raw().get("/llms.txt");
    assert_eq!(
        overview.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    let text = String::from_utf8(overview.body).expect("UTF-8");
    assert!(text.starts_with(&format!("# wscast {}\n", env!("CARGO_PKG_VERSION"))));
    let links = text.split("](").skip(1);
    let mut count = 0;
    for link in links.filter_map(|rest| rest.split(')').next()) {
        assert_eq!(server.raw().get(&format!("/{link}")).status, 200, "{link}");
        count += 1;
    }
    assert!(count > 10, "{text}");
}
