//! The network kit against itself: a cut is silent, one-way where it says so, counted, and gone when it is healed.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use twinfeed_chaos::harness::{
    firewall::{Cut, Direction, Peer},
    network::Network,
    proxy::{Link, Proxy, Way},
};

const LIMIT: Duration = Duration::from_secs(10);

fn network(count: usize) -> Network {
    Network::start(&(1..=count).map(|n| format!("n{n}")).collect::<Vec<_>>()).expect("a network")
}

/// Whether `from` reaches a TCP service within a second.
fn reaches(network: &Network, from: &str, to: SocketAddr) -> bool {
    let mut command = network.host(from).expect("a host").command(Path::new("bash"));
    command.args(["-c", &format!("exec 2>/dev/null; : >/dev/tcp/{}/{}", to.ip(), to.port())]);
    let mut child = command.spawn().expect("bash");
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.success();
        }
        if Instant::now() > deadline {
            child.kill().expect("kill");
            child.wait().expect("wait");
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn service(at: Ipv4Addr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((at, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[test]
fn a_cut_service_is_silent_and_counted_and_its_neighbour_is_not_cut() {
    let network = network(2);
    let ((_one, one), (_two, two)) = (service(network.gateway()), service(network.gateway()));
    let host = network.host("n1").expect("a host");
    assert!(reaches(&network, "n1", one) && reaches(&network, "n2", one));
    for direction in [Direction::In, Direction::Out, Direction::Both] {
        host.cut(Cut { direction, ..Cut::both(one) }).expect("cut");
        assert!(!reaches(&network, "n1", one), "{direction:?}");
        assert!(reaches(&network, "n1", two) && reaches(&network, "n2", one), "{direction:?}");
        assert!(host.dropped().expect("counted") > 0, "{direction:?}");
        assert!(network.heal().expect("healed") > 0, "{direction:?}");
        assert!(reaches(&network, "n1", one), "{direction:?}");
        assert_eq!(network.dropped().expect("counted"), 0);
    }
}

#[test]
fn hosts_are_cut_off_from_each_other_and_not_from_the_rest() {
    let network = network(2);
    let (_outside, outside) = service(network.gateway());
    let (one, two) = (network.host("n1").expect("a host"), network.host("n2").expect("a host"));
    one.cut(Cut::both(Peer::from(two))).expect("cut");
    // Nothing listens there: a refusal comes back at once, a cut is silence.
    let began = Instant::now();
    assert!(!reaches(&network, "n2", (one.address(), 9).into()));
    assert!(began.elapsed() >= Duration::from_secs(1), "it was refused, not dropped");
    assert!(reaches(&network, "n1", outside) && reaches(&network, "n2", outside));
    assert!(network.heal().expect("healed") > 0);
}

#[test]
fn the_pid_of_a_command_is_its_programs_own_and_nothing_is_left_behind() {
    let network = network(1);
    let host = network.host("n1").expect("a host");
    let mut child = host.command(Path::new("sleep")).arg("60").spawn().expect("sleep");
    let exe = format!("/proc/{}/exe", child.id());
    let deadline = Instant::now() + LIMIT;
    while !std::fs::read_link(&exe).is_ok_and(|path| !path.ends_with("ip")) {
        assert!(Instant::now() < deadline, "`ip` did not replace itself");
        std::thread::yield_now();
    }
    let ours = format!("tw{:x}", std::process::id());
    let list = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().expect("ip");
        String::from_utf8_lossy(&output.stdout).matches(&ours).count()
    };
    assert!(list(&["netns", "list"]) > 0 && list(&["-o", "link"]) > 0);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let bridge_address = network.gateway().to_string();
    drop(network);
    let output = Command::new("ip").args(["-o", "addr"]).output().expect("ip");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(&format!("{bridge_address}/")));
}

/// A server that echoes, forever.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = &stream;
                std::io::copy(&mut reader, &mut &stream)
            });
        }
    });
    address
}

fn round_trip(stream: &mut TcpStream) -> std::io::Result<Duration> {
    let began = Instant::now();
    stream.write_all(b"ping")?;
    stream.read_exact(&mut [0; 4])?;
    Ok(began.elapsed())
}

#[test]
fn a_proxy_delays_swallows_and_tears() {
    let proxy = Proxy::start(([127, 0, 0, 1], 0).into(), echo()).expect("a proxy");
    let mut stream = TcpStream::connect(proxy.address()).expect("connected");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    round_trip(&mut stream).expect("through");
    proxy.set(Way::Down, Link { delay: Duration::from_millis(100), ..Link::default() });
    assert!(round_trip(&mut stream).expect("late") >= Duration::from_millis(100));
    proxy.set(Way::Down, Link { blackhole: true, ..Link::default() });
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    assert!(round_trip(&mut stream).is_err(), "something came out of a black hole");
    proxy.set(Way::Down, Link::default());
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.read_exact(&mut [0; 4]).expect("what was sent comes afterwards");
    assert_eq!((proxy.bytes(Way::Up), proxy.bytes(Way::Down)), (12, 12));
    proxy.reset();
    let torn = stream.read(&mut [0; 4]).expect_err("torn");
    assert_eq!(torn.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!((proxy.connections(), proxy.resets()), (1, 1));
}
