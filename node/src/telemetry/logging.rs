//! Sets the process's log up: lines to stderr, text on a terminal and JSON otherwise; a panic is a line, too.
//! `main.rs` calls it once. Levels come from the configuration; one cap is above every filter, see `HARD_CAPS`.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    thread,
};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Targets that stay quiet whatever the filter says: at TRACE tungstenite prints the upgrade request with its
/// Authorization header (tungstenite 0.30, handshake/client.rs).
const HARD_CAPS: [(&str, LevelFilter); 2] =
    [("tungstenite", LevelFilter::INFO), ("tokio_tungstenite", LevelFilter::INFO)];

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text when stderr is a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Filter directives such as `info,twinfeed_node::raft=debug`.
    pub filter: String,
    pub format: Format,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum Error {
    #[error("log filter `{filter}` is not valid: write directives such as `info,twinfeed_node=debug`")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("the process has a log already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sets the log up for the whole process, writing to stderr, and makes panics log lines.
///
/// # Errors
/// When the filter is not valid, or the process has a log already.
pub fn init(options: &Options) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    let format = match options.format {
        Format::Auto if terminal => Format::Text,
        Format::Auto => Format::Json,
        chosen => chosen,
    };
    init_with(&options.filter, format, io::stderr, terminal)
}

/// Like `init`, writing to `writer`. With `Format::Auto` lines are JSON.
///
/// # Errors
/// As `init`.
pub fn init_with<W>(filter: &str, format: Format, writer: W, ansi: bool) -> Result<(), Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse(filter)?.and(Targets::new().with_default(LevelFilter::TRACE).with_targets(HARD_CAPS));
    let lines = layer(format, writer, ansi).with_filter(filter);
    Registry::default().with(lines).try_init().map_err(Error::Twice)?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Checks filter directives without setting anything up.
///
/// # Errors
/// When a directive is not valid.
pub fn check_filter(filter: &str) -> Result<(), Error> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder().parse(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })
}

fn layer<S, W>(format: Format, writer: W, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    match format {
        Format::Text => lines.boxed(),
        Format::Json | Format::Auto => lines.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no text");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(event = "panic", thread, at, err = message, %backtrace, "panic");
    } else {
        tracing::error!(event = "panic", thread, at, err = message, "panic");
    }
    // The log may be what panicked, or be filtered: a second plain line costs nothing. Stderr gone is no reason to panic again.
    let _ = writeln!(io::stderr(), "panic in thread `{thread}` at {at}: {message}");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic holds it").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: Format) -> String {
        let lines = Lines::default();
        let into = lines.clone();
        let layer = layer(format, move || into.clone(), false).with_filter(parse(filter).expect("a filter"));
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        });
        let bytes = lines.0.lock().expect("no panic holds it").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn filter_and_format_decide_what_is_written() {
        let (json, text) = (logged("warn", Format::Json), logged("info", Format::Text));
        assert!(json.starts_with('{') && json.contains("loud") && !json.contains("quiet"), "{json}");
        assert!(!text.starts_with('{') && text.contains("quiet"), "{text}");
        assert!(logged("warn", Format::Auto).starts_with('{'), "no terminal: JSON");
    }
}
