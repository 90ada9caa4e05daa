//! The HTML of a page: its list of pages, and its text.

use std::fmt::Write as _;

use super::files::{DocPage, PAGES};
use super::markdown;

/// Returns the HTML of a page.
pub(super) fn render(page: &DocPage) -> Vec<u8> {
    let (language, pages, to_page) = match page.language {
        "zh" => ("zh", "文档", "网页"),
        _ => ("en", "Documentation", "Page"),
    };
    let up = page.up();
    let mut out = String::new();
    out += &format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n<title>{} · wscast</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"{up}style.css\">\n</head>\n<body>\n\
         <nav aria-label=\"{pages}\">\n<ul>\n<li><a href=\"{up}../\">← {to_page}</a></li>\n",
        escaped(&page.title())
    );
    for listed in PAGES.iter().filter(|p| p.language == page.language) {
        let current = match std::ptr::eq(listed, page) {
            true => " aria-current=\"page\"",
            false => "",
        };
        let name = if listed.name.is_empty() {
            "./"
        } else {
            listed.name
        };
        // Writing to memory cannot fail.
        writeln!(
            out,
            "<li><a href=\"{name}\"{current}>{}</a></li>",
            escaped(&listed.title())
        )
        .ok();
    }
    let (other, name) = match language {
        "zh" => ("../", "English"),
        _ => ("zh/", "中文"),
    };
    out += &format!(
        "<li><a href=\"{other}\">{name}</a></li>\n</ul>\n</nav>\n<main>\n{}</main>\n</body>\n</html>\n",
        markdown::to_html(page)
    );
    out.into()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
