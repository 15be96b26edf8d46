//! The request headers of the upgrade, from `websocket.headers` (the original's form, where a comma ends a value) and
//! from `twinfeed.websocket.headers` (a JSON object, where it does not).

use std::collections::BTreeMap;

use super::Reader;
use crate::model::{secret::Secret, sensitive::sensitive, spec_keys as keys};

/// Headers of the upgrade, at most; a server accepts about a hundred.
const HEADERS_MAX: usize = 64;

impl Reader<'_> {
    pub(super) fn headers(&mut self) -> Vec<(String, Secret)> {
        let mut headers = Vec::new();
        for pair in self.present(keys::HEADERS).unwrap_or_default().split(',') {
            match pair.split_once(':') {
                Some((name, value)) => self.header(keys::HEADERS, name, value, &mut headers),
                None if pair.trim().is_empty() => {}
                None => {
                    let text =
                        "a pair without `:` is skipped; a value with a comma goes into twinfeed.websocket.headers";
                    self.warn(keys::HEADERS, text);
                }
            }
        }
        let before = headers.len();
        for (name, values) in self.headers_of_object() {
            if headers[..before].iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                let message = format!("Header {name} is in {}, too", keys::HEADERS);
                self.error(keys::HEADERS_JSON, message, "give it once");
            }
            for value in values {
                self.header(keys::HEADERS_JSON, &name, &value, &mut headers);
            }
        }
        if headers.len() > HEADERS_MAX {
            self.error(keys::HEADERS, format!("More than {HEADERS_MAX} headers"), "");
        }
        headers
    }

    /// Names with their values; one text or several.
    fn headers_of_object(&mut self) -> BTreeMap<String, Vec<String>> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            One(String),
            Several(Vec<String>),
        }
        let Some(text) = self.present(keys::HEADERS_JSON) else { return BTreeMap::new() };
        let Ok(headers) = serde_json::from_str::<BTreeMap<String, Values>>(&text) else {
            let key = keys::HEADERS_JSON;
            let message =
                format!("Invalid value for configuration {key}: Not a JSON object of texts or arrays of texts");
            self.error(key, message, r#"for example {"Cookie":"a=b; c=d,e"}"#);
            return BTreeMap::new();
        };
        let list = |values| match values {
            Values::One(value) => vec![value],
            Values::Several(values) => values,
        };
        headers.into_iter().map(|(name, values)| (name, list(values))).collect()
    }

    fn header(&mut self, key: &str, name: &str, value: &str, headers: &mut Vec<(String, Secret)>) {
        let (name, value) = (name.trim(), Secret::new(value.trim()));
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            self.error(
                key,
                "Invalid header name",
                "use letters, digits and `-`; a value with a comma goes into twinfeed.websocket.headers",
            );
        } else if forbidden_header(name) {
            let message = format!("Header {name} belongs to the upgrade itself and cannot be set");
            self.error(key, message, "leave it out");
        } else if http::HeaderValue::from_str(&value.with_references_as("x")).is_err() {
            let message = format!("The value of header {name} contains characters a header cannot carry");
            self.error(key, message, "");
        } else {
            if sensitive(name) {
                self.warn_if_raw(key, &value);
            }
            headers.push((name.to_owned(), value));
        }
    }
}

/// Headers that the upgrade itself needs. `Sec-WebSocket-Protocol` may be set: some feeds demand a subprotocol.
fn forbidden_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(
        name.as_str(),
        "host" | "connection" | "upgrade" | "content-length" | "transfer-encoding" | "te" | "trailer"
    ) || (name.starts_with("sec-websocket-") && name != "sec-websocket-protocol")
}
