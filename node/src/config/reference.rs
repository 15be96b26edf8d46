//! Texts made from the key tables: the generated part of docs/configuration.md (keys of a node, keys of a connector),
//! and the effective values with their origin. A test compares the file with `document`, so the two cannot drift.

use std::fmt::Write;

use super::{
    keys::{KEYS, Key, Shape},
    source::{Raw, Values},
};
use crate::model::{
    connector::Config,
    redaction::redacted_config,
    spec_keys::{CONNECTOR_KEYS, FRAMEWORK_KEYS, KeyDefinition, Kind, TWINFEED_KEYS},
};

/// The documentation of all keys, in Markdown.
pub fn document() -> String {
    let mut text = "\n## Keys of a node\n".to_owned();
    let mut section = "";
    for key in &KEYS {
        let table = key.path.split_once('.').map_or("", |(table, _)| table);
        if table != section {
            section = table;
            write!(text, "\n### `[{table}]`\n").expect("a String takes all");
        }
        let default = match key.default {
            "" => String::new(),
            value => format!(" Default: `{value}`."),
        };
        let (path, variable, doc) = (key.path, key.variable(), key.doc);
        let shape = describe(key.shape);
        write!(text, "\n**`{path}`** · {shape} · `{variable}`\n\n{doc}{default}\n").expect("a String takes all");
    }
    text.push_str("\n## Keys of a connector\n");
    let tables = [
        ("Of the Conduktor connector", CONNECTOR_KEYS),
        ("Added by Twinfeed", TWINFEED_KEYS),
        ("Of the Kafka Connect framework", FRAMEWORK_KEYS),
    ];
    for (title, keys) in tables {
        write!(text, "\n### {title}\n\n| key | type | default | |\n|---|---|---|---|\n").expect("a String takes all");
        text.extend(keys.iter().map(row));
    }
    text.push('\n');
    text
}

/// The variables that set a key of a node.
pub fn variables() -> impl Iterator<Item = String> {
    KEYS.iter().map(Key::variable)
}

/// The keys of a node by their dotted paths.
pub fn paths() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.path)
}

fn row(key: &KeyDefinition) -> String {
    let bounds = match key.kind {
        Kind::Int { min, max } | Kind::Long { min, max } => format!(", {min} to {max}"),
        Kind::Choice(words) => format!(", one of {}", words.join(", ")),
        Kind::Text | Kind::Password | Kind::Flag => String::new(),
    };
    let default = match (key.required, key.default) {
        (true, _) => "required".to_owned(),
        (false, Some(value)) => format!("`{value}`"),
        (false, None) => String::new(),
    };
    let (name, kind, doc) = (key.name, key.kind.name(), key.doc.replace('|', "\\|"));
    format!("| `{name}` | {kind}{bounds} | {default} | {doc} |\n")
}

/// The effective values as a configuration file, each with where it was set. Secrets are hidden.
pub(super) fn effective(values: &Values) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in &KEYS {
        let (table, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if table != section {
            section = table;
            text.push_str(&format!("\n[{table}]\n"));
        }
        let (raw, origin) = &values[key.path];
        let value = match raw {
            Raw::Text(text) => quote(text),
            Raw::List(items) => format!("[{}]", items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", ")),
            Raw::Table(table) => {
                let shown = redacted_config(&Config::from(table.clone()));
                let pairs: Vec<String> =
                    shown.iter().map(|(name, value)| format!("{} = {}", quote(name), quote(value))).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        };
        writeln!(text, "{name} = {value}  # {origin}").expect("a String takes all");
    }
    text
}

fn describe(shape: Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::Name => "name".to_owned(),
        Shape::Address => "host:port".to_owned(),
        Shape::Addresses => "host:port, …".to_owned(),
        Shape::Members => "list of name=host:port".to_owned(),
        Shape::Properties => "table".to_owned(),
        Shape::OneOf(words) => format!("one of {}", words.join(", ")),
        Shape::Filter => "log filter".to_owned(),
        Shape::Duration { min, max } => {
            format!("duration, {} to {}", humantime::format_duration(min), humantime::format_duration(max))
        }
        Shape::Bytes { min, max } => format!("size, {} to {}", size(min), size(max)),
        Shape::Count { min, max } => format!("number, {min} to {max}"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
