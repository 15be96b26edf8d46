//! `wsctl node drain NODE`.

use serde_json::json;
use twinfeed_proto::admin::{DrainNodeRequest, cluster_service_client::ClusterServiceClient};

use crate::{error::Error, invocation::Invocation, output::Item};

pub(crate) async fn run(invocation: &mut Invocation, node: String) -> Result<(), Error> {
    invocation.output.progress(&format!("Draining {node} ..."));
    let call = invocation.movement("wsctl cluster members");
    let request = DrainNodeRequest { node: node.clone(), request_id: invocation.request_id.clone() };
    let response = invocation
        .connection
        .call(call, request, async |channel, request| ClusterServiceClient::new(channel).drain_node(request).await)
        .await?;
    let moved = match response.moved.as_slice() {
        [] => "nothing had to move".to_owned(),
        moved => format!("moved: {}", moved.join(", ")),
    };
    let json = json!({ "node": node, "moved": response.moved });
    let item = Item { name: format!("node/{node}"), json, cells: Vec::new() };
    Ok(invocation.output.one(&item, &format!("node/{node} drained, {moved}\n"))?)
}
