//! A network of its own for the nodes: a bridge, and a network namespace per node. Broker, feed and suite stay outside
//! and are reached at the bridge's address, so that a node can be cut off from any of them one by one (`firewall`).
//!
//! Needs root and the tools of iproute2 and iptables. It never touches what it did not make: every name carries the
//! pid of its maker, and only names of dead makers are cleared away.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::firewall::{self, Cut};

/// Networks of one machine, at most; each takes a /24 of `10.213.0.0/16`.
const NETWORKS_MAX: u8 = 250;
const HOSTS_MAX: usize = 200;
/// Interface names are 15 bytes at most: the prefix, a pid in hexadecimal (6 digits at most), a kind, two numbers.
const PREFIX: &str = "tw";

/// Why there is no network, or why it cannot be cut.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this story needs root and network namespaces: {why}; run it as root with iproute2 and iptables installed")]
    Unavailable { why: String },
    #[error("`{command}` failed: {said}")]
    Command { command: String, said: String },
    #[error("there is no host {name} in this network")]
    NoHost { name: String },
    #[error("all {NETWORKS_MAX} networks of this machine are taken; end other runs first")]
    Full,
    #[error("cannot start `{program}`")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

/// A bridge with its hosts. Dropping it removes both, with everything that still runs over them cut off.
#[derive(Debug)]
pub struct Network {
    bridge: String,
    gateway: Ipv4Addr,
    hosts: Vec<Host>,
}

/// One namespace: where one node lives.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes a network with a host of each name; clears away what dead processes have left.
    ///
    /// # Errors
    /// `Unavailable` without root or without the tools.
    pub fn start(names: &[String]) -> Result<Self, Error> {
        assert!(names.len() <= HOSTS_MAX, "a network has {HOSTS_MAX} hosts at most");
        require()?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 100;
        let maker = format!("{PREFIX}{:x}", std::process::id());
        // Held until the address is on the bridge: two that start at once must not choose the same one.
        let _turn = turn()?;
        reap();
        let subnet = free_subnet()?;
        let address = |last: u8| Ipv4Addr::new(10, 213, subnet, last);
        let mut network = Self { bridge: format!("{maker}b{number}"), gateway: address(1), hosts: Vec::new() };
        let bridge = network.bridge.clone();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.gateway), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        let_through("-I", &bridge)?;
        for (name, n) in names.iter().zip(0_u8..) {
            let namespace = format!("{maker}n{number}-{n}");
            let (outer, inner) = (format!("{maker}v{number}-{n}"), format!("{maker}p{number}-{n}"));
            // First into the list: a half-made host is removed with the network too.
            network.hosts.push(Host { name: name.clone(), namespace: namespace.clone(), address: address(10 + n) });
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &namespace])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            let inside = ["-n", &namespace];
            ip(&[&inside[..], &["link", "set", "lo", "up"]].concat())?;
            ip(&[&inside[..], &["addr", "add", &format!("{}/24", address(10 + n)), "dev", &inner]].concat())?;
            ip(&[&inside[..], &["link", "set", &inner, "up"]].concat())?;
        }
        Ok(network)
    }

    /// The address of broker, feed and suite as the hosts see them.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// # Errors
    /// `NoHost`.
    pub fn host(&self, name: &str) -> Result<&Host, Error> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| Error::NoHost { name: name.to_owned() })
    }

    /// All hosts in the order of their names at the start.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Takes all cuts away; the packets that they dropped.
    ///
    /// # Errors
    /// iptables failed.
    pub fn heal(&self) -> Result<u64, Error> {
        self.hosts.iter().try_fold(0, |dropped, host| Ok(dropped + host.heal()?))
    }

    /// Packets dropped by the cuts that are in place.
    ///
    /// # Errors
    /// iptables failed.
    pub fn dropped(&self) -> Result<u64, Error> {
        self.hosts.iter().try_fold(0, |dropped, host| Ok(dropped + host.dropped()?))
    }
}

impl Host {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A command that runs `program` in this host. `ip` replaces itself by it, so the child's pid is the program's own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Silently drops packets from now on, until `heal`: connections stay open and hear nothing.
    ///
    /// # Errors
    /// iptables failed.
    pub fn cut(&self, cut: Cut) -> Result<(), Error> {
        cut.rules().iter().try_for_each(|rule| self.iptables(rule).map(drop))
    }

    /// Takes all cuts away; the packets that they dropped, which is the proof that they did something.
    ///
    /// # Errors
    /// iptables failed.
    pub fn heal(&self) -> Result<u64, Error> {
        let dropped = self.dropped()?;
        self.iptables(&["-F".to_owned()])?;
        Ok(dropped)
    }

