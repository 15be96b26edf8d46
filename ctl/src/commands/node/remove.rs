//! `wsctl node remove NODE`: the way to replace a node whose disk is gone.

use twinfeed_proto::admin::{RemoveNodeRequest, cluster_service_client::ClusterServiceClient};

use super::changed;
use crate::{error::Error, invocation::Invocation};

pub(crate) async fn run(invocation: &mut Invocation, node: String) -> Result<(), Error> {
    invocation.confirm(&format!("removing node {node:?} for good"), &node)?;
    let call = invocation.change("wsctl cluster members");
    let request = RemoveNodeRequest { node: node.clone(), request_id: invocation.request_id.clone() };
    invocation
        .connection
        .call(call, request, async |channel, request| ClusterServiceClient::new(channel).remove_node(request).await)
        .await?;
    changed(invocation, &node, "removed")
}
