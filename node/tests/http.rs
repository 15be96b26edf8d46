//! The HTTP listener over real sockets: metrics in both formats, probes that turn, bounded connections.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;
use twinfeed_node::{
    api::http::{self, Checks},
    supervise::{Outcome, Supervisor, TaskHandle, TaskKind},
    telemetry::Metrics,
};

const DEADLINE: Duration = Duration::from_secs(10);

struct Server {
    address: std::net::SocketAddr,
    live: Checks,
    ready: Checks,
    task: TaskHandle,
    _supervisor: Supervisor,
}

impl Server {
    async fn start(connections_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (live, ready) = (Checks::default(), Checks::default());
        let metrics = Metrics::new("n1", "1.2.3");
        let options = http::Options { metrics, live: live.clone(), ready: ready.clone(), connections_max };
        let supervisor = Supervisor::default();
        let task = supervisor.spawner().spawn(TaskKind::HttpServer, "http", |stop: CancellationToken| async move {
            http::serve(listener, options, stop).await?;
            Ok(())
        });
        Self { address, live, ready, task, _supervisor: supervisor }
    }

    async fn ask(&self, method: &str, target: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("answers").unwrap();
        answer
    }

    async fn get(&self, target: &str) -> String {
        self.ask("GET", target, "").await
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for() {
    let server = Server::start(8).await;
    let plain = server.get("/metrics").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    assert!(plain.contains("twinfeed_build_info{version=\"1.2.3\"} 1\n") && !plain.contains("# EOF"), "{plain}");
    let open = server.ask("GET", "/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n").await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{open}");
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(open.contains("twinfeed_http_requests_total{path=\"/metrics\",code=\"200\"} 1\n"), "{open}");
}

#[tokio::test]
async fn readiness_follows_its_checks_and_liveness_does_not() {
    let server = Server::start(8).await;
    let storage = server.live.add("storage");
    storage.pass();
    let raft = server.ready.add("raft");
    let config = server.ready.add("config");
    config.pass();
    let starting = server.get("/readyz").await;
    assert!(starting.starts_with("HTTP/1.1 503 "), "{starting}");
    assert!(starting.ends_with("[+]config ok\n[-]raft failed: not ready yet\nfailed\n"), "{starting}");
    raft.pass();
    let ready = server.get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("\r\n\r\nok\n"), "{ready}");
    assert!(server.get("/readyz?verbose").await.ends_with("[+]config ok\n[+]raft ok\nok\n"));
    raft.fail("no leader");
    assert!(server.get("/readyz").await.contains("[-]raft failed: no leader\n"));
    assert!(server.get("/readyz?exclude=raft").await.starts_with("HTTP/1.1 200 "));
    for alive in ["/livez", "/healthz"] {
        assert!(server.get(alive).await.starts_with("HTTP/1.1 200 "), "{alive}");
    }
    storage.fail("fsync hangs");
    assert!(server.get("/livez").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn other_pages_and_methods_are_refused_and_counted_without_their_names() {
    let server = Server::start(8).await;
    assert!(server.get("/admin/secret-path").await.starts_with("HTTP/1.1 404 "));
    assert!(server.ask("POST", "/metrics", "content-length: 0\r\n").await.starts_with("HTTP/1.1 405 "));
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("path=\"other\",code=\"404\"} 1\n"), "{metrics}");
    assert!(!metrics.contains("secret-path"));
}

#[tokio::test]
async fn idle_connections_hold_places_and_give_them_back() {
    let server = Server::start(1).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    // Connections are accepted in the order they were made, so the second waits however long this takes.
    let second = server.get("/livez");
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(200), &mut second).await.is_err(), "the only place is taken");
    drop(idle);
    assert!(second.await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_stop_ends_the_server() {
    let server = Server::start(8).await;
    assert_eq!(server.task.stop().await, Outcome::Exit);
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// `twinfeed healthcheck`: its exit code and all that it says.
fn healthcheck(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_twinfeed"));
    let output = command.arg("healthcheck").args(arguments).envs(environment.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_says_what_the_probes_say() {
    let server = Server::start(8).await;
    server.live.add("storage").pass();
    let raft = server.ready.add("raft");
    let address = server.address.to_string();
    let (code, said) = healthcheck(&["--http", &address], &[]);
    assert_eq!(
        (code, said.as_str()),
        (Some(1), &*format!("error: http://{address}/readyz says: raft failed: not ready yet\n"))
    );
    assert_eq!(healthcheck(&["--http", &address, "--live"], &[]).0, Some(0));
    raft.pass();
    assert_eq!(healthcheck(&["--http", &address], &[]), (Some(0), format!("ok: http://{address}/readyz\n")));
    // As the node is configured, the wildcard of a container included.
    let wildcard = format!("0.0.0.0:{}", server.address.port());
    assert_eq!(healthcheck(&[], &[("TWINFEED_LISTEN__HTTP", &wildcard)]).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_without_an_answer_is_one_line_and_1() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (code, said) = healthcheck(&["--http", &address, "--timeout", "200ms"], &[]);
    assert!(code == Some(1) && said.lines().count() == 1 && said.contains("does not answer within 200ms"), "{said}");
    drop(silent);
    let (code, said) = healthcheck(&["--http", &address], &[]);
    assert!(code == Some(1) && said.lines().count() == 1, "{said}");
    let (code, said) = healthcheck(&[], &[("TWINFEED_LISTEN__HTTP", "nowhere")]);
    assert!(code == Some(1) && said.contains("listen.http"), "{said}");
}
