//! `wsctl connector set NAME KEY=VALUE...` and `unset NAME KEY...`: change single keys, leave the others alone.

use std::collections::HashMap;

use clap::Args;
use prost_types::FieldMask;
use twinfeed_proto::admin::{UpdateConnectorRequest, connector_service_client::ConnectorServiceClient};

use super::{changed, expect_connector};
use crate::{error::Error, invocation::Invocation};

/// Arguments of `connector set`.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// Name of the connector
    name: String,
    /// Configuration keys with their new values
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pairs: Vec<(String, String)>,
    #[command(flatten)]
    guard: Guard,
}

/// Arguments of `connector unset`.
#[derive(Debug, Args)]
pub(crate) struct UnsetArguments {
    /// Name of the connector
    name: String,
    /// Configuration keys to remove
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    guard: Guard,
}

#[derive(Debug, Args)]
struct Guard {
    /// Only if it is still as this etag says (`get -o json`)
    #[arg(long)]
    etag: Option<String>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Reads `KEY=VALUE`; the value may hold further equals signs.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn set(invocation: &mut Invocation, arguments: SetArguments) -> Result<(), Error> {
    let keys = arguments.pairs.iter().map(|(key, _)| key.clone()).collect();
    update(invocation, arguments.name, keys, arguments.pairs.into_iter().collect(), arguments.guard).await
}

pub(crate) async fn unset(invocation: &mut Invocation, arguments: UnsetArguments) -> Result<(), Error> {
    update(invocation, arguments.name, arguments.keys, HashMap::new(), arguments.guard).await
}

/// A masked key that is absent from the map is removed.
async fn update(
    invocation: &mut Invocation,
    name: String,
    keys: Vec<String>,
    config: HashMap<String, String>,
    guard: Guard,
) -> Result<(), Error> {
    let call = invocation.change(format!("wsctl connector get {name} -o json"));
    let request = UpdateConnectorRequest {
        name,
        config,
        update_mask: Some(FieldMask { paths: keys.iter().map(|key| format!("config.{key}")).collect() }),
        etag: guard.etag.unwrap_or_default(),
        request_id: invocation.request_id.clone(),
        validate_only: guard.dry_run,
        allow_missing: false,
    };
    let response = invocation
        .connection
        .call(call, request, async |channel, request| {
            ConnectorServiceClient::new(channel).update_connector(request).await
        })
        .await?;
    let words = if guard.dry_run { "would be configured (dry run)" } else { "configured" };
    changed(invocation, &expect_connector(response.connector)?, words, &response.warnings)
}
