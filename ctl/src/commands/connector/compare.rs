//! `wsctl connector compare NAME`: how the two lines of a connector compare, and what differs where something does.

use std::{fmt::Write as _, time::SystemTime};

use twinfeed_proto::admin::{
    CompareConnectorRequest, CompareConnectorResponse, ComparedLine, Subscription, compare_connector_response::State,
    connector_service_client::ConnectorServiceClient,
};

use crate::{
    error::{EXIT_FAILURE, EXIT_OK, Error},
    invocation::Invocation,
    json,
    output::Item,
    text::{age, age_of, count, or_dash, percent, printable},
};

pub(crate) const EXAMPLES: &str = "Examples:\n  wsctl wait connector/trades --for=redundant\n  wsctl connector compare trades\n  wsctl connector compare trades -o json";

/// Prints the comparison; 0 where nothing differs, 1 where something does or nothing can be said.
pub(crate) async fn run(invocation: &mut Invocation, name: &str) -> Result<u8, Error> {
    let call = invocation.read();
    let request = CompareConnectorRequest { name: name.to_owned() };
    let compared = invocation
        .connection
        .call(call, request, async |channel, request| {
            ConnectorServiceClient::new(channel).compare_connector(request).await
        })
        .await?;
    let item = Item { name: format!("connector/{name}"), json: json::comparison(name, &compared), cells: Vec::new() };
    invocation.output.one(&item, &text(name, &compared, SystemTime::now()))?;
    Ok(match compared.state() {
        State::Agree | State::Idle => EXIT_OK,
        _ => EXIT_FAILURE,
    })
}

fn text(name: &str, compared: &CompareConnectorResponse, now: SystemTime) -> String {
    let mut page = Page::default();
    let state = compared.state().as_str_name().trim_start_matches("STATE_");
    page.line(&format!("connector/{name}  {state}: {}", compared.summary));
    for line in &compared.lines {
        page.line(&described(line, compared, now));
    }
    if compared.skew_ms > 0 {
        page.line(&format!("The two usually differ by {} ms in time.", compared.skew_ms));
    }
    if !compared.samples.is_empty() {
        page.line("");
        page.line("Messages that are most alike (P: primary, S: secondary):");
    }
    for (i, pair) in compared.samples.iter().enumerate() {
        if i > 0 {
            page.line("");
        }
        page.line(&format!("  P: {}", sample(&pair.primary)));
        page.line(&format!("  S: {}", sample(&pair.secondary)));
    }
    if !compared.pointers.is_empty() {
        page.line("");
        page.line("They differ at:");
        compared.pointers.iter().for_each(|pointer| page.line(&format!("  {pointer}")));
    }
    if !compared.advice.is_empty() {
        page.line("");
        page.line(&compared.advice);
    }
    page.text
}

/// Owner's or standby's line in one row.
fn described(line: &ComparedLine, compared: &CompareConnectorResponse, now: SystemTime) -> String {
    let nothing = Subscription::default();
    let feed = line.subscription.as_ref().unwrap_or(&nothing);
    let mut facts = vec![if feed.connected {
        format!("connected for {}", age_of(feed.connected_since.as_ref(), now))
    } else {
        "NOT CONNECTED".to_owned()
    }];
    if line.behind_ms > 0 {
        facts.push(format!("behind for {}", age(line.behind_ms.div_ceil(1_000))));
    }
    if compared.messages > 0 {
        let (alone, part) = (count(line.alone), percent(line.alone, compared.messages));
        facts.push(format!("alone with {alone} of {} messages ({part})", count(compared.messages)));
    }
    format!("  {:<9} {}  {}  {}", feed.role, or_dash(&feed.node), or_dash(&feed.url), facts.join(", "))
}

fn sample(text: &str) -> &str {
    if text.is_empty() { "(nothing like it)" } else { text }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        writeln!(self.text, "{}", printable(line)).expect("writing to a String cannot fail");
    }
}
