//! From an update request to the whole new configuration: masks, etags, and secrets that come back as they were shown.

use tonic::Status;
use twinfeed_proto::admin::{CreateConnectorRequest, UpdateConnectorRequest};

use super::status::{invalid_config, invalid_field, invalid_fields};
use crate::model::{command::asked, connector::Config, redaction::redacted_config, secret::HIDDEN, spec::FieldError};

const MASK_PREFIX: &str = "config.";

/// The configuration after an update.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) config: Config,
    /// It holds parts of the stored one, so it may replace no other than that.
    pub(super) rests_on_stored: bool,
}

/// Merges what was sent with what is stored. A value that is exactly what a reader is shown in place of a stored secret
/// means that secret: whoever reads a connector, edits it and sends it back must not overwrite a token with `[hidden]`.
pub(super) fn merge(stored: &Config, request: &UpdateConnectorRequest) -> Result<Merged, Status> {
    let shown = redacted_config(stored);
    // The stored value where what was sent is only the sight of it.
    let kept = |key: &String, sent: &String| {
        stored.get(key).filter(|secret| shown.get(key) == Some(sent) && *secret != sent).cloned()
    };
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let mut merged = Merged { config: Config::new(), rests_on_stored: !paths.is_empty() };
    if paths.is_empty() {
        for (key, sent) in &request.config {
            let kept = kept(key, sent);
            merged.rests_on_stored |= kept.is_some();
            merged.config.insert(key.clone(), kept.unwrap_or_else(|| sent.clone()));
        }
        return Ok(merged);
    }
    merged.config.clone_from(stored);
    for key in masked_keys(paths)? {
        match request.config.get_key_value(key) {
            // Whoever names a key means its value, be it a URL that looks like the shown one; nobody means `[hidden]`.
            Some((key, sent)) => {
                let kept = kept(key, sent).filter(|_| sent.contains(HIDDEN));
                merged.config.insert(key.clone(), kept.unwrap_or_else(|| sent.clone()))
            }
            None => merged.config.remove(key),
        };
    }
    Ok(merged)
}

/// Refuses a value that still holds `[hidden]`: it was copied from what a reader is shown and then changed, so that nobody
/// knows which secret it stands for. Written as it is, it would replace the secret.
pub(super) fn refuse_hidden(name: &str, config: &Config, stored: &Config) -> Result<(), Status> {
    let copied = config.iter().filter(|(key, value)| value.contains(HIDDEN) && stored.get(*key) != Some(*value));
    let errors = copied.map(|(key, _)| FieldError {
        key: key.clone(),
        message: format!("{HIDDEN} stands for a secret that is not shown"),
        hint: "send the whole value with its secret or a reference to it, or exactly what was shown".to_owned(),
    });
    let errors: Vec<FieldError> = errors.collect();
    if errors.is_empty() { Ok(()) } else { Err(invalid_config(name, errors)) }
}

fn masked_keys(paths: &[String]) -> Result<Vec<&str>, Status> {
    let key = |path: &'_ String| path.strip_prefix(MASK_PREFIX).is_some_and(|key| !key.is_empty());
    let bad: Vec<_> = paths.iter().filter(|path| !key(path)).collect();
    if !bad.is_empty() {
        let fields = bad.iter().map(|path| ("update_mask".to_owned(), format!("{path:?} is not config.<key>")));
        return Err(invalid_fields("invalid update_mask", fields));
    }
    Ok(paths.iter().filter_map(|path| path.strip_prefix(MASK_PREFIX)).collect())
}

/// The revision that an etag stands for; 0 (any) for none.
pub(super) fn revision_of(etag: &str) -> Result<u64, Status> {
    match etag {
        "" => Ok(0),
        etag => match etag.parse() {
            Ok(revision) if revision > 0 => Ok(revision),
            _ => Err(invalid_field("etag", "is not one that this API gave")),
        },
    }
}

/// What a creation asks.
pub(super) fn asked_to_create(request: &CreateConnectorRequest) -> u64 {
    let config: Config = request.config.clone().into_iter().collect();
    asked(&("create", &request.name, config, request.initial_state))
}

/// What an update asks, whatever is stored.
pub(super) fn asked_to_update(request: &UpdateConnectorRequest) -> u64 {
    let config: Config = request.config.clone().into_iter().collect();
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    asked(&("update", &request.name, config, paths, &request.etag, request.allow_missing))
}

