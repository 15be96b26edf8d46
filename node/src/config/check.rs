//! From raw values to checked ones, one shape at a time. Collects every problem instead of stopping at the first.
//! Pure; `config.rs` builds the configuration through it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Member,
    keys::{self, Shape},
    source::{Origin, Problem, Raw, Values},
};
use crate::telemetry::logging;

/// Reads checked values and keeps what is wrong.
pub(super) struct Checker<'a> {
    pub(super) values: &'a Values,
    pub(super) problems: Vec<Problem>,
}

impl Checker<'_> {
    /// Notes a problem of a key.
    pub(super) fn problem(&mut self, path: &str, what: impl Into<String>) {
        let origin = self.values.get(path).map_or(Origin::Default, |(_, origin)| origin.clone());
        self.problems.push(Problem { origin, key: path.to_owned(), what: what.into() });
    }

    /// A text that fits its shape; empty stays empty where the default is made from others.
    pub(super) fn text(&mut self, path: &str) -> String {
        let text = self.raw_text(path);
        let key = keys::find(path).expect("only keys of the table are read");
        if text.is_empty() && key.default.is_empty() {
            return text;
        }
        let fits = match key.shape {
            Shape::Name => check_name(&text),
            Shape::Address => check_address(&text),
            Shape::Addresses => text.split(',').try_for_each(|address| check_address(address.trim())),
            Shape::OneOf(words) if !words.contains(&text.as_str()) => {
                Err(format!("must be one of {}", words.join(", ")))
            }
            Shape::Filter => logging::check_filter(&text).map_err(|error| error.to_string()),
            Shape::Text if text.is_empty() => Err("must not be empty".to_owned()),
            _ => Ok(()),
        };
        if let Err(what) = fits {
            self.problem(path, what);
        }
        text
    }

    /// A duration within the key's bounds.
    pub(super) fn duration(&mut self, path: &str) -> Duration {
        let text = self.raw_text(path);
        let Some(Shape::Duration { min, max }) = keys::find(path).map(|key| key.shape) else {
            unreachable!("`{path}` is a duration in the table");
        };
        match humantime::parse_duration(&text) {
            Ok(value) if (min..=max).contains(&value) => value,
            Ok(_) => {
                let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
                self.problem(path, format!("`{text}` is out of bounds: {min} to {max}"));
                min_of(path)
            }
            Err(_) => {
                self.problem(path, format!("`{text}` is no duration: write a number with a unit, such as 250ms or 5s"));
                min_of(path)
            }
        }
    }

    /// A size or a count within the key's bounds.
    pub(super) fn number(&mut self, path: &str) -> u64 {
        let text = self.raw_text(path);
        let (value, min, max) = match keys::find(path).map(|key| key.shape) {
            Some(Shape::Bytes { min, max }) => (parse_bytes(&text), min, max),
            Some(Shape::Count { min, max }) => {
                (text.parse().map_err(|_| format!("`{text}` is no whole number")), min, max)
            }
            _ => unreachable!("`{path}` is a number in the table"),
        };
        match value {
            Ok(value) if (min..=max).contains(&value) => return value,
            Ok(value) => self.problem(path, format!("{value} is out of bounds: {min} to {max}")),
            Err(what) => self.problem(path, what),
        }
        min
    }

    /// The members of the first start.
    pub(super) fn members(&mut self, path: &str) -> Vec<Member> {
        let Some((Raw::List(items), _)) = self.values.get(path) else { return Vec::new() };
        let mut members: Vec<Member> = Vec::new();
        for item in items {
            let Some((name, address)) = item.split_once('=') else {
                self.problem(path, format!("`{item}` is not of the form name=host:port"));
                continue;
            };
            if let Err(what) = check_name(name).and_then(|()| check_address(address)) {
                self.problem(path, what);
            }
            if members.iter().any(|member| member.name == name || member.address == address) {
                self.problem(path, format!("`{item}` repeats a name or an address"));
            }
            members.push(Member { name: name.to_owned(), address: address.to_owned() });
        }
        members
    }

    /// A table of texts.
    pub(super) fn properties(&self, path: &str) -> BTreeMap<String, String> {
        match self.values.get(path) {
            Some((Raw::Table(table), _)) => table.clone(),
            _ => BTreeMap::new(),
        }
    }

    fn raw_text(&self, path: &str) -> String {
        match self.values.get(path) {
            Some((Raw::Text(text), _)) => text.clone(),
            _ => String::new(),
        }
    }
}

/// Stands in for a value that is reported as wrong, so that the remaining checks can go on.
fn min_of(path: &str) -> Duration {
    match keys::find(path).map(|key| key.shape) {
        Some(Shape::Duration { min, .. }) => min,
        _ => Duration::ZERO,
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if (1..=63).contains(&name.len()) && name.chars().all(fits) {
        Ok(())
    } else {
        Err(format!("`{name}` is no name: 1 to 63 letters, digits, dots, dashes or underscores"))
    }
}

fn check_address(address: &str) -> Result<(), String> {
    let parts = address.rsplit_once(':');
    let fits = parts.is_some_and(|(host, port)| {
        let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && bare && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok()
    });
    if fits { Ok(()) } else { Err(format!("`{address}` is no address: write host:port, IPv6 as [::1]:port")) }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("`{text}` is no size: write a number with B, KiB, MiB or GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size: it does not start with a number"))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_binary_unit() {
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("512"), Ok(512));
        for wrong in ["64MB", "MiB", "", "-1", "1.5MiB", "99999999999GiB", "99999999999999999999"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for right in ["127.0.0.1:7400", "node-1.example:1", "[::1]:7400", "localhost:0"] {
            assert_eq!(check_address(right), Ok(()), "{right}");
        }
        for wrong in ["", ":7400", "host", "host:", "host:65536", "::1:7400", "http://host:1", "u@host:1", "a b:1"] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }
}
