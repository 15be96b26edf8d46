//! The broker kit against itself: what other tests rely on without looking.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use twinfeed_chaos::broker::{ADDRESS_VARIABLE, Broker};

const CHILD: &str = "TWINFEED_BROKER_TEST_CHILD";

fn answers(bootstrap: &str, within: Duration) -> bool {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("log_level", "0").create().expect("a consumer");
    consumer.fetch_metadata(None, within).is_ok()
}

#[test]
fn a_broker_answers_again_after_stop_restart_and_pause() {
    if std::env::var_os(ADDRESS_VARIABLE).is_some() {
        return;
    }
    let mut broker = Broker::start().expect("a broker");
    let bootstrap = broker.bootstrap().to_owned();
    assert!(answers(&bootstrap, Duration::from_secs(10)));
    broker.stop().expect("stop");
    assert!(!answers(&bootstrap, Duration::from_millis(300)), "a stopped broker answered");
    broker.restart().expect("restart");
    assert!(answers(&bootstrap, Duration::from_secs(10)));
    broker.pause().expect("pause");
    assert!(!answers(&bootstrap, Duration::from_millis(300)), "a paused broker answered");
    broker.resume().expect("resume");
    assert!(answers(&bootstrap, Duration::from_secs(10)));
}

/// The body of the child process that the next test kills: it starts a broker, prints the address, and waits.
#[test]
#[ignore = "started by no_broker_outlives_a_killed_test"]
fn child_with_a_broker() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let broker = Broker::start().expect("a broker");
    println!("\nBROKER {}", broker.bootstrap());
    loop {
        std::thread::park();
    }
}

#[test]
fn no_broker_outlives_a_killed_test() {
    if std::env::var_os(ADDRESS_VARIABLE).is_some() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "child_with_a_broker", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let bootstrap = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("BROKER ").map(str::to_owned))
        .expect("the child's broker");
    assert!(answers(&bootstrap, Duration::from_secs(10)));
    child.kill().expect("kill");
    child.wait().expect("wait");
    let deadline = Instant::now() + Duration::from_secs(20);
    while answers(&bootstrap, Duration::from_millis(200)) {
        assert!(Instant::now() < deadline, "the broker outlived its test");
    }
}
