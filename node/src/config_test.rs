//! Tests of `config.rs`: sources and their order, every problem at once, documentation that cannot drift.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn fine(text: &str, pairs: &[(&str, &str)]) -> Loaded {
    parse(text, &environment(pairs), "host-1").unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn problems(text: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    let problems = parse(text, &environment(pairs), "host-1").expect_err("something is wrong");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_at_all_is_a_cluster_of_one_on_loopback() {
    let Loaded { config, warnings, .. } = fine("", &[]);
    assert_eq!(config.name, "host-1");
    assert_eq!(config.data_dir, PathBuf::from("./twinfeed-data"));
    assert!(config.cluster.members.is_empty());
    assert_eq!(config.listen.advertise_internal, "127.0.0.1:7400");
    assert_eq!(config.listen.advertise_admin, "127.0.0.1:9090");
    assert_eq!(config.cluster.heartbeat, Duration::from_millis(100));
    assert_eq!(config.limits.internal_message_bytes_max, 72 << 20);
    assert!(config.feeds.allow_private);
    assert_eq!(config.secrets.env_prefix, "TWINFEED_SECRET_");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_environment_is_stronger_than_the_file_and_the_file_than_the_default() {
    let file = "zone = \"a\"\n[cluster]\nname = \"prod\"\nheartbeat = \"50ms\"\n";
    let config = fine(file, &[("TWINFEED_CLUSTER__NAME", "test"), ("TWINFEED_ZONE", "b")]).config;
    assert_eq!((config.zone.as_str(), config.cluster.name.as_str()), ("b", "test"));
    assert_eq!(config.cluster.heartbeat, Duration::from_millis(50));
    assert_eq!(config.cluster.election_max, Duration::from_millis(400));
}

#[test]
fn log_variables_beat_the_file_in_their_order() {
    let file = "[log]\nfilter = \"warn\"\n";
    let filter = |pairs: &[(&str, &str)]| fine(file, pairs).config.log.filter;
    assert_eq!(filter(&[]), "warn");
    assert_eq!(filter(&[("TWINFEED_LOG__FILTER", "error")]), "error");
    assert_eq!(filter(&[("RUST_LOG", "debug"), ("TWINFEED_LOG__FILTER", "error")]), "debug");
    assert_eq!(filter(&[("TWINFEED_LOG", "trace"), ("RUST_LOG", "debug")]), "trace");
    assert_eq!(filter(&[("RUST_LOG", "")]), "warn");
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let file = "name = \"a b\"\nzonee = \"x\"\n\n[cluster]\nheartbeat = \"5\"\nmember = []\n[limits]\n\
                admin_message_bytes_max = \"1GiB\"\n[log]\nformat = \"xml\"\n";
    let problems = problems(file, &[("TWINFEED_CLUSTER__MEMBER", "x"), ("TWINFEED_LISTEN__HTTP", "nowhere")]);
    let expected = [
        "line 6: cluster.member: unknown key, did you mean `cluster.members`?",
        "line 2: zonee: unknown key, did you mean `zone`?",
        "TWINFEED_CLUSTER__MEMBER: sets no known key, did you mean `TWINFEED_CLUSTER__MEMBERS`?",
        "line 1: name: `a b` is no name: 1 to 63 letters, digits, dots, dashes or underscores",
        "line 5: cluster.heartbeat: `5` is no duration: write a number with a unit, such as 250ms or 5s",
        "TWINFEED_LISTEN__HTTP: listen.http: `nowhere` is no address: write host:port, IPv6 as [::1]:port",
        "line 10: log.format: must be one of auto, text, json",
        "line 8: limits.admin_message_bytes_max: 1073741824 is out of bounds: 1048576 to 67108864",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn broken_toml_names_the_line() {
    let problems = problems("name = \"n1\"\nzone = = 1\n", &[]);
    assert!(problems[0].starts_with("line 2: "), "{problems:?}");
}

#[test]
fn variables_of_a_service_called_twinfeed_are_not_ours() {
    fine("", &[("TWINFEED_PORT", "tcp://10.0.0.1:9090"), ("TWINFEED_SERVICE_HOST", "10.0.0.1")]);
}

#[test]
fn members_come_from_a_list_or_a_variable_and_give_the_own_address() {
    let file = "name = \"n2\"\n[cluster]\nmembers = [\"n1=a:1\", \"n2=b:2\"]\n[listen]\ninternal = \"0.0.0.0:2\"\n";
    let loaded = fine(file, &[]);
    assert_eq!(loaded.config.listen.advertise_internal, "b:2");
    assert!(loaded.warnings.iter().any(|warning| warning.contains("two nodes")), "{:?}", loaded.warnings);
    let listed = fine("", &[("TWINFEED_CLUSTER__MEMBERS", "n1=a:1, n2=b:2")]).config.cluster.members;
    assert_eq!(listed, loaded.config.cluster.members);
}

#[test]
fn member_lists_that_cannot_work_are_refused() {
    let members = |list: &str| problems(&format!("name = \"n1\"\ncluster.members = {list}\n"), &[]);
    assert!(members("[\"n1=a:1\", \"n1=b:1\"]")[0].contains("repeats a name"));
    assert!(members("[\"n1=a:1\", \"n2=a:1\"]")[0].contains("repeats a name or an address"));
    assert!(members("[\"n1\"]")[0].contains("name=host:port"));
    assert!(members("\"n1=a:1\"")[0].contains("expects a list"));
    let moved = problems("name = \"n1\"\ncluster.members = [\"n1=a:1\"]\nlisten.advertise_internal = \"b:1\"\n", &[]);
    assert!(moved[0].contains("`cluster.members` says `a:1`"), "{moved:?}");
}

#[test]
fn a_wildcard_needs_an_address_to_advertise() {
    let text = "listen.internal = \"0.0.0.0:7400\"\nlisten.admin = \"[::]:9090\"\n";
    let wildcards = problems(text, &[]);
    assert_eq!(wildcards.len(), 2, "{wildcards:?}");
    let loaded =
        fine(&format!("{text}listen.advertise_internal = \"n1:7400\"\nlisten.advertise_admin = \"n1:9090\"\n"), &[]);
    assert_eq!(loaded.warnings.len(), 2, "both are open to the network: {:?}", loaded.warnings);
}

#[test]
fn timings_must_fit_each_other_and_listeners_differ() {
    let text = "cluster.heartbeat = \"200ms\"\ncluster.election_max = \"300ms\"\ncluster.dead_after = \"500ms\"\n\
                listen.http = \"127.0.0.1:9090\"\n";
    let keys: Vec<String> =
        problems(text, &[]).iter().map(|problem| problem.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(keys, ["cluster.election_min", "cluster.election_max", "cluster.dead_after", "listen.http"]);
}

#[test]
fn kafka_properties_are_texts_with_or_without_quotes_and_passwords_stay_hidden() {
    let text = "[kafka.properties]\n\"security.protocol\" = \"sasl_ssl\"\nsasl.password = \"hunter2\"\nlinger.ms = 1\n";
    let loaded = fine(text, &[]);
    let properties = &loaded.config.kafka.properties;
    assert_eq!(properties["security.protocol"], "sasl_ssl");
    assert_eq!(properties["sasl.password"], "hunter2");
    assert_eq!(properties["linger.ms"], "1");
    let shown = format!("{:?}\n{}", loaded.config, loaded.effective());
    assert!(!shown.contains("hunter2") && shown.contains("[hidden]"), "{shown}");
    let same =
        fine("", &[("TWINFEED_KAFKA__PROPERTIES", "security.protocol=sasl_ssl; sasl.password=hunter2;linger.ms=1")]);
    assert_eq!(same.config.kafka.properties, *properties);
}

#[test]
fn security_of_kafka_is_hidden_unless_it_is_known_to_be_harmless() {
    let text = "[kafka.properties]\n\"security.protocol\" = \"ssl\"\n\"ssl.key.pem\" = \"hunter2\"\n\
                \"ssl.keystore.key\" = \"hunter2\"\n\"sasl.username\" = \"hunter2\"\n\"ssl.ca.location\" = \"/ca\"\n\
                \"sasl.password\" = \"${file:/etc/twinfeed/secrets/kafka}\"\n";
    let loaded = fine(text, &[]);
    let shown = format!("{:?}\n{}", loaded.config, loaded.effective());
    assert!(!shown.contains("hunter2"), "{shown}");
    for visible in ["/ca", "${file:/etc/twinfeed/secrets/kafka}"] {
        assert!(shown.contains(visible), "{visible}: {shown}");
    }
}

#[test]
fn references_of_providers_that_do_not_exist_are_refused() {
    let problems = problems("[kafka.properties]\n\"sasl.password\" = \"${vault:kafka:pw}\"\n", &[]);
    assert!(problems[0].contains("`sasl.password`: ${vault:…} names no provider"), "{problems:?}");
    assert!(problems[0].contains("${env:…} and ${file:…}"), "{problems:?}");
}

#[test]
fn what_feeds_and_references_may_reach_is_configured() {
    let text = "feeds.allow_private = false\n[secrets]\nenv_prefix = \"FEEDS_\"\nfile_root = \"/run/secrets\"\n";
    let config = fine(text, &[]).config;
    assert!(!config.feeds.allow_private);
    assert_eq!(
        (config.secrets.env_prefix.as_str(), config.secrets.file_root),
        ("FEEDS_", PathBuf::from("/run/secrets"))
    );
    assert_eq!(problems("feeds.allow_private = \"maybe\"\nsecrets.env_prefix = \"\"\n", &[]).len(), 2);
}

#[test]
fn variables_that_hold_secrets_of_connectors_are_no_keys() {
    fine("", &[("TWINFEED_SECRET_FEED__KEY", "x")]);
    fine("", &[("TWINFEED_SECRETS__ENV_PREFIX", "TWINFEED_FEEDS_"), ("TWINFEED_FEEDS__KEY", "x")]);
    assert_eq!(problems("", &[("TWINFEED_FEEDS__KEY", "x")]).len(), 1);
}

#[test]
fn effective_values_are_a_configuration_that_means_the_same() {
    let loaded = fine("zone = \"a \\\"b\\\"\"\ncluster.members = [\"host-1=h:1\"]\n", &[("TWINFEED_LOG", "debug")]);
    let effective = loaded.effective();
    assert!(effective.contains("zone = \"a \\\"b\\\"\"  # line 1"), "{effective}");
    assert!(effective.contains("filter = \"debug\"  # TWINFEED_LOG"), "{effective}");
    assert_eq!(fine(&effective, &[]).config, loaded.config);
}

/// `just docs` sets the variable to write the part instead of comparing it.
#[test]
fn the_document_has_not_drifted() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let on_disk = fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- begin: twinfeed config docs -->\n", "<!-- end: twinfeed config docs -->");
    let (before, rest) = on_disk.split_once(begin).expect("the generated part has a first mark");
    let (part, after) = rest.split_once(end).expect("the generated part has a last mark");
    if env::var_os("TWINFEED_WRITE_DOCS").is_some() {
        fs::write(path, format!("{before}{begin}{}{end}{after}", document())).unwrap();
    } else {
        assert_eq!(part, document(), "run `just docs` to write the new text");
    }
}
