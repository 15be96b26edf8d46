//! `wsctl connector failover NAME [--to-node NODE]`.

use clap::Args;
use twinfeed_proto::admin::{FailoverConnectorRequest, connector_service_client::ConnectorServiceClient};

use crate::{error::Error, invocation::Invocation, json, output::Item};

pub(super) const EXAMPLES: &str = "\
Examples:
  wsctl wait connector/trades --for=redundant
  wsctl connector failover trades";

/// Arguments of `connector failover`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the connector
    name: String,
    /// The node that shall own it (the standby, if not given)
    #[arg(long, value_name = "NODE")]
    to_node: Option<String>,
}

pub(crate) async fn run(invocation: &mut Invocation, arguments: Arguments) -> Result<(), Error> {
    let Arguments { name, to_node } = arguments;
    let target = to_node.as_deref().unwrap_or("its standby");
    invocation.output.progress(&format!("Failing over {name} to {target} ..."));
    let call = invocation.movement(format!("wsctl connector get {name}"));
    let request = FailoverConnectorRequest {
        name: name.clone(),
        to_node: to_node.unwrap_or_default(),
        request_id: invocation.request_id.clone(),
    };
    let moved = invocation
        .connection
        .call(call, request, async |channel, request| {
            ConnectorServiceClient::new(channel).failover_connector(request).await
        })
        .await?;
    let text = format!(
        "connector/{name} moved from {} to {} (epoch {} -> {}) in {} ms\n",
        moved.from_node, moved.to_node, moved.from_epoch, moved.to_epoch, moved.duration_ms
    );
    let item = Item { name: format!("connector/{name}"), json: json::failover(&moved), cells: Vec::new() };
    Ok(invocation.output.one(&item, &text)?)
}