/// Refuses a request id that is no UUID: short ones collide with those of others.
pub(super) fn check_request_id(request_id: &str) -> Result<(), Status> {
    match uuid::Uuid::try_parse(request_id) {
        Ok(_) => Ok(()),
        Err(_) if request_id.is_empty() => Ok(()),
        Err(_) => Err(invalid_field("request_id", "must be a UUID")),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn request(pairs: &[(&str, &str)], paths: &[&str]) -> UpdateConnectorRequest {
        let update_mask =
            (!paths.is_empty()).then(|| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        UpdateConnectorRequest {
            config: config(pairs).into_iter().collect(),
            update_mask,
            ..UpdateConnectorRequest::default()
        }
    }

    #[test]
    fn without_a_mask_the_map_is_replaced_as_a_whole() {
        let stored = config(&[("a", "1"), ("b", "2")]);
        let merged = merge(&stored, &request(&[("b", "3")], &[])).expect("valid");
        assert_eq!(merged, Merged { config: config(&[("b", "3")]), rests_on_stored: false });
    }

    #[test]
    fn a_mask_changes_and_removes_only_its_keys() {
        let stored = config(&[("a.x", "1"), ("b", "2"), ("c", "3")]);
        let merged = merge(&stored, &request(&[("a.x", "9"), ("c", "ignored")], &["config.a.x", "config.b"]));
        let expected = Merged { config: config(&[("a.x", "9"), ("c", "3")]), rests_on_stored: true };
        assert_eq!(merged.expect("valid"), expected);
        assert!(merge(&stored, &request(&[], &["config.", "name"])).is_err());
    }

    #[test]
    fn a_hidden_secret_that_comes_back_stays_the_secret() {
        let stored = config(&[("websocket.auth.token", "s3cret"), ("kafka.topic", "t")]);
        let mut shown = redacted_config(&stored);
        assert_ne!(shown["websocket.auth.token"], "s3cret");
        shown.insert("kafka.topic".into(), "other".into());
        let pairs: Vec<_> = shown.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let merged = merge(&stored, &request(&pairs, &[])).expect("valid");
        assert_eq!(merged.config["websocket.auth.token"], "s3cret");
        assert_eq!(merged.config["kafka.topic"], "other");
        assert!(merged.rests_on_stored);
    }

    /// Values with a secret in them, of every kind.
    const SECRETS: [(&str, &str); 9] = [
        ("websocket.url", "wss://h/ws/pqia91ma19a5s61cv6a81va65sdf19v8a65a1?x=CANARY"),
        ("websocket.headers", "X-Plain:a,X-Api-Key:CANARY"),
        ("twinfeed.websocket.headers", r#"{"Cookie":"a=b; c=d,CANARY","X-Plain":"a"}"#),
        ("websocket.auth.token", "CANARY"),
        ("websocket.subscription.message", r#"{"op":"login","args":["CANARY",1]}"#),
        ("twinfeed.websocket.subscription.messages", r#"[{"op":"auth","args":["CANARY"]},"AUTH CANARY"]"#),
        ("producer.override.ssl.key.pem", "CANARY"),
        ("producer.override.sasl.anything", "CANARY"),
        ("somebodys.private.thing", "CANARY"),
    ];

    #[test]
    fn whatever_is_hidden_survives_a_round_trip_and_a_half_edited_one_is_refused() {
        let stored = config(&SECRETS);
        let shown = redacted_config(&stored);
        assert!(!format!("{shown:?}").contains("CANARY"), "{shown:?}");
        let pairs: Vec<_> = shown.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let whole = merge(&stored, &request(&pairs, &[])).expect("valid");
        assert_eq!(whole.config, stored);
        assert!(refuse_hidden("c", &whole.config, &stored).is_ok());
        for (key, value) in pairs {
            assert!(value.contains(HIDDEN), "{key}: {value}");
            let masked = merge(&stored, &request(&[(key, value)], &[&format!("config.{key}")])).expect("valid");
            assert_eq!(masked.config, stored, "{key}");
            // Changed beside the secret, or copied into another connector.
            let edited = merge(&stored, &request(&[(key, &format!("{value} "))], &[])).expect("valid").config;
            assert!(refuse_hidden("c", &edited, &stored).is_err(), "{key}");
            let copied = config(&[(key, value)]);
            assert!(refuse_hidden("c", &copied, &Config::new()).is_err(), "{key}");
        }
    }

    #[test]
    fn a_url_that_is_named_is_meant() {
        let stored = config(&[("websocket.url", "wss://a/ws?token=s3cret")]);
        let shown = redacted_config(&stored)["websocket.url"].clone();
        let masked = merge(&stored, &request(&[("websocket.url", &shown)], &["config.websocket.url"]));
        assert_eq!(masked.expect("valid").config["websocket.url"], shown);
        let whole = merge(&stored, &request(&[("websocket.url", &shown)], &[]));
        assert_eq!(whole.expect("valid").config["websocket.url"], "wss://a/ws?token=s3cret");
    }

    #[test]
    fn etags_and_request_ids_are_checked() {
        assert_eq!(revision_of("").ok(), Some(0));
        assert_eq!(revision_of("41").ok(), Some(41));
        assert!(revision_of("0").is_err() && revision_of("x").is_err());
        assert!(check_request_id("").is_ok());
        assert!(check_request_id("0d0f3a52-3a5e-4a6c-9d0e-6b1f7a1f6b0e").is_ok());
        assert!(check_request_id("1").is_err());
    }
}
