//! `wsctl connector create NAME ...`: flags, a Kafka Connect JSON file, or the file with flags on top of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::Value;
use tonic::Code;
use twinfeed_proto::admin::{CreateConnectorRequest, TargetState, connector_service_client::ConnectorServiceClient};

use super::{changed, expect_connector, set::key_value};
use crate::{
    commands::wait::{Condition, until},
    error::Error,
    invocation::Invocation,
};

/// A configuration and its subscription messages fit many times; a wrong file name is caught.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Either may hold the headers.
const HEADER_KEYS: [&str; 2] = ["websocket.headers", "twinfeed.websocket.headers"];
const CONNECTOR_CLASS: &str = "io.conduktor.connect.websocket.WebSocketSourceConnector";

pub(super) const EXAMPLES: &str = "\
Examples:
  wsctl connector create trades --url wss://feed.example/ws --topic trades --wait
  wsctl connector create quotes --url wss://a.example/ws --secondary-url wss://b.example/ws --topic quotes \
     --subscribe '{\"op\":\"subscribe\",\"channel\":\"quotes\"}'
  wsctl connector create --from-file connector.json --dry-run";

/// Arguments of `connector create`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the connector; may come from the file instead
    #[arg(required_unless_present = "from_file")]
    name: Option<String>,
    /// WebSocket URL of the feed, ws:// or wss://
    #[arg(long, required_unless_present = "from_file")]
    url: Option<String>,
    /// Another URL for the secondary subscription, where the feed offers one
    #[arg(long, value_name = "URL", conflicts_with = "single")]
    secondary_url: Option<String>,
    /// Kafka topic
    #[arg(long, required_unless_present = "from_file")]
    topic: Option<String>,
    /// Message to send after each connect: the text itself, or @FILE; repeatable, sent in order
    #[arg(long, value_name = "JSON|@FILE")]
    subscribe: Vec<String>,
    /// HTTP header of the upgrade request; repeatable
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,
    /// File that holds the bearer token (not the token itself: command lines are public)
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// Any other configuration key; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// One subscription instead of two: a crash of its node loses what the feed sends until the takeover
    #[arg(long)]
    single: bool,
    /// Kafka Connect JSON: {"name": ..., "config": {...}} or the configuration alone; - for stdin
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Create it without running it; `wsctl connector resume` starts it
    #[arg(long)]
    stopped: bool,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Return only when records reach Kafka
    #[arg(long, conflicts_with_all = ["dry_run", "stopped"])]
    wait: bool,
}

pub(crate) async fn run(invocation: &mut Invocation, arguments: Arguments) -> Result<(), Error> {
    let (dry_run, wait) = (arguments.dry_run, arguments.wait);
    let initial_state = if arguments.stopped { TargetState::Stopped } else { TargetState::Running };
    let (name, config) = read(arguments)?;
    let call = invocation.change(format!("wsctl connector get {name}"));
    let request = CreateConnectorRequest {
        name: name.clone(),
        config: config.into_iter().collect(),
        request_id: invocation.request_id.clone(),
        validate_only: dry_run,
        initial_state: initial_state.into(),
    };
    let response = invocation
        .connection
        .call(call, request, async |channel, request| {
            ConnectorServiceClient::new(channel).create_connector(request).await
        })
        .await
        .map_err(|error| match error.code() {
            Some(Code::AlreadyExists) => error.hint(format!("change it with: wsctl connector set {name} KEY=VALUE")),
            _ => error,
        })?;
    let connector = expect_connector(response.connector)?;
    let words = if dry_run { "would be created (dry run)" } else { "created" };
    changed(invocation, &connector, words, &response.warnings)?;
    if wait {
        invocation.output.progress(&format!("Waiting until {name} delivers ..."));
        until(invocation, &name, Condition::Delivering).await?;
    }
    Ok(())
}

type Config = BTreeMap<String, String>;

/// Merges file and flags; a flag wins over the file.
fn read(arguments: Arguments) -> Result<(String, Config), Error> {
    let (file_name, mut config) = match &arguments.from_file {
        Some(path) => connect_json(&contents(path)?, path)?,
        None => (None, Config::from([("connector.class".to_owned(), CONNECTOR_CLASS.to_owned())])),
    };
    let name = arguments.name.clone().or(file_name).ok_or_else(|| {
        Error::usage("the file names no connector", "give a NAME, or a \"name\" beside \"config\" in the file")
    })?;
    let mut put = |key: &str, value: Option<String>| value.map(|value| config.insert(key.to_owned(), value));
    put("websocket.url", arguments.url.clone());
    put("twinfeed.websocket.secondary.url", arguments.secondary_url.clone());
    put("kafka.topic", arguments.topic.clone());
    put("websocket.auth.token", arguments.auth_token_file.as_deref().map(token).transpose()?);
    put("twinfeed.redundancy", arguments.single.then(|| "single".to_owned()));
    let messages = arguments.subscribe.iter().map(|text| message(text)).collect::<Result<Vec<_>, _>>()?;
    match messages.as_slice() {
        [] => {}
        [one] => drop(put("websocket.subscription.message", Some(one.clone()))),
        several => drop(put("twinfeed.websocket.subscription.messages", Some(Value::from(several).to_string()))),
    }
    if let Some((key, value)) = headers(&arguments.header)? {
        config.retain(|key, _| !HEADER_KEYS.contains(&key.as_str()));
        config.insert(key.to_owned(), value);
    }
    config.extend(arguments.config);
    Ok((name, config))
}

