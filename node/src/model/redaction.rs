//! What of a connector configuration may be shown: by the admin API, in logs and in events. Decides per key and, inside
//! headers, subscription messages and URLs, per part; `sensitive` has the rule. It never resolves a reference, and
//! references stay visible.

use serde_json::Value;

use super::{
    connector::Config,
    feed_url::public_url,
    secret::{HIDDEN, Secret, SecretPart},
    sensitive::{looks_like_token, names_login, sensitive, suspicious},
    spec_keys as keys,
};

/// Members that say what a message is for.
const OPERATIONS: [&str; 27] = [
    "action",
    "call",
    "channel",
    "cmd",
    "command",
    "e",
    "endpoint",
    "event",
    "function",
    "kind",
    "m",
    "message_type",
    "messagetype",
    "method",
    "msg",
    "msg_type",
    "msgtype",
    "name",
    "op",
    "operation",
    "path",
    "procedure",
    "req",
    "request",
    "service",
    "target",
    "type",
];
/// First words of a header's value that is a credential.
const SCHEMES: [&str; 5] = ["basic ", "bearer ", "digest ", "hmac ", "token "];

/// The configuration as it may be shown: secrets replaced by `[hidden]`, URLs without user info, query and tokens.
/// References to secrets stay visible, they reveal nothing.
pub fn redacted_config(config: &Config) -> Config {
    config.iter().map(|(key, value)| (key.clone(), redacted_value(key, value))).collect()
}

fn redacted_value(key: &str, value: &str) -> String {
    match key {
        keys::WEBSOCKET_URL | keys::SECONDARY_URL => public_url(value.trim()),
        keys::HEADERS => redacted_pairs(value),
        keys::HEADERS_JSON => redacted_headers(value),
        keys::SUBSCRIPTION_MESSAGE => redacted_message(value),
        keys::SUBSCRIPTION_MESSAGES => redacted_messages(value),
        keys::AUTH_TOKEN => unless_reference(value),
        _ if keys::definition(key).is_some() => value.into(),
        _ if sensitive(key) => unless_reference(value),
        // Somebody else's key: whatever it is for, a URL's user info is a password.
        _ if value.contains("://") && value.contains('@') => public_url(value.trim()),
        _ => value.into(),
    }
}

fn unless_reference(value: &str) -> String {
    if value.is_empty() || Secret::new(value.trim()).is_reference() { value.into() } else { HIDDEN.into() }
}

/// Headers as `name:value,name:value`. What stands behind a comma inside a value is as secret as what is before it.
fn redacted_pairs(text: &str) -> String {
    let mut shown = Vec::new();
    let mut secret = false;
    for pair in text.split(',') {
        let header =
            pair.split_once(':').filter(|(name, _)| http::HeaderName::from_bytes(name.trim().as_bytes()).is_ok());
        secret = match header {
            Some((name, value)) => is_secret_header(name, value.trim()),
            None => secret || looks_like_token(pair.trim()),
        };
        shown.push(match header {
            Some((name, _)) if secret => format!("{name}:{HIDDEN}"),
            None if secret && !pair.trim().is_empty() => HIDDEN.to_owned(),
            _ => pair.to_owned(),
        });
    }
    shown.join(",")
}

fn is_secret_header(name: &str, value: &str) -> bool {
    if value.is_empty() || Secret::new(value).is_reference() {
        return false;
    }
    let lower = value.to_ascii_lowercase();
    // A subprotocol may carry a token, as in `Sec-WebSocket-Protocol: bearer, eyJ…`.
    let mut parts = value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
    sensitive(name) || SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) || parts.any(looks_like_token)
}

/// Headers as a JSON object; what is none is hidden whole.
fn redacted_headers(text: &str) -> String {
    let Ok(Value::Object(mut headers)) = serde_json::from_str::<Value>(text) else { return HIDDEN.into() };
    let mut hidden = false;
    for (name, value) in &mut headers {
        let values = match value {
            Value::Array(values) => values.iter_mut().collect(),
            value => vec![value],
        };
        for value in values {
            if value.as_str().is_none_or(|value| is_secret_header(name, value.trim())) {
                *value = HIDDEN.into();
                hidden = true;
            }
        }
    }
    if hidden { Value::Object(headers).to_string() } else { text.to_owned() }
}

/// A list of messages: texts are messages of their own.
fn redacted_messages(text: &str) -> String {
    let Ok(Value::Array(mut messages)) = serde_json::from_str::<Value>(text) else { return redacted_message(text) };
    // Words sent one by one may be a login, too: `["login", "name", "password"]`.
    let login = messages.iter().position(is_login_word);
    let mut hidden = false;
    for (index, message) in messages.iter_mut().enumerate() {
        match message {
            Value::String(text) => {
                let shown = match login {
                    Some(login) if login == index => text.clone(),
                    Some(_) => unless_reference(text),
                    None => redacted_message(text),
                };
                hidden |= shown != *text;
                *text = shown;
            }
            other => hidden |= hide(other, false),
        }
    }
    if hidden { Value::Array(messages).to_string() } else { text.to_owned() }
}

