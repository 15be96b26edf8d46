//! `wsctl connector`: the verbs, and what they share: the row of a connector, reading one, listing all.

mod compare;
mod create;
mod delete;
mod describe;
mod failover;
pub(crate) mod get;
mod lifecycle;
pub(crate) mod ls;
mod set;

use std::time::SystemTime;

use clap::{Args, Subcommand};
use tonic::Status;
use twinfeed_proto::admin::{
    Connector, ConnectorState, ConnectorStatus, GetConnectorRequest, ListConnectorsRequest, Redundancy,
    connector_service_client::ConnectorServiceClient,
};

use crate::{
    connection::Call,
    error::{EXIT_OK, Error},
    invocation::Invocation,
    json,
    output::{
        Column::{self, Left, Right},
        Item,
    },
    text::{age_of, count, millis, or_dash, percent, rate},
};

/// The most the API gives in one page.
const PAGE_SIZE: i32 = 1000;

/// Verbs of `connector`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a connector from flags, or from the JSON that Kafka Connect takes
    #[command(after_help = create::EXAMPLES)]
    Create(Box<create::Arguments>),
    /// All connectors, one per line
    #[command(visible_aliases = ["list", "ps"], after_help = "Examples:\n  wsctl connector ls\n  wsctl connector ls -o name")]
    Ls,
    /// One connector, on one line; `-o json` for everything
    #[command(after_help = "Examples:\n  wsctl connector get trades -o json")]
    Get(Named),
    /// Everything about one connector, for people: subscriptions, redundancy, configuration, recent events
    #[command(visible_alias = "desc", after_help = "Examples:\n  wsctl connector describe trades")]
    Describe(Named),
    /// What differs between the two lines, with samples of their messages (exit 0 nothing, 1 something, or not known yet)
    #[command(after_help = compare::EXAMPLES)]
    Compare(Named),
    /// Delete a connector; its topic and records stay
    #[command(visible_alias = "rm", after_help = "Examples:\n  wsctl connector delete quotes --yes")]
    Delete(delete::Arguments),
    /// Close subscriptions and producer, keep the nodes; what the feed sends meanwhile is missed
    #[command(after_help = "Examples:\n  wsctl connector pause trades")]
    Pause(Named),
    /// Run a paused or stopped connector again
    #[command(after_help = "Examples:\n  wsctl connector resume trades")]
    Resume(Named),
    /// Like pause, and give the nodes back too; `resume` runs it again
    #[command(after_help = "Examples:\n  wsctl connector stop trades\n  wsctl connector resume trades")]
    Stop(Named),
    /// Begin anew without a gap, the standby first; at once where it has failed, reads nothing, or has no standby
    #[command(after_help = "Examples:\n  wsctl connector restart trades")]
    Restart(lifecycle::Restart),
    /// Move the owner, make before break; answers when the new owner delivers
    #[command(after_help = failover::EXAMPLES)]
    Failover(failover::Arguments),
    /// Change configuration keys; all of them are in docs/configuration.md
    #[command(after_help = "Examples:\n  wsctl connector set trades twinfeed.commit.interval.ms=20")]
    Set(set::SetArguments),
    /// Remove configuration keys: their defaults apply again
    #[command(after_help = "Examples:\n  wsctl connector unset trades twinfeed.commit.interval.ms")]
    Unset(set::UnsetArguments),
}

/// The argument of verbs that take a connector and nothing else.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name of the connector
    name: String,
}

/// Runs the verb and returns its exit code.
pub(crate) async fn run(invocation: &mut Invocation, command: Command) -> Result<u8, Error> {
    match command {
        Command::Compare(Named { name }) => return compare::run(invocation, &name).await,
        Command::Create(arguments) => create::run(invocation, *arguments).await,
        Command::Ls => ls::run(invocation).await,
        Command::Get(Named { name }) => get::run(invocation, &name).await,
        Command::Describe(Named { name }) => describe::run(invocation, &name).await,
        Command::Delete(arguments) => delete::run(invocation, arguments).await,
        Command::Pause(Named { name }) => lifecycle::pause(invocation, name).await,
        Command::Resume(Named { name }) => lifecycle::resume(invocation, name).await,
        Command::Stop(Named { name }) => lifecycle::stop(invocation, name).await,
        Command::Restart(arguments) => lifecycle::restart(invocation, arguments).await,
        Command::Failover(arguments) => failover::run(invocation, arguments).await,
        Command::Set(arguments) => set::set(invocation, arguments).await,
        Command::Unset(arguments) => set::unset(invocation, arguments).await,
    }?;
    Ok(EXIT_OK)
}

