//! `wsctl connector delete NAME`.

use clap::Args;
use serde_json::json;
use twinfeed_proto::admin::{DeleteConnectorRequest, connector_service_client::ConnectorServiceClient};

use crate::{error::Error, invocation::Invocation, output::Item};

/// Arguments of `connector delete`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the connector
    name: String,
    /// Only if it is still as this etag says (`get -o json`)
    #[arg(long)]
    etag: Option<String>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(invocation: &mut Invocation, arguments: Arguments) -> Result<(), Error> {
    let Arguments { name, etag, dry_run } = arguments;
    if !dry_run {
        invocation.confirm(&format!("deleting connector {name:?}"), &name)?;
    }
    let call = invocation.change(format!("wsctl connector get {name}"));
    let request = DeleteConnectorRequest {
        name: name.clone(),
        etag: etag.unwrap_or_default(),
        request_id: invocation.request_id.clone(),
        validate_only: dry_run,
    };
    invocation
        .connection
        .call(call, request, async |channel, request| {
            ConnectorServiceClient::new(channel).delete_connector(request).await
        })
        .await?;
    let words = if dry_run { "would be deleted (dry run)" } else { "deleted" };
    let json = json!({ "name": name, "result": words });
    let item = Item { name: format!("connector/{name}"), json, cells: Vec::new() };
    Ok(invocation.output.one(&item, &format!("connector/{name} {words}\n"))?)
}
