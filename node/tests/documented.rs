//! Alerts, metrics and events against each other and against docs/operations.md: what an operator is told about must
//! exist, and what exists must be explained.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{collections::BTreeSet, fs, path::Path};

const METRICS: &str = include_str!("metrics.golden");
const RULES: &str = include_str!("../../deploy/alerts/alert-rules.yml");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Words of letters, digits and underscores that start with `twinfeed_`.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '_' | ':'));
    words.filter(|word| word.starts_with("twinfeed_") && !word.contains("::")).collect()
}

fn families() -> BTreeSet<&'static str> {
    METRICS.lines().filter_map(|line| line.split(' ').next()).collect()
}

/// A histogram's samples carry suffixes; every other sample is named like its family.
fn exists(name: &str) -> bool {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    families().contains(name) || METRICS.contains(&format!("{base} histogram\n"))
}

#[test]
fn every_metric_in_an_alert_exists() {
    let used = metric_names(RULES);
    assert!(used.len() > 10, "{used:?}");
    let missing: Vec<_> = used.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "alert rules name metrics that the node does not have: {missing:?}");
}

#[test]
fn every_metric_and_every_alert_is_explained() {
    let unexplained: Vec<_> = families()
        .into_iter()
        .filter(|name| name.starts_with("twinfeed_") && !OPERATIONS.contains(&format!("`{name}`")))
        .collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not explain {unexplained:?}");
    let alerts = RULES.split("alert: ").skip(1).filter_map(|rule| rule.split(',').next());
    let unexplained: Vec<_> = alerts.filter(|alert| !OPERATIONS.contains(&format!("`{alert}`"))).collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not explain {unexplained:?}");
    let invented: Vec<_> = metric_names(OPERATIONS).into_iter().filter(|name| !exists(name)).collect();
    assert!(invented.is_empty(), "docs/operations.md names metrics that do not exist: {invented:?}");
}

#[test]
fn every_event_is_explained() {
    let mut kinds = BTreeSet::new();
    for room in ["/src", "/writer/src"] {
        collect(Path::new(&format!("{}{room}", env!("CARGO_MANIFEST_DIR"))), &mut kinds);
    }
    // What a merge notices is put in words in one table.
    let words = include_str!("../writer/src/words.rs").split("#[cfg(test)]").next().unwrap();
    let dotted = |text: &&str| text.contains('.') && text.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c));
    kinds.extend(words.split('"').filter(dotted).map(str::to_owned));
    assert!(kinds.len() > 20 && kinds.contains("line.behind"), "{kinds:?}");
    let unexplained: Vec<_> = kinds.iter().filter(|kind| !OPERATIONS.contains(&format!("`{kind}`"))).collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not explain the events {unexplained:?}");
}

/// The two paths of docs/architecture.md name files; each must be there, from the root or from node/src.
#[test]
fn every_file_of_the_two_paths_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let architecture = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let files: Vec<&str> =
        architecture.split('`').filter(|word| word.ends_with(".rs") && !word.contains(' ')).collect();
    assert!(files.len() > 12, "{files:?}");
    let exists = |file: &str| root.join(file).is_file() || root.join("node/src").join(file).is_file();
    let missing: Vec<_> = files.iter().filter(|file| !exists(file)).collect();
    assert!(missing.is_empty(), "docs/architecture.md names files that do not exist: {missing:?}");
}

/// Kinds given as a text to a function called `event`.
fn collect(directory: &Path, kinds: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, kinds);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            for rest in text.split("event(").skip(1) {
                if let Some(kind) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                    kinds.insert(kind.to_owned());
                }
            }
        }
    }
}
