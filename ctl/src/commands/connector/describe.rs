//! `wsctl connector describe NAME`: all that is known of one connector, in paragraphs for people.

use std::{fmt::Write as _, time::SystemTime};

use twinfeed_proto::admin::{Connector, ConnectorStatus, Event, Subscription};

use super::{feeds, fetch, item, redundancy_word, state_word};
use crate::{
    commands::events,
    error::Error,
    invocation::Invocation,
    text::{age_of, count, millis, or_dash, percent, printable, rate},
};

const EVENTS_LAST: i32 = 10;

pub(crate) async fn run(invocation: &mut Invocation, name: &str) -> Result<(), Error> {
    let call = invocation.read();
    let connector = fetch(invocation, call, name).await?;
    // Without its events the description is still worth having.
    let recent = events::past(invocation, EVENTS_LAST, name.to_owned()).await.unwrap_or_default();
    let now = SystemTime::now();
    Ok(invocation.output.one(&item(&connector, now), &text(&connector, &recent, now))?)
}

fn text(connector: &Connector, recent: &[Event], now: SystemTime) -> String {
    let nothing = ConnectorStatus::default();
    let status = connector.status.as_ref().unwrap_or(&nothing);
    let mut page = Page::default();
    page.field("Name", &connector.name);
    page.field("State", state_word(connector));
    if !status.message.is_empty() {
        page.field("Message", &status.message);
    }
    if !status.note.is_empty() {
        page.field("Note", &status.note);
    }
    page.field("Target state", connector.target_state().as_str_name().trim_start_matches("TARGET_STATE_"));
    page.field("Topic", &or_dash(&status.topic));
    page.field("Owner", &or_dash(&status.owner));
    page.field("Standby", &or_dash(&status.standby));
    page.field("Epoch", &status.epoch.to_string());
    page.field("Redundancy", &redundancy_word(status));
    page.field("Aligned", if status.aligned { "yes" } else { "no" });
    page.field("Etag", &connector.etag);
    page.field("Created", &format!("{} ago", age_of(connector.create_time.as_ref(), now)));
    page.field("Changed", &format!("{} ago", age_of(connector.update_time.as_ref(), now)));
    page.title(&format!("Subscriptions ({})", feeds(status)));
    status.subscriptions.iter().for_each(|feed| page.line(&subscription(feed, now)));
    page.title("Traffic of the present owner");
    let copies = percent(status.frames_deduplicated, status.frames_received);
    page.field("  Records committed", &count(status.records_committed));
    page.field("  Records per second", &rate(status.records_per_second));
    page.field("  Frames received", &count(status.frames_received));
    page.field("  Copies recognised", &format!("{} ({copies})", count(status.frames_deduplicated)));
    page.field("  Waiting for Kafka", &count(status.unacked_records));
    page.field("  Retained at standby", &count(status.retained_frames));
    let (p50, p99) = (millis(status.latency_p50_ms), millis(status.latency_p99_ms));
    page.field("  Read to commit", &format!("p50 {p50}, p99 {p99}"));
    page.title("Configuration");
    let mut keys: Vec<_> = connector.config.iter().collect();
    keys.sort();
    keys.iter().for_each(|(key, value)| page.line(&format!("{key} = {value}")));
    if !recent.is_empty() {
        page.title("Recent events");
        recent.iter().for_each(|event| page.line(&events::line(event)));
    }
    page.text
}

fn subscription(feed: &Subscription, now: SystemTime) -> String {
    let state = if feed.connected {
        format!("connected for {}", age_of(feed.connected_since.as_ref(), now))
    } else {
        "NOT CONNECTED".to_owned()
    };
    let spoke = match &feed.last_message {
        Some(_) => format!("last message {} ago", age_of(feed.last_message.as_ref(), now)),
        None => "no message yet".to_owned(),
    };
    let error = if feed.last_error.is_empty() { String::new() } else { format!(", last error: {}", feed.last_error) };
    let (node, reconnects) = (or_dash(&feed.node), feed.reconnects);
    format!("{} at {node}: {state}, {spoke}, {reconnects} reconnects, {}{error}", feed.role, feed.url)
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn field(&mut self, name: &str, value: &str) {
        let name = format!("{name}:");
        writeln!(self.text, "{name:<24}{}", printable(value)).expect("writing to a String cannot fail");
    }

    fn title(&mut self, title: &str) {
        writeln!(self.text, "{title}:").expect("writing to a String cannot fail");
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "  {}", printable(line)).expect("writing to a String cannot fail");
    }
}
