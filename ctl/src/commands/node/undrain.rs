//! `wsctl node undrain NODE`.

use twinfeed_proto::admin::{UndrainNodeRequest, cluster_service_client::ClusterServiceClient};

use super::changed;
use crate::{error::Error, invocation::Invocation};

pub(crate) async fn run(invocation: &mut Invocation, node: String) -> Result<(), Error> {
    let call = invocation.change("wsctl cluster members");
    let request = UndrainNodeRequest { node: node.clone(), request_id: invocation.request_id.clone() };
    invocation
        .connection
        .call(call, request, async |channel, request| ClusterServiceClient::new(channel).undrain_node(request).await)
        .await?;
    changed(invocation, &node, "takes work again")
}
