//! The files of the documentation.

use crate::http::packed::{PackedFile, packed};

/// A page of the documentation.
#[derive(Debug)]
pub(super) struct DocPage {
    /// The file's name without `.md`; empty for the first page, which is the README.
    pub(super) name: &'static str,
    /// `zh`, or empty for English.
    pub(super) language: &'static str,
    pub(super) markdown: PackedFile,
}

/// Declares a page below `assets/docs/`.
macro_rules! page {
    ($name:literal) => {
        DocPage {
            name: $name,
            language: "",
            markdown: packed!("assets/docs/", $name, ".md"),
        }
    };
    (zh $name:literal) => {
        DocPage {
            name: $name,
            language: "zh",
            markdown: packed!("assets/docs/zh/", $name, ".md"),
        }
    };
}

/// The pages of both languages, in the order in which they are listed beside each page.
pub(super) const PAGES: &[DocPage] = &[
    DocPage {
        name: "",
        language: "",
        markdown: packed!("README.md"),
    },
    page!("page"),
    page!("protocol"),
    page!("http"),
    page!("javascript"),
    page!("settings"),
    page!("cli"),
    page!("security"),
    page!("webhooks"),
    page!("deploy"),
    page!("storage"),
    page!("cluster"),
    page!("performance"),
    page!("architecture"),
    page!("sizing"),
    page!("chat"),
    page!("ai"),
    page!("sensors"),
    page!("migrate"),
    page!("faq"),
    page!("troubleshooting"),
    page!("changelog"),
    DocPage {
        name: "",
        language: "zh",
        markdown: packed!("assets/docs/zh/README.md"),
    },
    page!(zh "page"),
    page!(zh "protocol"),
    page!(zh "cli"),
    page!(zh "security"),
    page!(zh "webhooks"),
    page!(zh "deploy"),
    page!(zh "storage"),
    page!(zh "performance"),
    page!(zh "sizing"),
    page!(zh "chat"),
    page!(zh "ai"),
    page!(zh "sensors"),
    page!(zh "migrate"),
    page!(zh "faq"),
    page!(zh "troubleshooting"),
];

/// The other files: name, content type, content.
pub(super) const FILES: &[(&str, &str, PackedFile)] = &[
    (
        "style.css",
        "text/css; charset=utf-8",
        packed!("assets/docs/style.css"),
    ),
    ("page.png", "image/png", packed!("assets/docs/page.png")),
    (
        "performance.svg",
        "image/svg+xml",
        packed!("assets/docs/performance.svg"),
    ),
];

/// Folder of the pages in the repository.
const FOLDER: &str = "assets/docs/";

impl DocPage {
    /// Returns the page at `/docs/{language}/{name}`; the first page also has the name of its file.
    pub(super) fn find(name: &str, language: &str) -> Option<&'static Self> {
        let name = if name == "README" { "" } else { name };
        let mut pages = PAGES.iter();
        pages.find(|page| page.name == name && page.language == language)
    }

    /// Returns the page's path in the repository.
    pub(super) fn source(&self) -> String {
        let folder = match (self.name, self.language) {
            ("", "") => "",
            (_, "") => FOLDER,
            (_, language) => &format!("{FOLDER}{language}/"),
        };
        let name = if self.name.is_empty() {
            "README"
        } else {
            self.name
        };
        format!("{folder}{name}.md")
    }

    /// Returns the first heading.
    pub(super) fn title(&self) -> String {
        let markdown = self.markdown.text();
        let mut lines = markdown.lines();
        let heading = lines.find_map(|line| line.strip_prefix("# "));
        heading.unwrap_or("wscast").to_owned()
    }

    /// Returns the relative address of the folder `/docs/`.
    pub(super) fn up(&self) -> &'static str {
        if self.language.is_empty() { "" } else { "../" }
    }
}

/// Returns the address of a file of the repository, relative to `/docs/`; `None` if the server does not serve it.
pub(super) fn address_of(path: &str) -> Option<String> {
    if let Some(page) = PAGES.iter().find(|page| page.source() == path) {
        let folder = if page.language.is_empty() { "" } else { "zh/" };
        // An empty address would be that of the page itself.
        let address = format!("{folder}{}", page.name);
        return Some(if address.is_empty() {
            "./".to_owned()
        } else {
            address
        });
    }
    if let Some(file) = path.strip_prefix("assets/client/") {
        return Some(format!("../assets/client/{file}"));
    }
    let name = path.strip_prefix(FOLDER)?;
    let is_file = FILES.iter().any(|(file, ..)| *file == name);
    is_file.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_page_and_picture_is_served() {
        for (folder, language) in [("assets/docs", ""), ("assets/docs/zh", "zh")] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in std::fs::read_dir(folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let is_served = match name.strip_suffix(".md") {
                    Some(name) => DocPage::find(name, language).is_some(),
                    None => name == "zh" || FILES.iter().any(|(file, ..)| *file == name),
                };
                assert!(is_served, "{name} is not in the tables of this file");
            }
        }
    }
}
