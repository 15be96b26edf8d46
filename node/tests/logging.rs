//! The log of a whole process, so one test: JSON lines, the panic line, and no Authorization header at any filter.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest};
use tracing_subscriber::fmt::MakeWriter;
use twinfeed_node::{
    supervise::{Supervisor, TaskKind},
    telemetry::logging::{self, Format},
};

const CANARY: &str = "Bearer canary-4711";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Captured {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_trace_filter_never_prints_the_authorization_header() {
    let log = Captured::default();
    let filter = "trace,tungstenite=trace,tokio_tungstenite=trace";
    logging::init_with(filter, Format::Json, log.clone(), false).expect("the only log of this process");

    handshake().await;
    tracing::trace!(target: "tungstenite::handshake", "capped");
    tracing::trace!(target: "twinfeed_node::feed", text = "line\nwith \"break\"", "kept");
    tracing::warn!(target: "tungstenite", "warnings pass the cap");
    let supervisor = Supervisor::default();
    supervisor.spawner().spawn(TaskKind::Tool, "panics", |_| async { panic!("on purpose") }).ended().await;

    let text = log.text();
    assert!(!text.contains(CANARY) && !text.contains("capped"), "{text}");
    assert!(text.contains("warnings pass the cap"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let find = |key: &str, value: &str| lines.iter().find(|line| line[key] == value);
    assert_eq!(find("message", "kept").expect("TRACE is on")["text"], "line\nwith \"break\"");
    let panic = find("event", "panic").expect("a panic is a line");
    assert_eq!((panic["level"].as_str(), panic["err"].as_str()), (Some("ERROR"), Some("on purpose")));
    assert_eq!(find("event", "task.ended").expect("the supervisor says so")["outcome"], "panic");
    assert!(logging::init_with("info", Format::Text, log, false).is_err(), "one log per process");
}

/// A real upgrade request with a secret header; the server just hangs up.
async fn handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut request = format!("ws://{address}/").into_client_request().unwrap();
    request.headers_mut().insert("authorization", CANARY.parse().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).await.unwrap();
            received.extend_from_slice(&bytes[..count]);
        }
        assert!(String::from_utf8(received).unwrap().contains(CANARY), "the request carried the secret");
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    };
    let client = async { client_async(request, TcpStream::connect(address).await.unwrap()).await };
    let (answer, ()) = tokio::join!(client, server);
    assert!(answer.is_err());
}

#[test]
fn a_filter_that_makes_no_sense_is_named() {
    let error = logging::check_filter("info,twinfeed_node=loud").unwrap_err();
    assert!(error.to_string().contains("info,twinfeed_node=loud"), "{error}");
}
