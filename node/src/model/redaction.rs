//! What of a connector configuration may be shown: by the admin API, in logs and in events. Decides per key and, inside
//! headers and subscription messages, per name. It never resolves a reference, and references stay visible.

use super::{
    connector::Config,
    feed_url::public_url,
    secret::{HIDDEN, Secret},
    spec_keys as keys,
};

/// The configuration as it may be shown: secrets replaced by `[hidden]`, URLs without user info and query. References
/// to secrets stay visible, they reveal nothing.
pub fn redacted_config(config: &Config) -> Config {
    config.iter().map(|(key, value)| (key.clone(), redacted_value(key, value))).collect()
}

fn redacted_value(key: &str, value: &str) -> String {
    match key {
        keys::WEBSOCKET_URL | keys::SECONDARY_URL => public_url(value.trim()),
        keys::HEADERS => value.split(',').map(redacted_header).collect::<Vec<_>>().join(","),
        keys::SUBSCRIPTION_MESSAGE | keys::SUBSCRIPTION_MESSAGES => redacted_message(value),
        _ if key == keys::AUTH_TOKEN || (keys::definition(key).is_none() && sensitive_name(key)) => {
            if Secret::new(value).is_reference() { value.into() } else { HIDDEN.into() }
        }
        _ => value.into(),
    }
}

fn redacted_header(pair: &str) -> String {
    match pair.split_once(':') {
        Some((name, value)) if sensitive_name(name) && !Secret::new(value.trim()).is_reference() => {
            format!("{name}:{HIDDEN}")
        }
        _ => pair.to_owned(),
    }
}

/// A subscription message with the values of sensitive members hidden; unchanged if there are none.
fn redacted_message(text: &str) -> String {
    fn hide(value: &mut serde_json::Value) -> bool {
        let mut hidden = false;
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    let shown = value.as_str().is_some_and(|v| Secret::new(v).is_reference()) || value.is_object();
                    if sensitive_name(name) && !shown {
                        *value = HIDDEN.into();
                        hidden = true;
                    } else {
                        hidden |= hide(value);
                    }
                }
            }
            serde_json::Value::Array(values) => {
                for value in values {
                    hidden |= hide(value);
                }
            }
            _ => {}
        }
        hidden
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(mut value) => {
            if hide(&mut value) {
                value.to_string()
            } else {
                text.to_owned()
            }
        }
        // Not JSON: its parts cannot be told apart, so a suspicious one is hidden as a whole.
        Err(_) if sensitive_name(text) => HIDDEN.into(),
        Err(_) => text.to_owned(),
    }
}

/// Names that usually carry a secret: tokens, keys, passwords, cookies, signatures.
pub(super) fn sensitive_name(name: &str) -> bool {
    const MARKS: [&str; 11] = [
        "token",
        "secret",
        "password",
        "passwd",
        "auth",
        "api_key",
        "api-key",
        "apikey",
        "cookie",
        "jaas",
        "signature",
    ];
    let name = name.to_ascii_lowercase();
    name.trim() == "key" || MARKS.iter().any(|mark| name.contains(mark))
}