/// A subscription message with what is secret in it hidden; unchanged if nothing is.
fn redacted_message(text: &str) -> String {
    if Secret::new(text.trim()).is_reference() {
        return text.to_owned();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
            if hide(&mut value, false) {
                value.to_string()
            } else {
                text.to_owned()
            }
        }
        // Not JSON: its parts cannot be told apart, so a suspicious one is hidden as a whole.
        _ if suspicious(text) => HIDDEN.into(),
        _ => text.to_owned(),
    }
}

/// A word that does nothing but name a login, and so is no secret itself.
fn is_login_word(value: &Value) -> bool {
    const WORDS: [&str; 9] =
        ["auth", "authenticate", "authentication", "authorize", "identify", "login", "logon", "signin", "sign_in"];
    value.as_str().is_some_and(|text| WORDS.contains(&text.to_ascii_lowercase().as_str()))
}

/// Hides secret values in place, or `all` of them, and says whether there were any.
fn hide(value: &mut Value, all: bool) -> bool {
    match value {
        Value::Object(members) => {
            let all = all || members.iter().any(|(name, value)| is_login(name, value));
            let mut hidden = false;
            for (name, value) in members {
                if !(is_operation(name) && value.as_str().is_some_and(names_login)) {
                    hidden |= hide(value, all || sensitive(name));
                }
            }
            hidden
        }
        Value::Array(values) => {
            let login = values.iter().position(is_login_word);
            let mut hidden = false;
            for (index, value) in values.iter_mut().enumerate() {
                if login != Some(index) {
                    hidden |= hide(value, all || login.is_some());
                }
            }
            hidden
        }
        Value::String(text) => {
            let shown = if all { unless_reference(text) } else { redacted_text(text) };
            let hidden = shown != *text;
            *text = shown;
            hidden
        }
        Value::Number(_) if all => {
            *value = HIDDEN.into();
            true
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => false,
    }
}

/// A text inside a message: it may be a message itself, or a JSON web token.
fn redacted_text(text: &str) -> String {
    let is_message = text.trim_start().starts_with(['{', '[']);
    let is_token = text.starts_with("eyJ") && looks_like_token(text);
    if is_message {
        redacted_message(text)
    } else if is_token {
        HIDDEN.to_owned()
    } else {
        text.to_owned()
    }
}

fn is_operation(name: &str) -> bool {
    OPERATIONS.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether a member says that its message is a login, be it in a header beside the body.
fn is_login(name: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => is_login_word(value) || (is_operation(name) && names_login(text)),
        Value::Object(members) => members.iter().any(|(name, value)| is_login(name, value)),
        _ => false,
    }
}

/// A URL's path without the segments that look like tokens, such as listen keys. References stay.
pub(super) fn shown_path(path: &str) -> String {
    let secret = Secret::new(path);
    let mut shown = String::new();
    for part in secret.parts() {
        match part {
            SecretPart::Literal(text) => shown.push_str(&shown_segments(text)),
            SecretPart::Env(name) => shown.push_str(&format!("${{env:{name}}}")),
            SecretPart::File { path, key: None } => shown.push_str(&format!("${{file:{path}}}")),
            SecretPart::File { path, key: Some(key) } => shown.push_str(&format!("${{file:{path}:{key}}}")),
        }
    }
    shown
}

fn shown_segments(path: &str) -> String {
    const BEFORE_A_SECRET: [&str; 4] = ["key", "password", "secret", "token"];
    let mut before = "";
    let mut shown = Vec::new();
    for segment in path.split('/') {
        let follows = BEFORE_A_SECRET.iter().any(|word| before.to_ascii_lowercase().ends_with(word));
        before = segment;
        shown.push(match segment.split_once('=') {
            _ if looks_like_token(segment) || (follows && !segment.is_empty()) => HIDDEN.to_owned(),
            Some((name, value)) if sensitive(name) && !value.is_empty() => format!("{name}={HIDDEN}"),
            _ => segment.to_owned(),
        });
    }
    shown.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: &str, value: &str) -> String {
        redacted_config(&Config::from([(key.to_owned(), value.to_owned())]))[key].clone()
    }

    #[test]
    fn a_login_hides_whatever_it_says() {
        for message in [
            r#"{"op":"authKeyExpires","args":["CANARY",1700000000,"CANARY"]}"#,
            r#"{"op":"login","args":["CANARY"]}"#,
            r#"{"method":"auth","params":["CANARY",42]}"#,
            r#"["auth","CANARY","CANARY"]"#,
            r#"{"id":7,"method":"session.logon","params":{"x":"CANARY"}}"#,
            r#"{"header":{"type":"Login"},"body":{"user":"CANARY","q":["CANARY"]}}"#,
            r#"{"type":1,"target":"SignIn","arguments":["CANARY"]}"#,
            r#"{"type":"subscribe","channel":"full","key":"CANARY","passphrase":"CANARY","timestamp":"1"}"#,
            r#"{"data":"{\"op\":\"auth\",\"args\":[\"CANARY\"]}"}"#,
            r#"{"login":{"user":"CANARY","n":["CANARY"]}}"#,
            r#"{"a":"authenticate","p":["CANARY"]}"#,
            "AUTH CANARY CANARY",
            r#"42["authenticate",{"x":"CANARY"}]"#,
            "CANARYabcdefghij1234567890",
        ] {
            let text = shown(keys::SUBSCRIPTION_MESSAGE, message);
            assert!(!text.contains("CANARY") && !text.contains("1700000000"), "{message}: {text}");
            let list = serde_json::to_string(&[message]).expect("texts");
            let text = shown(keys::SUBSCRIPTION_MESSAGES, &list);
            assert!(!text.contains("CANARY") && !text.contains("1700000000"), "{list}: {text}");
        }
        let words = shown(keys::SUBSCRIPTION_MESSAGES, r#"["login","CANARY","mypassword"]"#);
        assert_eq!(words, r#"["login","[hidden]","[hidden]"]"#);
    }

    #[test]
    fn what_a_subscription_asks_for_stays_visible() {
        for message in [
            r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#,
            r#"{"op":"login","args":["${env:KEY}","${file:/s/sig}"]}"#,
            "subscribe trades",
            "${file:/s/message}",
        ] {
            assert_eq!(shown(keys::SUBSCRIPTION_MESSAGE, message), message);
        }
        let login = shown(keys::SUBSCRIPTION_MESSAGE, r#"{"op":"login","args":["x"]}"#);
        assert_eq!(login, r#"{"args":["[hidden]"],"op":"login"}"#);
    }

    #[test]
    fn headers_that_carry_a_credential_are_hidden_whatever_their_name() {
        let commas = r#"Authorization: Digest a="x",response="CANARY",b c:CANARY,X-Plain:seen,x"#;
        assert_eq!(shown(keys::HEADERS, commas), "Authorization:[hidden],[hidden],[hidden],X-Plain:seen,x");
        let headers =
            "X-Plain:seen,X-Odd: Bearer CANARY,Cookie:a=CANARY,Sec-WebSocket-Protocol: CANARYabc1234567890xyz";
        let text = shown(keys::HEADERS, headers);
        assert!(!text.contains("CANARY") && text.contains("X-Plain:seen"), "{text}");
        let json = r#"{"Cookie":"a=CANARY; c=d,CANARY","X-Plain":"a,b","X-Api-Key":["CANARY"],"X-Ref":"${env:A}"}"#;
        let text = shown(keys::HEADERS_JSON, json);
        assert!(!text.contains("CANARY") && text.contains(r#""X-Plain":"a,b""#), "{text}");
        assert!(text.contains("${env:A}"), "{text}");
        assert_eq!(shown(keys::HEADERS_JSON, "CANARY"), HIDDEN);
    }

    #[test]
    fn tokens_in_the_path_of_a_url_are_hidden_and_references_stay() {
        let cases = [
            ("wss://h:1/ws/pqia91ma19a5s61cv6a81va65sdf19v8a65a1", "wss://h:1/ws/[hidden]"),
            ("wss://h/v1/token/abc/feed?x=CANARY", "wss://h/v1/token/[hidden]/feed"),
            ("wss://h/apikey=abc/feed", "wss://h/apikey=[hidden]/feed"),
            ("wss://h/stream/btcusdt@kline_1m", "wss://h/stream/btcusdt@kline_1m"),
            ("wss://h/ws/${file:/etc/secrets/listen_key:a}", "wss://h/ws/${file:/etc/secrets/listen_key:a}"),
        ];
        for (url, expected) in cases {
            assert_eq!(shown(keys::WEBSOCKET_URL, url), expected);
        }
    }

    #[test]
    fn security_of_kafka_is_hidden_unless_it_is_known_to_be_harmless() {
        for (key, hidden) in [
            ("producer.override.ssl.key.pem", true),
            ("producer.override.ssl.anything", true),
            ("producer.override.sasl.jaas.config", true),
            ("sasl.username", true),
            ("producer.override.sasl.mechanism", false),
            ("producer.override.ssl.ca.location", false),
            ("producer.override.compression.type", false),
        ] {
            assert_eq!(shown(key, "value") == HIDDEN, hidden, "{key}");
            assert_eq!(shown(key, "${env:A}"), "${env:A}", "{key}");
        }
        assert_eq!(shown("schema.registry.url", "http://u:CANARY@h/x"), "http://h/x");
    }
}
