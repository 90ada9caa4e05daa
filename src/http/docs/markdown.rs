//! Markdown to HTML: headings have the anchors that GitHub gives them, and links lead to what the server serves.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::files::{DocPage, address_of};

/// Returns the HTML of a page's text. HTML in the Markdown is left out; the pages have comments only.
pub(super) fn to_html(page: &DocPage) -> String {
    let markdown = page.markdown.text();
    let parser = Parser::new_ext(&markdown, Options::ENABLE_TABLES);
    let is_markdown = |event: &Event<'_>| {
        !matches!(
            event,
            Event::Html(_)
                | Event::InlineHtml(_)
                | Event::Start(Tag::HtmlBlock)
                | Event::End(TagEnd::HtmlBlock)
        )
    };
    let mut events: Vec<Event<'_>> = parser.filter(is_markdown).collect();
    add_anchors(&mut events);
    let mut is_link = true;
    let linked = events.into_iter().filter_map(|event| match event {
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => {
            let dest_url = resolve(page, &dest_url);
            is_link = dest_url.is_some();
            Some(Event::Start(Tag::Link {
                link_type,
                dest_url: dest_url?.into(),
                title,
                id,
            }))
        }
        // A link to a file that only the repository has stays as its text.
        Event::End(TagEnd::Link) => is_link.then_some(event),
        Event::Start(Tag::Image {
            link_type,
            dest_url,
            title,
            id,
        }) => Some(Event::Start(Tag::Image {
            link_type,
            dest_url: resolve(page, &dest_url).map_or(dest_url, CowStr::from),
            title,
            id,
        })),
        other => Some(other),
    });
    let mut out = String::new();
    html::push_html(&mut out, linked);
    out
}

/// Gives each heading the anchor that links name.
fn add_anchors(events: &mut [Event<'_>]) {
    let mut used: Vec<String> = Vec::new();
    for start in 0..events.len() {
        if !matches!(events[start], Event::Start(Tag::Heading { .. })) {
            continue;
        }
        let text: String = events[start..]
            .iter()
            .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))))
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let anchor = unused(&anchor(&text), &used);
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
            *id = Some(anchor.clone().into());
        }
        used.push(anchor);
    }
}

/// Returns the anchor of a heading: lower-case letters of any script, digits, `_` and `-`.
fn anchor(text: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
    let text = text.to_lowercase();
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

/// Returns the anchor with a number if another heading has it.
fn unused(anchor: &str, used: &[String]) -> String {
    let numbered = (1..).map(|number| format!("{anchor}-{number}"));
    std::iter::once(anchor.to_owned())
        .chain(numbered)
        .find(|anchor| !used.contains(anchor))
        .unwrap_or_default()
}

/// Returns the address that a link of a page leads to; `None` if the server does not serve that file.
fn resolve(page: &DocPage, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with('#') || link.starts_with("mailto:") {
        return Some(link.to_owned());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let source = page.source();
    let mut folders: Vec<&str> = source.split('/').collect();
    folders.pop();
    for part in path.split('/') {
        match part {
            ".." => drop(folders.pop()),
            "." | "" => {}
            part => folders.push(part),
        }
    }
    let address = address_of(&folders.join("/"))?;
    let anchor = if anchor.is_empty() {
        String::new()
    } else {
        format!("#{anchor}")
    };
    Some(format!("{}{address}{anchor}", page.up()))
}

#[cfg(test)]
mod tests {
    use super::super::files::PAGES;
    use super::*;

    #[test]
    fn links_lead_to_what_the_server_serves() {
        let page = |name, language| DocPage::find(name, language).unwrap();
        for (from, link, address) in [
            (
                page("", ""),
                "assets/docs/protocol.md#resume",
                Some("protocol#resume"),
            ),
            (page("", ""), "assets/docs/zh/README.md", Some("zh/")),
            (page("", ""), "assets/docs/page.png", Some("page.png")),
            (page("", ""), "src/lib.rs", None),
            (page("http", ""), "../../README.md#pages", Some("./#pages")),
            (page("http", ""), "protocol.md", Some("protocol")),
            (page("cli", "zh"), "../cli.md", Some("../cli")),
            (page("cli", "zh"), "README.md#文档", Some("../zh/#文档")),
            (page("", "zh"), "../page.png", Some("../page.png")),
            (
                page("javascript", ""),
                "../client/types.js",
                Some("../assets/client/types.js"),
            ),
            (page("http", ""), "#events", Some("#events")),
            (
                page("http", ""),
                "https://a.example/",
                Some("https://a.example/"),
            ),
        ] {
            assert_eq!(resolve(from, link).as_deref(), address, "{link}");
        }
    }

    #[test]
    fn headings_have_the_anchors_of_github() {
        for (text, expected) in [
            ("Publish once", "publish-once"),
            ("Server, token, TLS", "server-token-tls"),
            ("`sub` and `pub`", "sub-and-pub"),
            ("只发布一次", "只发布一次"),
        ] {
            assert_eq!(anchor(text), expected);
        }
        let used = ["a".to_owned(), "a-1".to_owned()];
        assert_eq!(unused("a", &used), "a-2");
    }

    #[test]
    fn no_page_has_html_of_its_own() {
        for page in PAGES {
            let html = to_html(page);
            assert!(html.contains("<h1 id="), "{page:?}");
            assert!(!html.contains("<!--"), "{page:?}");
        }
    }
}
