//! What a page of Markdown holds for its reader to type: fenced blocks with what their info string says of them, and
//! commands in running text. It reads; it judges nothing.

use std::path::{Path, PathBuf};

/// A page: README.md, or one of docs/.
#[derive(Debug)]
pub(crate) struct Page {
    /// From the root of the repository.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Line of the opening fence, from 1.
    pub(crate) line: usize,
    /// First word of the info string.
    pub(crate) language: String,
    /// The rest of it.
    pub(crate) tag: String,
    pub(crate) lines: Vec<String>,
}

/// A command of a block, and what the page says it prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) shown: Vec<String>,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every page of the project, by name.
pub(crate) fn all() -> std::io::Result<Vec<Page>> {
    let mut names: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    for directory in ["docs", "docs/adr"] {
        for entry in std::fs::read_dir(root().join(directory))? {
            let name = Path::new(directory).join(entry?.file_name());
            names.extend((name.extension().is_some_and(|end| end == "md")).then_some(name));
        }
    }
    names.sort();
    names
        .into_iter()
        .map(|name| Ok(Page::read(&name.display().to_string(), &std::fs::read_to_string(root().join(&name))?)))
        .collect()
}

impl Page {
    /// Takes a page apart.
    pub(crate) fn read(name: &str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (n, line) in text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open) {
                (Some(info), false) => {
                    let (language, tag) = info.split_once(' ').unwrap_or((info, ""));
                    let (language, tag) = (language.to_owned(), tag.trim().to_owned());
                    blocks.push(Block { line: n + 1, language, tag, lines: Vec::new() });
                    open = true;
                }
                (Some(_), true) => open = false,
                (None, true) => blocks.last_mut().expect("an open block").lines.push(line.to_owned()),
                (None, false) => {}
            }
        }
        Self { name: name.to_owned(), text: text.to_owned(), blocks }
    }

    /// Targets of links, with their lines.
    pub(crate) fn links(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (n, line) in self.text.lines().enumerate() {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            found.extend(targets.map(|(target, _)| (n + 1, target)));
        }
        found
    }

    /// The anchors of its headings, as they are made of their words.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
        let headings =
            self.text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        headings.map(|words| words.chars().filter(kept).collect::<String>().to_lowercase().replace(' ', "-")).collect()
    }

    /// `code` in running text, with its line.
    pub(crate) fn inline(&self) -> Vec<(usize, &str)> {
        let mut open = false;
        let mut found = Vec::new();
        for (n, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                open = !open;
            } else if !open {
                found.extend(line.split('`').skip(1).step_by(2).map(|code| (n + 1, code)));
            }
        }
        found
    }
}

impl Block {
    /// Whether its commands are typed into a shell.
    pub(crate) fn is_shell(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "console")
    }

    /// Whether the test runs it.
    pub(crate) fn runs(&self) -> bool {
        self.tag == "run"
    }

    /// The commands: in `console` the lines after `$ `, with the lines under them; in `sh` every line that is none but
    /// comment. A line that ends with a backslash goes on.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut goes_on = false;
        for (n, line) in self.lines.iter().enumerate() {
            let typed = match self.language.as_str() {
                "console" => line.strip_prefix("$ "),
                _ => Some(line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')),
            };
            let last = steps.last_mut();
            match (typed, last) {
                (_, Some(step)) if goes_on => step.command = format!("{} {}", step.command, line.trim()),
                (Some(typed), _) => {
                    steps.push(Step { line: self.line + 1 + n, command: typed.to_owned(), shown: Vec::new() });
                }
                (None, Some(step)) if self.language == "console" => step.shown.push(line.clone()),
                (None, _) => {}
            }
            let Some(step) = steps.last_mut() else { continue };
            let head = step.command.strip_suffix('\\').map(|head| head.trim_end().to_owned());
            goes_on = head.is_some();
            step.command = head.unwrap_or_else(|| step.command.clone());
        }
        steps
    }
}

#[test]
fn links_and_anchors_are_found() {
    let page = Page::read("p.md", "# The `fault` matrix, told\nSee [a](b.md#c) and [d](https://e).\n");
    assert_eq!(page.links(), [(2, "b.md#c"), (2, "https://e")]);
    assert_eq!(page.anchors(), ["the-fault-matrix-told"]);
}

#[test]
fn a_page_is_taken_apart() {
    let text = "Say `wsctl status`.\n```sh run\n# first\nwsctl a \\\n  --b\nwsctl c   # why\n```\n\
                ```console not-run: needs `two` lines\n$ twinfeed x\nout 1\nout 2\n```\n";
    let page = Page::read("p.md", text);
    assert_eq!(page.inline(), [(1, "wsctl status")]);
    assert_eq!(
        page.blocks[0].steps().iter().map(|s| (s.line, s.command.as_str())).collect::<Vec<_>>(),
        [(4, "wsctl a --b"), (6, "wsctl c   # why")]
    );
    assert!(page.blocks[0].runs() && !page.blocks[1].runs());
    assert_eq!(page.blocks[1].steps()[0].shown, ["out 1", "out 2"]);
}
