//! What a dial sent that must not come back in a text: servers quote tokens in the body of a refusal or the reason of a
//! close frame. `dial` notes it, whoever shows a server's words asks `without`. It knows nothing of what is secret in
//! itself: header values, query values and resolved references all count.

use crate::model::secret::HIDDEN;

/// Shorter values are not hidden: they are no secrets, and hiding each `1` would garble every text.
const CHARS_MIN: usize = 4;

/// Values that were sent, without `Debug` on purpose.
#[derive(Clone, Default)]
pub(super) struct Sent(Vec<String>);

impl Sent {
    /// Notes a value, and what follows a scheme like `Bearer` in it.
    pub(super) fn note(&mut self, value: &str) {
        let (whole, rest) = (value.trim(), value.trim().split_once(' ').map_or("", |(_, rest)| rest.trim()));
        for value in [whole, rest] {
            if value.chars().count() >= CHARS_MIN {
                self.0.push(value.to_owned());
            }
        }
        // The longest first: it may contain a shorter one.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.0.dedup();
    }

    /// Notes the values of a query.
    pub(super) fn note_query(&mut self, path_and_query: &str) {
        if let Some((_, query)) = path_and_query.split_once('?') {
            self.note(query);
            query.split('&').for_each(|pair| self.note(pair.split_once('=').map_or(pair, |(_, value)| value)));
        }
    }

    /// A text of the server without them. A text may have been cut off in the middle of one.
    pub(super) fn without(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for value in &self.0 {
            shown = shown.replace(value, HIDDEN);
        }
        for value in &self.0 {
            let beginnings = value.char_indices().map(|(at, _)| &value[..at]).skip(CHARS_MIN);
            if let Some(beginning) = beginnings.filter(|beginning| shown.ends_with(beginning)).last() {
                shown.truncate(shown.len() - beginning.len());
                shown.push_str(HIDDEN);
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_does_not_come_back() {
        let mut sent = Sent::default();
        sent.note("Bearer s3cr3t");
        sent.note("s3cr3t-and-more");
        sent.note("1");
        sent.note_query("/p?key=k3y-k3y&x=1&flagged");
        for (text, shown) in [
            ("invalid token s3cr3t!", "invalid token [hidden]!"),
            ("got Bearer s3cr3t", "got [hidden]"),
            ("s3cr3t-and-more", "[hidden]"),
            ("key=k3y-k3y&x=1&flagged", "[hidden]"),
            ("k3y-k3y is not flagged", "[hidden] is not [hidden]"),
            ("cut: k3y-k", "cut: [hidden]"),
            ("code 1001, x", "code 1001, x"),
            ("", ""),
        ] {
            assert_eq!(sent.without(text), shown, "{text}");
        }
    }
}
