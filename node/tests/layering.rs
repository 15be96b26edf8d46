//! The rules of the house as a test: who may import whom, which room may not see the clock, who may spawn, how long
//! files and functions may be. It reads the sources of the whole workspace as text; rustfmt makes them regular.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Rooms of the node with their level; an import points to a strictly lower one. The table of node/src/lib.rs.
const LEVELS: [(&str, u8); 23] = [
    ("model", 0),
    ("telemetry", 0),
    ("supervise", 0),
    ("clock", 0),
    ("queue", 0),
    ("faults", 0),
    ("control", 1),
    ("feed", 1),
    ("kafka", 1),
    ("events", 1),
    ("relay_session", 1),
    ("raft", 2),
    ("pipeline", 2),
    ("relay", 2),
    ("worker", 3),
    ("coordinator", 3),
    ("api", 3),
    ("config", 4),
    ("node", 5),
    ("tools", 5),
    ("healthcheck", 5),
    ("main", 6),
    ("faulty", 6),
];

/// Words that a file may hold only if its path starts with one of the prefixes; `//` comments do not count.
const ONLY_IN: [(&[&str], &[&str], &str); 5] = [
    (
        &["tokio::spawn(", "task::spawn(", "JoinSet", "TaskTracker"],
        &["node/src/supervise.rs"],
        "tasks are born in supervise.rs",
    ),
    (&["prometheus_client"], &["node/src/telemetry/"], "only telemetry names metrics"),
    (
        &["env::var", "env::vars"],
        &["node/src/config", "node/src/feed/secrets.rs", "node/src/faults/armed.rs"],
        "config reads the environment; feed/secrets resolves ${env:} references; faults are armed by it",
    ),
    (&["rdkafka::"], &["node/src/kafka/", "node/src/tools/"], "librdkafka stays in the kafka room"),
    (&["openraft::"], &["node/src/raft/"], "openraft stays in the raft room"),
];

/// Words that a directory must not hold at all.
const NEVER_IN: [(&str, &[&str], &str); 3] = [
    (
        "node/src/control/",
        &["tokio", "openraft", "rand::", "Instant", "SystemTime"],
        "control is pure: time is an argument",
    ),
    ("dedup/src/", &["tokio", "tracing", "rand::", "Instant", "SystemTime"], "dedup is pure: time is an argument"),
    (
        "node/writer/src/",
        &["tokio", "tracing", "rand::", "rdkafka", "Instant", "SystemTime"],
        "the writer's decisions are pure: time and randomness are arguments, everything else is an output",
    ),
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const BANNED_NAMES: [&str; 6] = ["utils", "util", "helpers", "common", "misc", "manager"];

#[derive(Debug)]
struct Source {
    /// From the workspace root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Lines before the inline tests.
    fn lines(&self) -> Vec<&str> {
        self.text.lines().take_while(|line| *line != "#[cfg(test)]").collect()
    }

    /// The same without comments.
    fn code(&self) -> String {
        self.lines().into_iter().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }

    /// Product code, not tests or benches.
    fn is_product(&self) -> bool {
        self.path.contains("/src/") && !self.path.ends_with("_test.rs")
    }

    /// The room of a file of the node.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("node/src/")?;
        let room = inside.split('/').next()?.trim_end_matches(".rs");
        (room != "lib").then_some(room)
    }

    /// How many `super::` lead from the file's module to the crate.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("node/src/").unwrap_or(&self.path);
        let parts = inside.split('/').count();
        if inside.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

fn workspace() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for package in ["proto", "dedup", "node", "ctl", "chaos-tests"] {
        collect(root, &root.join(package), &mut sources);
    }
    assert!(sources.len() > 30, "the test looks at the wrong place: {} files", sources.len());
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            sources.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

fn level(room: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == room).map(|(_, level)| *level)
}

/// Rooms that a file names, through `crate::`, `twinfeed_node::` or enough `super::`.
fn imports(source: &Source) -> BTreeSet<String> {
    let code = source.code();
    let mut rooms = BTreeSet::new();
    let above = "super::".repeat(source.depth());
    for root in ["crate::", "twinfeed_node::", above.as_str()] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
                first_names(&code[at + root.len()..], &mut rooms);
            }
        }
    }
    rooms.retain(|room| level(room).is_some());
    rooms
}

/// The first name of a path, or of every path of a `{…}` group.
fn first_names(rest: &str, names: &mut BTreeSet<String>) {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else {
        names.insert(name(rest));
        return;
    };
    let (mut depth, mut start) = (0, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            letter if start && !letter.is_whitespace() => {
                names.insert(name(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
}

/// Functions that are too long, as `(name, lines)`. Relies on rustfmt: a function ends with a brace at its own indent.
fn long_functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let Some(at) = body.find("fn ").filter(|at| body[..*at].split(' ').all(is_modifier)) else { continue };
        let indent = &line[..line.len() - body.len()];
        let end = lines[start..].iter().position(|line| line.strip_prefix(indent) == Some("}"));
        let count = end.map_or(1, |end| end + 1);
        if count > FUNCTION_LINES_MAX {
            long.push((body[at + 3..].split(['(', '<']).next().unwrap().to_owned(), count));
        }
    }
    long
}

fn is_modifier(word: &str) -> bool {
    matches!(word, "" | "pub" | "async" | "const" | "pub(super)" | "pub(crate)")
}

/// Everything wrong with the sources, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let Source { path, text } = source;
        if !text.starts_with("//!") {
            found.push(format!("{path}: starts without `//!`: what it owns, who calls it, what it never does"));
        }
        let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
        if BANNED_NAMES.contains(&stem) {
            found.push(format!("{path}: a file is named after what is in it"));
        }
        if source.is_product() {
            check_sizes(source, &mut found);
            check_imports(source, &mut found);
            check_words(source, &mut found);
        }
    }
    found
}