fn contents(path: &Path) -> Result<String, Error> {
    let unreadable =
        |error: io::Error| Error::usage(format!("cannot read {}: {error}", path.display()), "check the path");
    if path.as_os_str() == "-" {
        return io::read_to_string(io::stdin()).map_err(unreadable);
    }
    let size_bytes = fs::metadata(path).map_err(unreadable)?.len();
    if size_bytes > FILE_BYTES_MAX {
        let what = format!("{} has {size_bytes} bytes, more than {FILE_BYTES_MAX}", path.display());
        return Err(Error::usage(what, "is this the right file?"));
    }
    fs::read_to_string(path).map_err(unreadable)
}

/// Reads `{"name", "config"}` or the bare map. Connect takes numbers and booleans for strings; so does this.
fn connect_json(text: &str, path: &Path) -> Result<(Option<String>, Config), Error> {
    let wrong = |what: String| {
        Error::usage(format!("{}: {what}", path.display()), "give the JSON that Kafka Connect's POST /connectors takes")
    };
    let document: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let Value::Object(mut fields) = document else { return Err(wrong("not a JSON object".to_owned())) };
    let (name, map) = match fields.remove("config") {
        Some(Value::Object(config)) => (fields.remove("name"), config),
        Some(_) => return Err(wrong("\"config\" is not an object".to_owned())),
        None => (fields.get("name").cloned(), fields),
    };
    let mut config = Config::new();
    for (key, value) in map {
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(wrong(format!("the value of {key:?} is not a string")));
            }
        };
        config.insert(key, value);
    }
    Ok((name.and_then(|name| name.as_str().map(str::to_owned)), config))
}

/// Puts headers under the key that can carry them: the original connector's `name:value,name:value` form, or, where a value
/// holds a comma, which that form cannot write, a JSON object.
fn headers(headers: &[String]) -> Result<Option<(&'static str, String)>, Error> {
    let [plain, object] = HEADER_KEYS;
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for header in headers {
        let Some((name, value)) = header.split_once(':').filter(|(name, _)| !name.contains(',')) else {
            return Err(Error::usage("a header cannot be sent", "give NAME:VALUE"));
        };
        values.entry(name.trim()).or_default().push(value.trim());
    }
    if headers.is_empty() {
        return Ok(None);
    }
    if headers.iter().any(|header| header.contains(',')) {
        let value = |values: Vec<&str>| if let [one] = values[..] { Value::from(one) } else { Value::from(values) };
        let object_of: serde_json::Map<String, Value> =
            values.into_iter().map(|(name, values)| (name.to_owned(), value(values))).collect();
        return Ok(Some((object, Value::Object(object_of).to_string())));
    }
    Ok(Some((plain, headers.join(","))))
}

fn token(path: &Path) -> Result<String, Error> {
    Ok(contents(path)?.trim_end().to_owned())
}

fn message(text: &str) -> Result<String, Error> {
    match text.strip_prefix('@') {
        Some(path) => Ok(contents(Path::new(path))?.trim_end().to_owned()),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_json_is_taken_in_both_shapes() {
        let path = PathBuf::from("f.json");
        let (name, config) =
            connect_json(r#"{"name":"btc","config":{"tasks.max":1,"a":"b","c":true}}"#, &path).expect("valid");
        assert_eq!(name.as_deref(), Some("btc"));
        let expected = [("a", "b"), ("c", "true"), ("tasks.max", "1")];
        assert!(config.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
        let (name, config) = connect_json(r#"{"name":"btc","a":"b"}"#, &path).expect("valid");
        assert_eq!((name.as_deref(), config.len()), (Some("btc"), 2));
        for bad in ["", "[]", r#"{"config":1}"#, r#"{"config":{"a":null}}"#, r#"{"config":{"a":[1]}}"#] {
            assert!(connect_json(bad, &path).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_may_hold_commas() {
        let [plain, object] = HEADER_KEYS;
        assert_eq!(headers(&[]).expect("valid"), None);
        assert_eq!(headers(&["A:1".into(), "B: 2".into()]).expect("valid"), Some((plain, "A:1,B: 2".to_owned())));
        let given = ["Cookie: a=b; c=d,e".into(), "X:1".into(), "X: 2".into()];
        let expected = r#"{"Cookie":"a=b; c=d,e","X":["1","2"]}"#;
        assert_eq!(headers(&given).expect("valid"), Some((object, expected.to_owned())));
        for bad in ["A", "A,B:1"] {
            assert!(headers(&[bad.into()]).is_err(), "{bad}");
        }
    }
}
