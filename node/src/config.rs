//! The node's configuration: one TOML file, over it the environment, under it the defaults. The only reader of
//! configuration files and environment variables; everything else gets values. `load` reports every problem at once,
//! before a port is bound. Rooms have options of their own; `node.rs` makes them from this.

mod check;
mod command;
mod keys;
mod reference;
mod source;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use crate::{
    model::{
        connector::Config,
        secret::{PROVIDERS, Secret},
    },
    telemetry::logging,
};

use check::Checker;
pub use command::{Command, run};
pub use reference::{document, paths, variables};
pub use source::Problem;
use source::Values;

/// Exit code of a process whose configuration cannot be used (EX_CONFIG of sysexits.h): a restart will not help.
pub const EXIT_CODE: u8 = 78;

/// Largest configuration file, in bytes; a larger one is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    pub name: String,
    pub data_dir: PathBuf,
    /// Empty when unknown.
    pub zone: String,
    pub cluster: Cluster,
    pub listen: Listen,
    pub kafka: Kafka,
    pub feeds: Feeds,
    pub secrets: Secrets,
    pub log: logging::Options,
    pub limits: Limits,
}

/// The cluster as this node knows it before it has met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    /// Empty: a cluster of this node alone.
    pub members: Vec<Member>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    pub dead_after: Duration,
}

/// A node of the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// host:port of its internal listener.
    pub address: String,
}

/// Where the node listens, and where it says that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub internal: String,
    pub admin: String,
    pub http: String,
    pub advertise_internal: String,
    pub advertise_admin: String,
}

/// How Kafka is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    pub bootstrap: String,
    /// References are not resolved yet.
    pub properties: Config,
}

/// What connectors may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feeds {
    pub allow_private: bool,
}

/// What references may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    pub env_prefix: String,
    pub file_root: PathBuf,
}

/// Bounds of the node as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub internal_message_bytes_max: usize,
    pub admin_message_bytes_max: usize,
    pub http_connections_max: usize,
    pub shutdown_grace: Duration,
}

/// A configuration with what is worth saying about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: NodeConfig,
    /// Allowed, and probably not meant; to be logged at the start.
    pub warnings: Vec<String>,
    values: Values,
}

impl Loaded {
    /// The effective values as a configuration file, each with where it was set; secrets are hidden.
    pub fn effective(&self) -> String {
        reference::effective(&self.values)
    }
}

/// Why there is no usable configuration. The process ends with `EXIT_CODE`.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the configuration {place} cannot be used:{}", lines(problems))]
    Invalid { place: String, problems: Vec<Problem> },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Reads the file, if one is named, and the environment, and checks everything.
///
/// # Errors
/// When the file cannot be read, or with every key that is unknown or whose value does not fit.
pub fn load(path: Option<&Path>) -> Result<Loaded, ConfigError> {
    let text = path.map(read).transpose()?.unwrap_or_default();
    // Variables that are not Unicode cannot be ours: our names and values are ASCII or UTF-8.
    let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment: Vec<(String, String)> = env::vars_os().filter_map(unicode).collect();
    let place = path.map_or("from the environment".to_owned(), |path| format!("`{}`", path.display()));
    parse(&text, &environment, &hostname()).map_err(|problems| ConfigError::Invalid { place, problems })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        let what = format!("{bytes} bytes are more than the {FILE_BYTES_MAX} allowed");
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, what)));
    }
    fs::read_to_string(path).map_err(unreadable)
}

/// The host's name as a node name, or `node` where it has none.
fn hostname() -> String {
    // A hardened service does not see /proc/sys.
    let read = |path| fs::read_to_string(path).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname")).unwrap_or_default();
    let fits = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
    let name: String = name.trim().chars().filter(fits).take(63).collect();
    if name.is_empty() { "node".to_owned() } else { name }
}

/// Checks a configuration text under an environment. Pure; `load` is the reader.
fn parse(text: &str, environment: &[(String, String)], hostname: &str) -> Result<Loaded, Vec<Problem>> {
    let (values, problems) = source::collect(text, environment);
    let mut checker = Checker { values: &values, problems };
    let mut config = build(&mut checker);
    if config.name.is_empty() {
        config.name = hostname.to_owned();
    }
    complete_addresses(&mut checker, &mut config);
    check_cluster(&mut checker, &config);
    check_listeners(&mut checker, &config.listen);
    let problems = checker.problems;
    if problems.is_empty() {
        let warnings = warnings(&config);
        Ok(Loaded { config, warnings, values })
    } else {
        Err(problems)
    }
}

