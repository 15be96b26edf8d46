//! Results as JSON lines, and their tables for docs/testing.md and the README.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{
    scenarios,
    verdict::{RunResult, Silences, Verdict},
};

/// Appends one result.
pub fn append(path: &Path, result: &RunResult) -> Result<()> {
    let mut file =
        File::options().create(true).append(true).open(path).with_context(|| format!("{}", path.display()))?;
    writeln!(file, "{}", serde_json::to_string(result)?)?;
    Ok(())
}

/// Reads all results of a file.
pub fn read(path: &Path) -> Result<Vec<RunResult>> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    BufReader::new(file)
        .lines()
        .enumerate()
        .map(|(n, line)| serde_json::from_str(&line?).with_context(|| format!("line {} of {}", n + 1, path.display())))
        .collect()
}

/// What the README shows.
const HEADLINES: [&str; 5] =
    ["kill-owner", "kill-owner-and-leader", "pause-owner", "new-configuration", "rolling-restart"];

/// One story's results, added up.
#[derive(Debug, Default)]
struct Sum {
    faults: usize,
    failed: usize,
    invalid: usize,
    lost: u64,
    duplicated: u64,
    silence_ms: Vec<u64>,
}

fn sums(results: &[RunResult]) -> BTreeMap<&str, Sum> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for result in results {
        let sum = sums.entry(&result.story).or_default();
        sum.faults += result.faults;
        sum.failed += usize::from(result.verdict == Verdict::Fail);
        sum.invalid += usize::from(result.verdict == Verdict::Invalid);
        sum.lost += result.lost;
        sum.duplicated += result.duplicated;
        sum.silence_ms.extend(&result.silence_ms);
    }
    sums
}

/// A Markdown table with one line a story, in the order of the suite; stories without results say so.
pub fn table(results: &[RunResult]) -> String {
    let mut sums = sums(results);
    let mut text = String::from(
        "| rows | story | what happens | must hold | runs | FAIL | INVALID | lost | duplicated | silence p50 / p99 / max, ms |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for story in scenarios::ALL {
        let facts = story.facts();
        let rows = facts.rows.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let ids = facts.invariants.iter().map(|i| i.id()).filter(|id| *id != "own").collect::<Vec<_>>().join(" ");
        let sum = sums.remove(facts.name).unwrap_or_default();
        let Silences { p50, p99, max } = Silences::of(&sum.silence_ms);
        let _ = writeln!(
            text,
            "| {rows} | `{}` | {} | {ids} | {} | {} | {} | {} | {} | {p50} / {p99} / {max} |",
            facts.name, facts.tells, sum.faults, sum.failed, sum.invalid, sum.lost, sum.duplicated
        );
    }
    text
}

/// A shorter one, for readers in a hurry.
pub fn headlines(results: &[RunResult]) -> String {
    let sums = sums(results);
    let mut text = String::from(
        "| what happens | times | lost | duplicated | silence p50 | max | command |\n|---|---|---|---|---|---|---|\n",
    );
    for story in scenarios::ALL.iter().map(|story| story.facts()).filter(|facts| HEADLINES.contains(&facts.name)) {
        let Some(sum) = sums.get(story.name) else { continue };
        let Silences { p50, max, .. } = Silences::of(&sum.silence_ms);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {p50} ms | {max} ms | `just chaos {} --runs 20` |",
            story.tells, sum.faults, sum.lost, sum.duplicated, story.name
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Observation;

    #[test]
    fn a_table_adds_up_runs_and_names_stories_that_did_not_run() {
        let facts = scenarios::find("kill-owner").unwrap().facts();
        let seen = Observation { silence_ms: vec![5, 15], ..Observation::default() };
        let results = [RunResult::judge(&facts, 1, true, &seen), RunResult::invalid(&facts, 2, "no fault".to_owned())];
        let table = table(&results);
        let line = table.lines().find(|line| line.contains("`kill-owner`")).unwrap();
        assert!(line.ends_with("| 0 | 0 | 1 | 0 | 0 | 5 / 15 / 15 |"), "{line}");
        assert_eq!(table.lines().count(), scenarios::ALL.len() + 2);
    }

    /// The tables on the pages are those of docs/chaos-results.jsonl. `TWINFEED_WRITE_DOCS=1` writes them anew.
    #[test]
    fn the_tables_have_not_drifted() {
        const BEGIN: &str = "<!-- generated from chaos-results.jsonl -->\n";
        const END: &str = "<!-- end -->";
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let results = read(&root.join("docs/chaos-results.jsonl")).unwrap();
        for (page, table) in [("docs/testing.md", table(&results)), ("README.md", headlines(&results))] {
            let path = root.join(page);
            let text = std::fs::read_to_string(&path).unwrap();
            let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
            let (present, after) = rest.split_once(END).expect("the end of the table");
            if std::env::var_os("TWINFEED_WRITE_DOCS").is_some() {
                std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
            } else {
                assert_eq!(present, table, "{page}: run `just docs`");
            }
        }
    }

    #[test]
    fn results_survive_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let facts = scenarios::find("kill-owner").unwrap().facts();
        let path = dir.path().join("results.jsonl");
        append(&path, &RunResult::invalid(&facts, 2, "no fault".to_owned())).unwrap();
        append(&path, &RunResult::judge(&facts, 3, true, &Observation::default())).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(
            read.iter().map(|r| (r.seed, r.verdict)).collect::<Vec<_>>(),
            [(2, Verdict::Invalid), (3, Verdict::Pass)]
        );
    }
}
