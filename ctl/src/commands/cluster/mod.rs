//! `wsctl cluster`: the members and the state of the Raft group.

pub(crate) mod members;
mod status;

use clap::Subcommand;
use twinfeed_proto::admin::{ListMembersRequest, Member, cluster_service_client::ClusterServiceClient};

use crate::{error::Error, invocation::Invocation};

/// Verbs of `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Nodes with their Raft position
    #[command(visible_aliases = ["ls", "ps"], after_help = "Examples:\n  wsctl cluster members")]
    Members,
    /// Leader, term and nodes, without the connectors
    #[command(after_help = "Examples:\n  wsctl cluster status")]
    Status,
}

pub(crate) async fn run(invocation: &mut Invocation, command: Command) -> Result<(), Error> {
    match command {
        Command::Members => members::run(invocation).await,
        Command::Status => status::run(invocation).await,
    }
}

/// The members, by name.
pub(crate) async fn fetch(invocation: &mut Invocation) -> Result<Vec<Member>, Error> {
    let call = invocation.read();
    let response = invocation
        .connection
        .call(call, ListMembersRequest {}, async |channel, request| {
            ClusterServiceClient::new(channel).list_members(request).await
        })
        .await?;
    Ok(response.members)
}

/// The members' names.
pub(crate) async fn names(invocation: &mut Invocation) -> Result<Vec<String>, Error> {
    Ok(fetch(invocation).await?.into_iter().map(|member| member.name).collect())
}
