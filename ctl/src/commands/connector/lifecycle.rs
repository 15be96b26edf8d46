//! `wsctl connector pause|resume|stop|restart NAME`: one name in, the connector out.

use clap::Args;
use twinfeed_proto::admin::{
    PauseConnectorRequest, RestartConnectorRequest, ResumeConnectorRequest, StopConnectorRequest, TargetState,
    connector_service_client::ConnectorServiceClient as Client,
};

use super::{changed, expect_connector};
use crate::{connection::Call, error::Error, invocation::Invocation};

/// Arguments of `connector restart`.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Name of the connector
    name: String,
    /// Close and reopen both nodes at once: what waits for Kafka is forgotten, and what the feed sends meanwhile is a gap
    #[arg(long)]
    force: bool,
}

pub(crate) async fn pause(invocation: &mut Invocation, name: String) -> Result<(), Error> {
    let (call, request_id) = prepare(invocation, &name);
    let request = PauseConnectorRequest { name, request_id };
    let send = async |channel, request| Client::new(channel).pause_connector(request).await;
    let response = invocation.connection.call(call, request, send).await?;
    changed(invocation, &expect_connector(response.connector)?, "paused", &[])
}

pub(crate) async fn resume(invocation: &mut Invocation, name: String) -> Result<(), Error> {
    let (call, request_id) = prepare(invocation, &name);
    let request = ResumeConnectorRequest { name, request_id };
    let send = async |channel, request| Client::new(channel).resume_connector(request).await;
    let response = invocation.connection.call(call, request, send).await?;
    changed(invocation, &expect_connector(response.connector)?, "resumed", &[])
}

pub(crate) async fn stop(invocation: &mut Invocation, name: String) -> Result<(), Error> {
    let (call, request_id) = prepare(invocation, &name);
    let request = StopConnectorRequest { name, request_id };
    let send = async |channel, request| Client::new(channel).stop_connector(request).await;
    let response = invocation.connection.call(call, request, send).await?;
    changed(invocation, &expect_connector(response.connector)?, "stopped", &[])
}

pub(crate) async fn restart(invocation: &mut Invocation, arguments: Restart) -> Result<(), Error> {
    let Restart { name, force } = arguments;
    let (call, request_id) = prepare(invocation, &name);
    let request = RestartConnectorRequest { name, request_id, force };
    let send = async |channel, request| Client::new(channel).restart_connector(request).await;
    let response = invocation.connection.call(call, request, send).await?;
    let connector = expect_connector(response.connector)?;
    // It begins anew only once it may run.
    let words = match connector.target_state() {
        TargetState::Paused | TargetState::Stopped => {
            format!("does not run; run it with: wsctl connector resume {}", connector.name)
        }
        TargetState::Running | TargetState::Unspecified => "restarting".to_owned(),
    };
    changed(invocation, &connector, &words, &[])
}

fn prepare(invocation: &Invocation, name: &str) -> (Call, String) {
    (invocation.change(format!("wsctl connector get {name}")), invocation.request_id.clone())
}