fn build(checker: &mut Checker<'_>) -> NodeConfig {
    let bytes = |value: u64| usize::try_from(value).expect("bounded far below usize in the table");
    NodeConfig {
        name: checker.text("name"),
        data_dir: PathBuf::from(checker.text("data_dir")),
        zone: checker.text("zone"),
        cluster: Cluster {
            name: checker.text("cluster.name"),
            members: checker.members("cluster.members"),
            heartbeat: checker.duration("cluster.heartbeat"),
            election_min: checker.duration("cluster.election_min"),
            election_max: checker.duration("cluster.election_max"),
            dead_after: checker.duration("cluster.dead_after"),
        },
        listen: Listen {
            internal: checker.text("listen.internal"),
            admin: checker.text("listen.admin"),
            http: checker.text("listen.http"),
            advertise_internal: checker.text("listen.advertise_internal"),
            advertise_admin: checker.text("listen.advertise_admin"),
        },
        kafka: Kafka { bootstrap: checker.text("kafka.bootstrap"), properties: kafka_properties(checker) },
        feeds: Feeds { allow_private: checker.text("feeds.allow_private") == "true" },
        secrets: Secrets {
            env_prefix: checker.text("secrets.env_prefix"),
            file_root: PathBuf::from(checker.text("secrets.file_root")),
        },
        log: logging::Options {
            filter: checker.text("log.filter"),
            format: match checker.text("log.format").as_str() {
                "text" => logging::Format::Text,
                "json" => logging::Format::Json,
                _ => logging::Format::Auto,
            },
        },
        limits: Limits {
            internal_message_bytes_max: bytes(checker.number("limits.internal_message_bytes_max")),
            admin_message_bytes_max: bytes(checker.number("limits.admin_message_bytes_max")),
            http_connections_max: bytes(checker.number("limits.http_connections_max")),
            shutdown_grace: checker.duration("limits.shutdown_grace"),
        },
    }
}

/// A reference that nobody resolves would be sent to Kafka as it stands.
fn kafka_properties(checker: &mut Checker<'_>) -> Config {
    let properties = Config::from(checker.properties("kafka.properties"));
    for (name, value) in &properties {
        if let Some(why) = Secret::new(value.as_str()).bad_reference() {
            let list = PROVIDERS.map(|name| format!("${{{name}:…}}")).join(" and ");
            checker.problem("kafka.properties", format!("`{name}`: {why}; the providers that exist are {list}"));
        }
    }
    properties
}

/// Other nodes must be able to call an advertised address: it is the member list's, or a listener's that is not a wildcard.
fn complete_addresses(checker: &mut Checker<'_>, config: &mut NodeConfig) {
    let listed = config.cluster.members.iter().find(|member| member.name == config.name);
    let listen = &mut config.listen;
    if listen.advertise_internal.is_empty() {
        listen.advertise_internal = listed.map_or(&listen.internal, |member| &member.address).clone();
    } else if let Some(member) = listed.filter(|member| member.address != listen.advertise_internal) {
        let (own, theirs) = (&listen.advertise_internal, &member.address);
        checker.problem(
            "listen.advertise_internal",
            format!("is `{own}`, but `cluster.members` says `{theirs}`: the others would call a wrong address"),
        );
    }
    if listen.advertise_admin.is_empty() {
        listen.advertise_admin.clone_from(&listen.admin);
    }
    for (path, address) in
        [("listen.advertise_internal", &listen.advertise_internal), ("listen.advertise_admin", &listen.advertise_admin)]
    {
        if is_wildcard(address) {
            checker.problem(path, format!("must be set: nobody can call `{address}`"));
        }
    }
}

fn check_cluster(checker: &mut Checker<'_>, config: &NodeConfig) {
    let Cluster { heartbeat, election_min, election_max, dead_after, .. } = config.cluster;
    if election_min < heartbeat * 3 {
        checker.problem("cluster.election_min", "must be at least three times cluster.heartbeat");
    }
    if election_max <= election_min {
        checker.problem("cluster.election_max", "must be more than cluster.election_min, or elections tie for ever");
    }
    if dead_after < heartbeat * 3 {
        checker.problem("cluster.dead_after", "must be at least three times cluster.heartbeat");
    }
}

fn check_listeners(checker: &mut Checker<'_>, listen: &Listen) {
    let taken = |a: &String, b: &String| a == b && !a.ends_with(":0");
    if taken(&listen.admin, &listen.internal) {
        checker.problem("listen.admin", "is the address of listen.internal, too");
    }
    if taken(&listen.http, &listen.internal) || taken(&listen.http, &listen.admin) {
        checker.problem("listen.http", "is the address of another listener, too");
    }
}

fn warnings(config: &NodeConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let listeners = [("listen.internal", &config.listen.internal), ("listen.admin", &config.listen.admin)];
    for (path, address) in listeners {
        if !is_loopback(address) {
            warnings.push(format!("{path} = {address} has no authentication: let only trusted hosts reach it"));
        }
    }
    if config.cluster.members.len() == 2 {
        let what = "cluster.members names two nodes: with either gone, nothing can be reassigned; take three";
        warnings.push(what.to_owned());
    }
    warnings
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn is_wildcard(address: &str) -> bool {
    matches!(host(address), "0.0.0.0" | "[::]" | "*")
}

fn is_loopback(address: &str) -> bool {
    let host = host(address);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