    /// Packets dropped by the cuts that are in place.
    ///
    /// # Errors
    /// iptables failed.
    pub fn dropped(&self) -> Result<u64, Error> {
        Ok(firewall::dropped(&self.iptables(&["-nvxL".to_owned()])?))
    }

    fn iptables(&self, arguments: &[String]) -> Result<String, Error> {
        let mut command = self.command(Path::new("iptables"));
        run(command.arg("-w").args(arguments))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Half of it may never have been made, and reaping takes care of what cannot be removed now.
        for host in &self.hosts {
            let _ = ip(&["netns", "del", &host.namespace]);
        }
        remove_bridge(&self.bridge);
    }
}

/// A peer as cuts name it: everything at the address, or one port of it.
impl From<&Host> for firewall::Peer {
    fn from(host: &Host) -> Self {
        Self::Host(host.address)
    }
}

impl From<SocketAddr> for firewall::Peer {
    fn from(service: SocketAddr) -> Self {
        Self::Service(service)
    }
}

fn require() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Unavailable { why: "not root".to_owned() });
    }
    for program in ["ip", "iptables"] {
        let version = Command::new(program).arg("-V").output();
        if !version.is_ok_and(|output| output.status.success()) {
            return Err(Error::Unavailable { why: format!("no `{program}`") });
        }
    }
    Ok(())
}

fn turn() -> Result<File, Error> {
    let path = std::env::temp_dir().join("twinfeed-network.lock");
    let unavailable = |error| Error::Unavailable { why: format!("cannot lock {}: {error}", path.display()) };
    let file = File::options().create(true).append(true).open(&path).map_err(unavailable)?;
    file.lock().map_err(unavailable)?;
    Ok(file)
}

/// Removes namespaces and bridges whose maker is dead. What cannot be removed stays for the next start.
fn reap() {
    let orphaned = |name: &str| maker(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    let namespaces = ip(&["netns", "list"]).unwrap_or_default();
    for name in namespaces.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| orphaned(name)) {
        let _ = ip(&["netns", "del", name]);
    }
    // As in `7: tw1a2bb0: <BROADCAST,…`.
    let bridges = ip(&["-o", "link", "show", "type", "bridge"]).unwrap_or_default();
    for name in bridges.lines().filter_map(|line| line.split(": ").nth(1)).filter(|name| orphaned(name)) {
        remove_bridge(name);
    }
}

fn remove_bridge(name: &str) {
    let _ = let_through("-D", name);
    let _ = ip(&["link", "del", name]);
}

/// A container engine on the same machine has the kernel ask iptables about bridged packets, and drops what it does not
/// know: adds (`-I`) or takes away (`-D`) a rule that the hosts of this bridge may talk to each other.
fn let_through(change: &str, bridge: &str) -> Result<(), Error> {
    let asked = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if asked.is_ok_and(|asked| asked.trim() == "1") {
        run(Command::new("iptables").args(["-w", change, "FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]))?;
    }
    Ok(())
}

/// The pid in one of our names: everything hexadecimal up to the last `b` or `n`, which says what it is.
fn maker(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let (pid, number) = rest.rsplit_once(['b', 'n'])?;
    let numbered = number.chars().all(|c| c.is_ascii_digit() || c == '-') && !number.is_empty();
    u32::from_str_radix(pid, 16).ok().filter(|_| numbered)
}

fn free_subnet() -> Result<u8, Error> {
    let taken = ip(&["-4", "-o", "addr", "show"])?;
    let taken: BTreeSet<u8> = taken
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("10.213.")?.split('.').next()?.parse().ok())
        .collect();
    (0..NETWORKS_MAX).find(|subnet| !taken.contains(subnet)).ok_or(Error::Full)
}

fn ip(arguments: &[&str]) -> Result<String, Error> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| Error::Start { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("not permitted") {
        return Err(Error::Unavailable { why: said });
    }
    Err(Error::Command { command: format!("{command:?}").replace('"', ""), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_carry_a_maker() {
        assert_eq!(maker("tw1a2bb0"), Some(0x1a2b));
        assert_eq!(maker("twbb12"), Some(0xb));
        assert_eq!(maker("tw3fffffn12-2"), Some(0x3f_ffff));
        for foreign in ["br-1a2b", "twins", "docker0", "tw", "twxyzb1", "tw1a2bb", "tw12b1x"] {
            assert_eq!(maker(foreign), None, "{foreign}");
        }
    }
}