fn check_sizes(source: &Source, found: &mut Vec<String>) {
    let (path, lines) = (&source.path, source.lines());
    if lines.len() > FILE_LINES_MAX {
        found.push(format!("{path}: {} lines before its tests, at most {FILE_LINES_MAX}", lines.len()));
    }
    for (name, count) in long_functions(&lines) {
        found.push(format!("{path}: `{name}` has {count} lines, at most {FUNCTION_LINES_MAX}"));
    }
}

fn check_imports(source: &Source, found: &mut Vec<String>) {
    let Some(room) = source.room() else { return };
    let path = &source.path;
    let Some(own) = level(room) else {
        found.push(format!("{path}: room `{room}` has no level; give it one here and in node/src/lib.rs"));
        return;
    };
    for import in imports(source).iter().filter(|import| *import != room) {
        if level(import).is_some_and(|other| other >= own) {
            found.push(format!("{path}: `{room}` must not import `{import}`: an import points to a lower level"));
        }
    }
}

fn check_words(source: &Source, found: &mut Vec<String>) {
    let (path, code) = (&source.path, source.code());
    let present = |words: &[&'static str]| words.iter().copied().find(|word| code.contains(word));
    if path.starts_with("node/") {
        for (words, homes, why) in ONLY_IN {
            if let Some(word) = present(words).filter(|_| !homes.iter().any(|home| path.starts_with(home))) {
                found.push(format!("{path}: `{word}`: {why}"));
            }
        }
    }
    for (directory, words, why) in NEVER_IN {
        if let Some(word) = present(words).filter(|_| path.starts_with(directory)) {
            found.push(format!("{path}: `{word}`: {why}"));
        }
    }
}

#[test]
fn the_house_is_in_order() {
    let found = violations(&workspace());
    assert!(found.is_empty(), "{} violations of the house rules:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_table_is_the_one_in_the_library() {
    let library = include_str!("../src/lib.rs");
    for (room, level) in LEVELS.iter().filter(|(_, level)| *level < 6) {
        let row = library.lines().find(|line| line.starts_with(&format!("//! | {level} |")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{room}`"))), "lib.rs does not list `{room}` at {level}");
    }
}

#[test]
fn pure_crates_do_not_depend_on_a_runtime() {
    let dedup = include_str!("../../dedup/Cargo.toml");
    let dependencies = dedup.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for name in ["tokio", "tracing", "rand", "twinfeed-node"] {
        assert!(!dependencies.contains(name), "dedup must not depend on {name}");
    }
    let ctl = include_str!("../../ctl/Cargo.toml");
    assert!(!ctl.contains("twinfeed-node") && !ctl.contains("twinfeed-dedup"), "the CLI knows the protocol only");
}

/// A rule that has never caught anything may be broken: each one must see its seeded violation, and nothing else.
#[test]
fn each_rule_catches_its_seeded_violation() {
    let long = format!("//! x\nfn long() {{\n{}}}\n", "    work();\n".repeat(FUNCTION_LINES_MAX));
    let seeded = [
        ("node/src/feed/a.rs", "//! x\nuse crate::kafka::Error;\n", "must not import `kafka`"),
        ("node/src/pipeline/a.rs", "//! x\nuse crate::{\n    model::ids,\n    raft::{self, A},\n};\n", "import `raft`"),
        ("node/src/control/mod.rs", "//! x\nfn f() { super::worker::go() }\n", "import `worker`"),
        ("node/src/feed/a.rs", "//! x\nuse super::super::api;\n", "must not import `api`"),
        ("node/src/attic/a.rs", "//! x\n", "has no level"),
        ("node/src/control/a.rs", "//! x\nuse std::time::Instant;\n", "time is an argument"),
        ("node/src/worker/a.rs", "//! x\nfn f() { tokio::spawn(g()); }\n", "born in supervise"),
        ("node/src/worker/a.rs", "fn f() {}\n", "starts without"),
        ("ctl/src/utils.rs", "//! x\n", "named after"),
        ("ctl/src/a.rs", &format!("//! x\n{}", "const A: u8 = 1;\n".repeat(FILE_LINES_MAX)), "lines before its tests"),
        ("ctl/src/a.rs", &long, "`long` has 72 lines"),
    ];
    for (path, text, expected) in seeded {
        let found = violations(&[Source { path: path.to_owned(), text: text.to_owned() }]);
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {found:?} instead of `{expected}`");
    }
    let innocent = "//! x\n// crate::raft in a comment\nuse crate::{model, kafka::{self, Error}};\nuse super::batch;\n\
                    #[cfg(test)]\nmod tests { use crate::raft; }\n";
    let found = violations(&[Source { path: "node/src/pipeline/a.rs".to_owned(), text: innocent.to_owned() }]);
    assert!(found.is_empty(), "{found:?}");
}
