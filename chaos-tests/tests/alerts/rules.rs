//! Prometheus's own engine evaluates the rules over the series of a scene.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::series::{BEFORE_S, HISTORY_S, Series, TAIL_S};

/// Alerts that wait no longer than three minutes fire so long after the end of a scene, all others by the second moment,
/// when what is told once is over.
const SOON_S: u64 = 240;
const LATE_S: u64 = TAIL_S - 30;
const EVALUATE_EVERY: &str = "30s";
pub(super) const CLUSTER: &str = "test";
/// Has connectors of the same names, which are well.
pub(super) const TWIN: &str = "twin";
const FIRING: &str = "ALERTS{alertstate=\"firing\"}";
const SAID: &str = "alertname, cluster, connector, feed";

/// An alert, its connector and its line, as in `LineBehind prices secondary`.
pub(super) type Alert = &'static str;

/// Which alerts fire in a scene. All others never do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    pub(super) soon: &'static [Alert],
    pub(super) late: &'static [Alert],
    /// May fire meanwhile, or may not.
    pub(super) passing: &'static [Alert],
}

/// The rules as they are delivered.
#[derive(Debug)]
pub(super) struct Rules {
    path: std::path::PathBuf,
    pub(super) text: String,
}

impl Rules {
    pub(super) fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts/alert-rules.yml").canonicalize()?;
        let text = fs::read_to_string(&path)?;
        Ok(Self { path, text })
    }

    /// Whether there is something to evaluate them with.
    pub(super) fn can_be_evaluated() -> bool {
        Command::new("promtool").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    pub(super) fn alerts(&self) -> BTreeSet<&str> {
        self.text.split("alert: ").skip(1).filter_map(|rule| rule.split(',').next()).collect()
    }

    /// Evaluates them over a scene of so many seconds.
    ///
    /// # Errors
    /// With what fires and should not, and what should and does not.
    pub(super) fn judge(&self, file: &Path, scene: &Scene<'_>) -> Result<()> {
        let Scene { series, twin, lasting, expected } = scene;
        let lines = series.lines(*lasting).chain(twin.lines(BEFORE_S));
        let input: Vec<Value> = lines.map(|(series, values)| json!({"series": series, "values": values})).collect();
        let end = HISTORY_S + series.seconds();
        let others = except(&[expected.soon, expected.late, expected.passing].concat());
        let lasting = except(expected.passing);
        let test = json!({
            "rule_files": [self.path],
            "evaluation_interval": EVALUATE_EVERY,
            "tests": [{
                "interval": "1s",
                "input_series": input,
                "promql_expr_test": [
                    fires(&lasting, HISTORY_S - 5, &[]),
                    fires(&lasting, end + SOON_S, expected.soon),
                    fires(&lasting, end + LATE_S, expected.late),
                    never(&others, end + LATE_S),
                ],
            }],
        });
        fs::write(file, test.to_string())?;
        let output =
            Command::new("promtool").args(["test", "rules"]).arg(file).output().context("cannot run promtool")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        }
        Ok(())
    }
}

/// What was seen and what is expected of it.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) series: &'a Series,
    pub(super) twin: &'a Series,
    /// So many of the last seconds go on as they were.
    pub(super) lasting: usize,
    pub(super) expected: &'a Expected,
}

/// What fires besides these.
fn except(alerts: &[Alert]) -> String {
    let alerts = alerts.iter().map(|alert| format!(" unless ALERTS{{{}}}", selector(alert)));
    format!("{FIRING}{}", alerts.collect::<String>())
}

fn fires(what: &str, at_s: u64, alerts: &[Alert]) -> Value {
    let samples: Vec<Value> =
        alerts.iter().map(|alert| json!({"labels": format!("{{{}}}", selector(alert)), "value": 1})).collect();
    json!({"expr": format!("group by ({SAID})({what})"), "eval_time": format!("{at_s}s"), "exp_samples": samples})
}

fn never(what: &str, until_s: u64) -> Value {
    fires(&format!("max_over_time(({what})[{until_s}s:{EVALUATE_EVERY}])"), until_s, &[])
}

fn selector(alert: &str) -> String {
    let labels = ["alertname", "connector", "feed"].into_iter().zip(alert.split(' '));
    let labels: Vec<String> = labels.map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    format!("cluster=\"{CLUSTER}\",{}", labels.join(","))
}
