//! Values that must not be seen: the `Secret` wrapper, and the `${env:NAME}` / `${file:/path:key}` references that stand
//! for a value held outside the cluster. Used by the connector specification and resolved by `feed` when it dials.
//! Nothing here reads an environment or a file: a reference stays a reference in every output.

use std::fmt;

/// What stands in the place of a hidden value.
pub const HIDDEN: &str = "[hidden]";

/// Whatever a reference may begin with: `${env:…}`, `${file:…}`.
pub const PROVIDERS: [&str; 2] = ["env", "file"];

/// Text that is never printed. `Debug` shows `[hidden]`; there is no `Display` and no serialisation on purpose.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

/// A piece of a secret: literal text, or a reference that a node resolves when it needs the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPart<'a> {
    Literal(&'a str),
    /// `${env:NAME}`
    Env(&'a str),
    /// `${file:/path}` is the whole file; `${file:/path:key}` one line `key=value` of it.
    File {
        path: &'a str,
        key: Option<&'a str>,
    },
}

impl Secret {
    /// Wraps the text as configured: a value, references, or both.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as configured, with references unresolved. For dialing only: never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when nothing but references is in the text, so that showing it reveals nothing.
    pub fn is_reference(&self) -> bool {
        let parts = self.parts();
        !parts.is_empty() && parts.iter().all(|part| !matches!(part, SecretPart::Literal(_)))
    }

    /// What is wrong with a reference in the text, if something is: `${name:…}` of a provider that does not exist would be
    /// sent as it stands. A `${` that does not begin a reference is literal text.
    pub fn bad_reference(&self) -> Option<String> {
        let mut rest = self.0.as_str();
        while let Some(start) = rest.find("${") {
            rest = &rest[start + 2..];
            let Some((name, inside)) = rest.split_once(':') else { continue };
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.trim().is_empty() || !name.trim().chars().all(is_name) {
                continue;
            }
            match inside.find('}') {
                None if PROVIDERS.contains(&name) => return Some(format!("the reference ${{{name}:… is not closed")),
                None => {}
                Some(_) if !PROVIDERS.contains(&name) => return Some(format!("${{{name}:…}} names no provider")),
                Some(end) if parse_reference(&rest[..name.len() + 1 + end]).is_none() => {
                    return Some(format!("${{{name}:}} names nothing"));
                }
                Some(_) => {}
            }
        }
        None
    }

    /// Splits the text at its references. What is none stays literal text.
    pub fn parts(&self) -> Vec<SecretPart<'_>> {
        let mut parts = Vec::new();
        let (mut literal_from, mut at) = (0, 0);
        while let Some(start) = self.0[at..].find("${").map(|i| i + at) {
            let Some(end) = self.0[start..].find('}').map(|i| i + start) else { break };
            let Some(reference) = parse_reference(&self.0[start + 2..end]) else {
                at = start + 2;
                continue;
            };
            at = end + 1;
            if literal_from < start {
                parts.push(SecretPart::Literal(&self.0[literal_from..start]));
            }
            parts.push(reference);
            literal_from = at;
        }
        if literal_from < self.0.len() {
            parts.push(SecretPart::Literal(&self.0[literal_from..]));
        }
        parts
    }

    /// The text with every reference replaced by `with`: to check the shape of a value that is not known here.
    pub fn with_references_as(&self, with: &str) -> String {
        let shown = |part: &SecretPart<'_>| match part {
            SecretPart::Literal(text) => (*text).to_owned(),
            SecretPart::Env(_) | SecretPart::File { .. } => with.to_owned(),
        };
        self.parts().iter().map(shown).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

fn parse_reference(inside: &str) -> Option<SecretPart<'_>> {
    match inside.split_once(':')? {
        ("env", name) if !name.is_empty() => Some(SecretPart::Env(name)),
        ("file", rest) if !rest.is_empty() => Some(match rest.split_once(':') {
            Some((path, key)) => SecretPart::File { path, key: Some(key) },
            None => SecretPart::File { path: rest, key: None },
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_value() {
        assert_eq!(format!("{:?}", Secret::new("canary")), "[hidden]");
    }

    #[test]
    fn splits_at_references_and_keeps_the_rest() {
        let secret = Secret::new("a${env:X}b${file:/s/t:k}${file:/w}${odd}${vault:x}");
        assert_eq!(
            secret.parts(),
            [
                SecretPart::Literal("a"),
                SecretPart::Env("X"),
                SecretPart::Literal("b"),
                SecretPart::File { path: "/s/t", key: Some("k") },
                SecretPart::File { path: "/w", key: None },
                SecretPart::Literal("${odd}${vault:x}"),
            ]
        );
        assert_eq!(secret.with_references_as("-"), "a-b--${odd}${vault:x}");
    }

    #[test]
    fn a_reference_that_nobody_resolves_is_told_from_literal_text() {
        for (bad, why) in [
            ("${secrets:prod:key}", "${secrets:…} names no provider"),
            ("a ${ENV:X}", "${ENV:…} names no provider"),
            ("${env:A}${directory:/d:f}", "${directory:…} names no provider"),
            ("${ env:X}", "${ env:…} names no provider"),
            ("${env:}", "${env:} names nothing"),
            ("${file:/x", "the reference ${file:… is not closed"),
        ] {
            assert_eq!(Secret::new(bad).bad_reference().as_deref(), Some(why), "{bad}");
        }
        for good in
            ["", "${", "${}", "$${env:X}", "${x}", "${x y:z}", "${env:A}-${file:/b:c}", "{\"a\":\"${\"}", "${:x}"]
        {
            assert_eq!(Secret::new(good).bad_reference(), None, "{good}");
        }
        let swallowed = Secret::new("${a ${env:X}}");
        let parts = [SecretPart::Literal("${a "), SecretPart::Env("X"), SecretPart::Literal("}")];
        assert_eq!(swallowed.parts(), parts);
    }

    #[test]
    fn only_pure_references_may_be_shown() {
        assert!(Secret::new("${env:A}${file:/b}").is_reference());
        for shown in ["", "x${env:A}", "${env:", "${nope:x}", "plain"] {
            assert!(!Secret::new(shown).is_reference(), "{shown}");
        }
    }
}
