//! The leaves of a JSON document: every value that holds no other, by its pointer (RFC 6901). Values are compared as they are
//! written, since a number may have more digits than a float holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

/// What lies deeper is one leaf.
const DEPTH_MAX: usize = 16;
/// More are not looked at.
const LEAVES_MAX: usize = 1_024;

pub(super) struct Leaves<'a> {
    values: BTreeMap<String, &'a str>,
    /// The names in it, whatever the length of its lists.
    build: BTreeSet<String>,
}

impl<'a> Leaves<'a> {
    /// `None` for what is not a JSON object or array.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let document: &RawValue = serde_json::from_slice(bytes).ok()?;
        if !document.get().starts_with(['{', '[']) {
            return None;
        }
        let mut leaves = Self { values: BTreeMap::new(), build: BTreeSet::new() };
        leaves.add(String::new(), document, 0);
        leaves.build = leaves.values.keys().map(|pointer| without_places(pointer)).collect();
        Some(leaves)
    }

    fn add(&mut self, pointer: String, value: &'a RawValue, depth: usize) {
        let text = value.get();
        if self.values.len() >= LEAVES_MAX {
            return;
        }
        if depth < DEPTH_MAX && text.starts_with('{') {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
            for (name, value) in members {
                self.add(format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), value, depth + 1);
            }
        } else if depth < DEPTH_MAX && text.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            for (i, value) in items.into_iter().enumerate() {
                self.add(format!("{pointer}/{i}"), value, depth + 1);
            }
        } else {
            self.values.insert(pointer, text);
        }
    }

    /// Whether it is built like the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.build == other.build
    }

    /// Leaves that are equal in both, in percent of all.
    pub(super) fn equal_percent(&self, other: &Self) -> usize {
        let equal = if self.values.len() == other.values.len() {
            self.values.iter().zip(&other.values).filter(|(a, b)| a == b).count()
        } else {
            self.values.iter().filter(|(pointer, value)| other.values.get(*pointer) == Some(value)).count()
        };
        equal * 100 / self.values.len().max(other.values.len()).max(1)
    }

    /// Where the two differ, or only one has a value.
    pub(super) fn differing(&self, other: &Self) -> Vec<String> {
        let mut pointers: Vec<_> = self.values.keys().chain(other.values.keys()).collect();
        pointers.sort_unstable();
        pointers.dedup();
        let differs = |pointer: &&&String| self.values.get(pointer.as_str()) != other.values.get(pointer.as_str());
        pointers.iter().filter(differs).map(|pointer| (*pointer).clone()).collect()
    }

    /// Whether both have a value that no other message of either line has: chance hardly makes it so.
    pub(super) fn shares_what_is_unique(&self, other: &Self, [own, others]: [&[&Self]; 2]) -> bool {
        let times = |line: &[&Self], pointer: &str, value: &str| {
            line.iter().filter(|leaves| leaves.values.get(pointer).is_some_and(|known| *known == value)).take(2).count()
        };
        others.len() > 1
            && self.values.iter().any(|(pointer, value)| {
                let is_equal = other.values.get(pointer) == Some(value);
                is_equal && times(own, pointer, value) == 1 && times(others, pointer, value) == 1
            })
    }
}

/// The pointer with `*` for each place in a list; a member whose name is a number looks the same.
fn without_places(pointer: &str) -> String {
    let parts = pointer
        .split('/')
        .map(|part| if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() { "*" } else { part });
    parts.collect::<Vec<_>>().join("/")
}
