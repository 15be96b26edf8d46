//! `wsctl wait connector/NAME --for=...`: blocks until a connector is as it should be, for scripts and tests.

use std::time::{Duration, Instant};

use clap::Args;
use tonic::{Code, Status};
use twinfeed_proto::admin::{Connector, ConnectorState, ConnectorStatus, Redundancy};

use super::connector::{self, state_name, state_word};
use crate::{error::Error, invocation::Invocation};

/// Cheap for a node (a read of its own memory after one heartbeat round), and below what a person notices.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) const EXAMPLES: &str = "\
Examples:
  wsctl wait connector/trades --for=delivering
  wsctl wait connector/trades --for=redundant --timeout 2m
  wsctl wait connector/trades --for=state=RUNNING
  wsctl wait connector/quotes --for=deleted";

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The connector, as `connector/NAME`
    #[arg(value_name = "connector/NAME", value_parser = connector_name)]
    target: String,
    /// `delivering`, `redundant` (no single fault loses data), `state=STATE` or `deleted`
    #[arg(long = "for", value_name = "CONDITION", value_parser = condition)]
    condition: Condition,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Records reach Kafka.
    Delivering,
    /// Delivering, and no single fault loses data.
    Redundant,
    State(ConnectorState),
    Deleted,
}

impl Condition {
    fn word(self) -> &'static str {
        match self {
            Self::Delivering => "delivering",
            Self::Redundant => "redundant",
            Self::State(state) => state_name(state),
            Self::Deleted => "deleted",
        }
    }
}

fn connector_name(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some(("connector" | "connectors" | "conn", name)) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err("give connector/NAME".to_owned()),
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    match text.split_once('=') {
        None if text == "delivering" => Ok(Condition::Delivering),
        None if text == "redundant" => Ok(Condition::Redundant),
        None if text == "deleted" => Ok(Condition::Deleted),
        Some(("state", state)) => ConnectorState::from_str_name(&format!("CONNECTOR_STATE_{}", state.to_uppercase()))
            .map(Condition::State)
            .ok_or_else(|| "states: RUNNING PAUSED STOPPED FAILED UNASSIGNED STARTING".to_owned()),
        _ => Err("give delivering, redundant, state=STATE or deleted".to_owned()),
    }
}

pub(crate) async fn run(invocation: &mut Invocation, arguments: &Arguments) -> Result<(), Error> {
    until(invocation, &arguments.target, arguments.condition).await?;
    invocation.output.progress(&format!("connector/{} is {}", arguments.target, arguments.condition.word()));
    Ok(())
}

/// Waits for the condition; nodes that come and go meanwhile do not end the wait.
///
/// # Errors
/// [`Error::TimedOut`] with the last state seen; NOT_FOUND at once unless `deleted` is waited for.
pub(crate) async fn until(invocation: &mut Invocation, name: &str, condition: Condition) -> Result<(), Error> {
    let expires = Instant::now() + invocation.patience();
    loop {
        let call = invocation.read_within(expires.saturating_duration_since(Instant::now()));
        let seen = match connector::fetch(invocation, call, name).await {
            Ok(connector) if holds(&connector, condition)? => return Ok(()),
            Ok(connector) => last_seen(&connector),
            Err(error) if error.code() == Some(Code::NotFound) && condition == Condition::Deleted => return Ok(()),
            Err(error) if error.may_pass() || matches!(error, Error::TimedOut { .. }) => error.to_string(),
            Err(error) => return Err(error),
        };
        if Instant::now() + POLL_INTERVAL >= expires {
            let waited = humantime::format_duration(invocation.patience());
            let hints = vec![format!("last seen: {seen}"), format!("see: wsctl connector describe {name}")];
            return Err(Error::TimedOut {
                what: format!("connector/{name} was not {} within {waited}", condition.word()),
                hints,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn holds(connector: &Connector, condition: Condition) -> Result<bool, Error> {
    let Some(status) = &connector.status else { return Ok(false) };
    Ok(match condition {
        Condition::Delivering => status.state() == ConnectorState::Running && status.has_data,
        Condition::Redundant if status.redundancy() == Redundancy::Single => {
            let what = format!("connector/{} has one subscription and never becomes redundant", connector.name);
            let help = format!("change it with: wsctl connector set {} twinfeed.redundancy=dual", connector.name);
            return Err(Error::from(Status::failed_precondition(what)).hint(help));
        }
        Condition::Redundant => status.state() == ConnectorState::Running && status.aligned && !status.at_risk,
        Condition::State(state) => status.state() == state,
        Condition::Deleted => false,
    })
}

fn last_seen(connector: &Connector) -> String {
    let said =
        |status: &ConnectorStatus| if status.message.is_empty() { status.note.clone() } else { status.message.clone() };
    let message = connector.status.as_ref().map(said).unwrap_or_default();
    let at_risk = connector.status.as_ref().is_some_and(|status| status.at_risk);
    let risk = if at_risk { ", at risk" } else { "" };
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    format!("{}{risk}{why}", state_word(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_targets_are_read_strictly() {
        assert_eq!(condition("delivering"), Ok(Condition::Delivering));
        assert_eq!(condition("state=running"), Ok(Condition::State(ConnectorState::Running)));
        for bad in ["", "state=", "state=HAPPY", "delivering=1", "feeds=2"] {
            assert!(condition(bad).is_err(), "{bad}");
        }
        assert_eq!(connector_name("connector/btc"), Ok("btc".to_owned()));
        for bad in ["btc", "connector/", "node/n1"] {
            assert!(connector_name(bad).is_err(), "{bad}");
        }
    }
}