/// The columns of [`item`].
pub(crate) const COLUMNS: &[Column] = &[
    Left("NAME"),
    Left("STATE"),
    Left("OWNER"),
    Left("STANDBY"),
    Left("FEEDS"),
    Left("REDUNDANCY"),
    Right("RATE/s"),
    Right("UNACKED"),
    Right("P99"),
    Right("DEDUP"),
    Right("AGE"),
];

/// A connector as a row, as JSON and by name.
pub(crate) fn item(connector: &Connector, now: SystemTime) -> Item {
    let nothing = ConnectorStatus::default();
    let status = connector.status.as_ref().unwrap_or(&nothing);
    let created = age_of(connector.create_time.as_ref(), now);
    Item {
        name: format!("connector/{}", connector.name),
        json: json::connector(connector),
        cells: vec![
            connector.name.clone(),
            state_word(connector).to_owned(),
            or_dash(&status.owner),
            or_dash(&status.standby),
            feeds(status),
            redundancy_word(status),
            rate(status.records_per_second),
            count(status.unacked_records),
            millis(status.latency_p99_ms),
            percent(status.frames_deduplicated, status.frames_received),
            created,
        ],
    }
}

/// The connector's state as a word.
pub(crate) fn state_word(connector: &Connector) -> &'static str {
    state_name(connector.status.as_ref().map_or(ConnectorState::Unspecified, |status| status.state()))
}

/// A state without the prefix that protobuf wants: `RUNNING`.
pub(crate) fn state_name(state: ConnectorState) -> &'static str {
    state.as_str_name().trim_start_matches("CONNECTOR_STATE_")
}

/// Each subscription with whether it is connected: `P+ S-`.
fn feeds(status: &ConnectorStatus) -> String {
    let sign = |connected| if connected { '+' } else { '-' };
    let letter = |role: &str| role.chars().next().unwrap_or('?').to_ascii_uppercase();
    let feeds = status.subscriptions.iter().map(|feed| format!("{}{}", letter(&feed.role), sign(feed.connected)));
    or_dash(&feeds.collect::<Vec<_>>().join(" "))
}

/// Whether a fault would lose data, and how much of the last minute it would be; a single subscription promises nothing to begin with.
fn redundancy_word(status: &ConnectorStatus) -> String {
    let alone = status.primary_alone.max(status.secondary_alone);
    match (status.redundancy(), status.state()) {
        (Redundancy::Single, _) => "single".to_owned(),
        (_, ConnectorState::Paused | ConnectorState::Stopped) | (Redundancy::Unspecified, _) => "-".to_owned(),
        (Redundancy::Dual, _) if status.at_risk => "AT-RISK".to_owned(),
        (Redundancy::Dual, _) if status.idle => "idle".to_owned(),
        // Never rounded to nothing: what one line alone has is what a fault would cost.
        (Redundancy::Dual, _) if alone > 0.0 => format!("differs {:.1}%", (alone * 100.0).max(0.1)),
        (Redundancy::Dual, _) => "redundant".to_owned(),
    }
}

/// One connector.
pub(crate) async fn fetch(invocation: &mut Invocation, call: Call, name: &str) -> Result<Connector, Error> {
    let request = GetConnectorRequest { name: name.to_owned() };
    let response = invocation
        .connection
        .call(call, request, async |channel, request| ConnectorServiceClient::new(channel).get_connector(request).await)
        .await?;
    expect_connector(response.connector)
}

/// All connectors, by name.
async fn all(invocation: &mut Invocation) -> Result<Vec<Connector>, Error> {
    let mut connectors = Vec::new();
    let mut request = ListConnectorsRequest { page_size: PAGE_SIZE, page_token: String::new() };
    loop {
        let call = invocation.read();
        let response = invocation
            .connection
            .call(call, request.clone(), async |channel, request| {
                ConnectorServiceClient::new(channel).list_connectors(request).await
            })
            .await?;
        connectors.extend(response.connectors);
        if response.next_page_token.is_empty() {
            return Ok(connectors);
        }
        request.page_token = response.next_page_token;
    }
}

/// The names of all connectors.
pub(crate) async fn names(invocation: &mut Invocation) -> Result<Vec<String>, Error> {
    Ok(all(invocation).await?.into_iter().map(|connector| connector.name).collect())
}

/// A message field that every server of this API fills.
fn expect_connector(connector: Option<Connector>) -> Result<Connector, Error> {
    connector.ok_or_else(|| Status::internal("the answer holds no connector: is this a Twinfeed node?").into())
}

/// A changed connector: the words for people, everything for scripts, warnings on stderr.
fn changed(invocation: &Invocation, connector: &Connector, words: &str, warnings: &[String]) -> Result<(), Error> {
    warnings.iter().for_each(|warning| invocation.output.progress(&format!("warning: {warning}")));
    let text = format!("connector/{} {words}\n", connector.name);
    Ok(invocation.output.one(&item(connector, SystemTime::now()), &text)?)
}
