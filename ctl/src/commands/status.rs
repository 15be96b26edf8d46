//! `wsctl status`: the cluster on one screen, and its health as an exit code.

use std::time::SystemTime;

use twinfeed_proto::admin::{
    Connector, ConnectorState, GetStatusRequest, GetStatusResponse, cluster_service_client::ClusterServiceClient,
};

use super::connector::{COLUMNS, item};
use crate::{
    error::{EXIT_OK, Error},
    invocation::Invocation,
    json,
    output::{Format, Item},
    text::printable,
};

/// Ten thousand connectors, the most a cluster has, fill a tenth of it.
const STATUS_BYTES_MAX: usize = 64 * 1024 * 1024;
const DEGRADED: u8 = 1;
const CRITICAL: u8 = 2;

/// Prints the screen and returns 0 for healthy, 1 for degraded, 2 for critical.
pub(crate) async fn run(invocation: &mut Invocation) -> Result<u8, Error> {
    let status = fetch(invocation).await?;
    let output = invocation.output;
    let now = SystemTime::now();
    let items: Vec<Item> = status.connectors.iter().map(|connector| item(connector, now)).collect();
    match output.format {
        Format::Table => {
            output.text(&format!("{}{}{}", head(&status), output.table(COLUMNS, &items), tail(&status)))?
        }
        Format::Json => output.json(&json::cluster(&status))?,
        Format::Jsonl => output.text(&format!("{}\n", json::cluster(&status)))?,
        Format::Name => output.list(COLUMNS, &items)?,
    }
    Ok(health(&status))
}

/// Asks for the whole picture.
pub(crate) async fn fetch(invocation: &mut Invocation) -> Result<GetStatusResponse, Error> {
    let call = invocation.read();
    invocation
        .connection
        .call(call, GetStatusRequest {}, async |channel, request| {
            ClusterServiceClient::new(channel).max_decoding_message_size(STATUS_BYTES_MAX).get_status(request).await
        })
        .await
}

/// The line above the table: cluster, nodes, leader, version.
pub(crate) fn head(status: &GetStatusResponse) -> String {
    let up = status.members.iter().filter(|member| member.up).count();
    let leader = if status.leader.is_empty() {
        format!("no leader (term {})", status.term)
    } else {
        format!("leader {} (term {})", status.leader, status.term)
    };
    let stale = if status.linearizable { "" } else { "   not confirmed by a quorum, possibly old" };
    let nodes = status.members.len();
    let line =
        format!("Cluster {}   {up}/{nodes} nodes up   {leader}   v{}{stale}", status.cluster_name, status.version);
    format!("{}\n", printable(&line))
}

fn tail(status: &GetStatusResponse) -> String {
    status.problems.iter().map(|problem| format!("! {}\n", printable(problem))).collect()
}

/// Critical: something does not deliver or nothing can be changed. Degraded: the next fault would be the one too many.
fn health(status: &GetStatusResponse) -> u8 {
    let broken = |connector: &Connector| {
        let state = connector.status.as_ref().map(|status| status.state());
        matches!(state, Some(ConnectorState::Failed | ConnectorState::Unassigned))
    };
    if status.leader.is_empty() || status.connectors.iter().any(broken) {
        CRITICAL
    } else if !status.linearizable || !status.problems.is_empty() || status.members.iter().any(|member| !member.up) {
        DEGRADED
    } else {
        EXIT_OK
    }
}

#[cfg(test)]
mod tests {
    use twinfeed_proto::admin::{ConnectorStatus, Member};

    use super::*;

    fn healthy() -> GetStatusResponse {
        let status = ConnectorStatus { state: ConnectorState::Running.into(), ..Default::default() };
        GetStatusResponse {
            leader: "n1".into(),
            linearizable: true,
            members: vec![Member { up: true, ..Default::default() }],
            connectors: vec![Connector { status: Some(status), ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn the_exit_code_tells_healthy_degraded_critical() {
        assert_eq!(health(&healthy()), EXIT_OK);
        let at_risk = GetStatusResponse { problems: vec!["btc: at risk".into()], ..healthy() };
        assert_eq!(health(&at_risk), DEGRADED);
        let node_down = GetStatusResponse { members: vec![Member::default()], ..healthy() };
        assert_eq!(health(&node_down), DEGRADED);
        let leaderless = GetStatusResponse { leader: String::new(), ..healthy() };
        assert_eq!(health(&leaderless), CRITICAL);
        let mut failed = healthy();
        failed.connectors[0].status.as_mut().expect("set above").state = ConnectorState::Failed.into();
        assert_eq!(health(&failed), CRITICAL);
    }
}
