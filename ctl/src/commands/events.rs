//! `wsctl events`: what happened, and with `-f` what happens. A broken stream is taken up at the next endpoint
//! without printing anything twice.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};
use twinfeed_proto::admin::{
    Event, StreamEventsRequest, StreamEventsResponse, cluster_service_client::ClusterServiceClient,
};

use crate::{
    error::Error,
    invocation::Invocation,
    json,
    output::{
        Column::{self, Left, Right},
        Format, Item, Output,
    },
    text::{or_dash, printable, rfc3339},
};

const COLUMNS: &[Column] =
    &[Left("TIME"), Left("KIND"), Left("NODE"), Left("CONNECTOR"), Right("EPOCH"), Left("MESSAGE")];
/// Asked for again after a broken stream; more events than happen while an endpoint is replaced.
const RESUME_LAST: i32 = 1000;
/// Between attempts while no endpoint answers: long enough to spare a restarting node.
const RESUME_PAUSE: Duration = Duration::from_millis(500);

pub(crate) const EXAMPLES: &str = "\
Examples:
  wsctl events --last 20
  wsctl events -f --connector trades   # until Ctrl-C
  wsctl events -o jsonl";

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go on with new events as they happen
    #[arg(short, long)]
    follow: bool,
    /// How many past events to print first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i32).range(0..=1000))]
    last: i32,
    /// Only those of this connector
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
}

pub(crate) async fn run(invocation: &mut Invocation, arguments: &Arguments) -> Result<(), Error> {
    let connector = arguments.connector.clone().unwrap_or_default();
    if !arguments.follow {
        let events = past(invocation, arguments.last, connector).await?;
        return Ok(invocation.output.list(COLUMNS, &events.iter().map(item).collect::<Vec<_>>())?);
    }
    let mut printed = Printed::default();
    let mut request = StreamEventsRequest { last: arguments.last, no_follow: false, connector };
    loop {
        let call = invocation.read();
        let opened = invocation.connection.call(call, request.clone(), async |channel, request| {
            ClusterServiceClient::new(channel).stream_events(request).await
        });
        match opened.await {
            Ok(mut stream) => {
                // A stream that broke ends here like one that was closed: both are taken up again.
                while let Ok(Some(response)) = stream.message().await {
                    let Some(event) = response.event.filter(|event| printed.is_new(event)) else { continue };
                    print(invocation.output, &event)?;
                }
            }
            Err(error) if !error.may_pass() => return Err(error),
            Err(error) if !printed.any => return Err(error),
            Err(_) => {}
        }
        invocation.output.progress("the event stream broke off, taking it up again ...");
        request.last = RESUME_LAST;
        tokio::time::sleep(RESUME_PAUSE).await;
    }
}

/// The last events, oldest first.
pub(crate) async fn past(invocation: &mut Invocation, last: i32, connector: String) -> Result<Vec<Event>, Error> {
    let call = invocation.read();
    let request = StreamEventsRequest { last, no_follow: true, connector };
    let mut stream: tonic::Streaming<StreamEventsResponse> = invocation
        .connection
        .call(call, request, async |channel, request| ClusterServiceClient::new(channel).stream_events(request).await)
        .await?;
    let mut events = Vec::new();
    while let Some(response) = stream.message().await? {
        events.extend(response.event);
    }
    Ok(events)
}

/// Remembers what was printed, as far back as a resumed stream may reach.
#[derive(Default)]
struct Printed {
    any: bool,
    order: VecDeque<String>,
    known: HashSet<String>,
}

impl Printed {
    fn is_new(&mut self, event: &Event) -> bool {
        self.any = true;
        let key = json::event(event).to_string();
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > RESUME_LAST as usize {
            self.order.pop_front().inspect(|oldest| {
                self.known.remove(oldest);
            });
        }
        true
    }
}

fn print(output: Output, event: &Event) -> Result<(), Error> {
    let item = item(event);
    match output.format {
        // Widths of rows to come are unknown: a stream is lines, not a table.
        Format::Table => output.text(&format!("{}\n", line(event)))?,
        Format::Json | Format::Jsonl => output.text(&format!("{}\n", item.json))?,
        Format::Name => output.text(&format!("{}\n", printable(&item.name)))?,
    }
    Ok(())
}

/// An event on one line, for streams and for `describe`.
pub(crate) fn line(event: &Event) -> String {
    printable(item(event).cells.join("  ").trim_end())
}

fn item(event: &Event) -> Item {
    let time = event.time.as_ref().map_or_else(|| "-".to_owned(), rfc3339);
    let json: Value = json!(json::event(event));
    let epoch = if event.epoch == 0 { "-".to_owned() } else { event.epoch.to_string() };
    let cells =
        vec![time, event.kind.clone(), or_dash(&event.node), or_dash(&event.connector), epoch, event.message.clone()];
    Item { name: format!("event/{}", event.kind), json, cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_stream_prints_nothing_twice() {
        let mut printed = Printed::default();
        let event = |epoch| Event { kind: "takeover.done".into(), epoch, ..Event::default() };
        assert!(printed.is_new(&event(1)));
        assert!(printed.is_new(&event(2)));
        assert!(!printed.is_new(&event(1)));
        for epoch in 3..3 + RESUME_LAST as u64 {
            assert!(printed.is_new(&event(epoch)));
        }
        assert_eq!(printed.order.len(), RESUME_LAST as usize);
        assert_eq!(printed.known.len(), RESUME_LAST as usize);
    }
}
