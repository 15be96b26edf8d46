//! Where values come from: defaults, the file with its lines, the environment, each stronger than the one before.
//! Finds keys nobody knows and says which was meant. Pure: `config.rs` hands it the texts.

use std::{collections::BTreeMap, fmt, ops::Range};

use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Key, Shape};

/// How alike two names must be, of 1, for one to be offered in place of the other.
const ALIKE_MIN: f64 = 0.8;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    /// Line of the file, from 1.
    File {
        line: usize,
    },
    Environment {
        variable: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Environment { variable } => f.write_str(variable),
        }
    }
}

/// A value before its shape is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    Text(String),
    List(Vec<String>),
    Table(BTreeMap<String, String>),
}

/// Something wrong with a value or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) origin: Origin,
    pub(super) key: String,
    pub(super) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.what),
            key => write!(f, "{}: {key}: {}", self.origin, self.what),
        }
    }
}

/// Values by key path, with where they were set.
pub(super) type Values = BTreeMap<&'static str, (Raw, Origin)>;

/// Values of all sources and what is wrong with the sources themselves.
pub(super) fn collect(file: &str, environment: &[(String, String)]) -> (Values, Vec<Problem>) {
    let mut values = Values::new();
    let mut problems = Vec::new();
    for key in &KEYS {
        let default = match key.shape {
            Shape::Members => Raw::List(Vec::new()),
            Shape::Properties => Raw::Table(BTreeMap::new()),
            _ => Raw::Text(key.default.to_owned()),
        };
        values.insert(key.path, (default, Origin::Default));
    }
    read_file(file, &mut values, &mut problems);
    read_environment(environment, &mut values, &mut problems);
    (values, problems)
}

fn read_file(text: &str, values: &mut Values, problems: &mut Vec<Problem>) {
    let file = File { text };
    match DeTable::parse(text) {
        Ok(table) => file.table("", table.get_ref(), values, problems),
        Err(error) => {
            let origin = file.origin(&error.span().unwrap_or_default());
            problems.push(Problem { origin, key: String::new(), what: error.message().trim().to_owned() });
        }
    }
}

/// A TOML document; knows on which line a byte is.
struct File<'a> {
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        Origin::File { line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    }

    fn table(&self, above: &str, table: &DeTable<'_>, values: &mut Values, problems: &mut Vec<Problem>) {
        for (name, value) in table {
            let path = join(above, name.get_ref());
            let origin = self.origin(&name.span());
            match (keys::find(&path), value.get_ref()) {
                (Some(key), value) => match raw(key, value) {
                    Ok(raw) => drop(values.insert(key.path, (raw, origin))),
                    Err(what) => problems.push(Problem { origin, key: path, what }),
                },
                (None, DeValue::Table(inner)) if is_section(&path) => self.table(&path, inner, values, problems),
                (None, _) => problems.push(Problem { origin, what: unknown(&path), key: path }),
            }
        }
    }
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

fn raw(key: &Key, value: &DeValue<'_>) -> Result<Raw, String> {
    match (key.shape, value) {
        (Shape::Members, DeValue::Array(items)) => {
            let items = items.iter().map(|item| scalar(item.get_ref()).ok_or("expects a list of texts"));
            Ok(Raw::List(items.collect::<Result<_, _>>()?))
        }
        (Shape::Properties, DeValue::Table(table)) => {
            let mut properties = BTreeMap::new();
            flatten("", table, &mut properties)?;
            Ok(Raw::Table(properties))
        }
        (Shape::Members, _) => Err("expects a list such as [\"n1=host:7400\"]".to_owned()),
        (Shape::Properties, _) => Err("expects a table".to_owned()),
        (_, value) => scalar(value).map(Raw::Text).ok_or_else(|| "expects one value".to_owned()),
    }
}

/// Dotted property names come as nested tables unless they are quoted; both mean the same.
fn flatten(above: &str, table: &DeTable<'_>, properties: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in table {
        let path = join(above, name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&path, inner, properties)?,
            value => {
                let text = scalar(value).ok_or_else(|| format!("`{path}` expects one value"))?;
                properties.insert(path, text);
            }
        }
    }
    Ok(())
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown(path: &str) -> String {
    match closest(path, KEYS.iter().map(|key| key.path)) {
        Some(key) => format!("unknown key, did you mean `{key}`?"),
        None => "unknown key; docs/configuration.md lists all".to_owned(),
    }
}

fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= ALIKE_MIN).then_some(best)
}

fn read_environment(environment: &[(String, String)], values: &mut Values, problems: &mut Vec<Problem>) {
    let secrets = secrets_prefix(environment, values);
    for (variable, value) in environment {
        let origin = Origin::Environment { variable: variable.clone() };
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) {
            match from_variable(key, value) {
                Ok(raw) => drop(values.insert(key.path, (raw, origin))),
                Err(what) => problems.push(Problem { origin, key: key.path.to_owned(), what }),
            }
        } else if variable.starts_with("TWINFEED_") && variable.contains("__") && !variable.starts_with(&secrets) {
            // Only names with `__` are surely meant for us: Kubernetes sets TWINFEED_PORT and the like in every pod
            // beside a service called `twinfeed`.
            let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
            let what = match closest(variable, variables.iter().map(String::as_str)) {
                Some(meant) => format!("sets no known key, did you mean `{meant}`?"),
                None => "sets no known key; docs/configuration.md lists all".to_owned(),
            };
            problems.push(Problem { origin, key: String::new(), what });
        }
    }
    // The usual variables of log filters, the stronger one last.
    for name in ["RUST_LOG", "TWINFEED_LOG"] {
        if let Some((variable, value)) =
            environment.iter().find(|(variable, value)| variable == name && !value.is_empty())
        {
            let origin = Origin::Environment { variable: variable.clone() };
            values.insert("log.filter", (Raw::Text(value.clone()), origin));
        }
    }
}

/// Variables that begin with this hold secrets of connectors: they are no keys, whatever their names look like.
fn secrets_prefix(environment: &[(String, String)], values: &Values) -> String {
    let (raw, _) = &values["secrets.env_prefix"];
    let variable = keys::find("secrets.env_prefix").map(Key::variable);
    match (environment.iter().find(|(name, _)| Some(name) == variable.as_ref()), raw) {
        (Some((_, prefix)), _) => prefix.clone(),
        (None, Raw::Text(prefix)) => prefix.clone(),
        (None, _) => String::new(),
    }
}

fn from_variable(key: &Key, value: &str) -> Result<Raw, String> {
    let parts = |separator| value.split(separator).map(str::trim).filter(|part: &&str| !part.is_empty());
    match key.shape {
        Shape::Members => Ok(Raw::List(parts(',').map(str::to_owned).collect())),
        Shape::Properties => {
            let pair = |part: &str| match part.split_once('=') {
                Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
                None => Err("expects name=value pairs joined by semicolons".to_owned()),
            };
            Ok(Raw::Table(parts(';').map(pair).collect::<Result<_, _>>()?))
        }
        _ => Ok(Raw::Text(value.trim().to_owned())),
    }
}
