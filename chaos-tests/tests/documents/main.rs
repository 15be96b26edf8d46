//! The documentation as its reader meets it: every command that a page shows is typed in, every command that it names is
//! one, every configuration is accepted. A block that cannot be run says why in its info string.
//!
//! `sh run` or `console run`: run in order on machines set up by README.md; exit code 0, or N where the line says
//! `# exit N`; lines shown under a `$ ` must be printed, figures aside. `sh not-run: reason`: only checked for commands
//! that exist. `text` and other languages: nothing to type.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod machines;
mod page;
mod shape;
mod words;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use machines::{Machines, ask};
use page::{Block, Page, Step, root};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};

/// Languages of blocks that hold nothing to type into a shell.
const DATA: [&str; 5] = ["text", "toml", "json", "yaml", "python"];
/// First words of lines that should not stand in a block of plain text.
const COMMANDS: [&str; 8] = ["wsctl ", "twinfeed ", "cargo ", "just ", "docker ", "deploy/", "$ ", "sudo "];

fn pages() -> Vec<Page> {
    page::all().unwrap()
}

fn fail_with(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn wrong_with(block: &Block) -> Option<&'static str> {
    let reason = block.tag.strip_prefix("not-run: ");
    match block.language.as_str() {
        "" => Some("says nothing of its language: `sh run`, `sh not-run: why`, `console run`, `text`, `toml` ..."),
        _ if block.is_shell() && !block.runs() && reason.is_none_or(|why| why.split(' ').count() < 3) => {
            Some("neither runs (`run`) nor says why not (`not-run: three words at least`)")
        }
        _ if block.is_shell() && block.steps().is_empty() => Some("holds no command"),
        language if !block.is_shell() && !DATA.contains(&language) => {
            Some("is in a language that this test does not know")
        }
        "text"
            if block.tag != "usage" && block.lines.iter().any(|line| COMMANDS.iter().any(|c| line.starts_with(c))) =>
        {
            Some("is called text and holds a command")
        }
        _ => None,
    }
}

#[test]
fn every_block_says_whether_it_is_run() {
    let mut problems = Vec::new();
    for page in pages() {
        for block in &page.blocks {
            problems.extend(wrong_with(block).map(|why| format!("{}:{}: the block {why}", page.name, block.line)));
        }
    }
    fail_with(&problems);
}

#[test]
fn every_named_command_exists() {
    let mut problems = Vec::new();
    let mut named = 0;
    for page in pages() {
        let typed = page.blocks.iter().filter(|block| block.is_shell()).flat_map(Block::steps);
        let mut lines: Vec<(usize, String)> = typed.map(|step| (step.line, step.command)).collect();
        lines.extend(page.inline().into_iter().map(|(line, code)| (line, code.to_owned())));
        for (line, text) in lines {
            for command in words::commands(&text) {
                let Some(outcome) = exists(&command) else { continue };
                named += 1;
                problems.extend(outcome.err().map(|why| format!("{}:{line}: `{text}`: {why:#}", page.name)));
            }
        }
    }
    assert!(named > 100, "only {named} commands were found");
    fail_with(&problems);
}

/// Whether a command of this project is one; None for any other program, and for its bare name.
fn exists(words: &[String]) -> Option<Result<()>> {
    let (program, arguments) = words.split_first()?;
    let first = arguments.first()?.as_str();
    match program.as_str() {
        "wsctl" | "twinfeed" | "chaos" => Some(parses(program, arguments)),
        "target/release/chaos" => Some(parses("chaos", arguments)),
        "just" if first == "chaos" => Some(parses("chaos", &arguments[1..])),
        "just" => Some(is_in("justfile", &[&format!("\n{first}:"), &format!("\n{first} ")])),
        "cargo" => Some(cargo_target(arguments)),
        "deploy/drill.sh" if first != "SCENARIO" => Some(is_drill(arguments)),
        _ => None,
    }
}

/// Asks for help at the end of the line: the words before it must parse, and nothing is done.
fn parses(program: &str, arguments: &[String]) -> Result<()> {
    let arguments: Vec<String> = arguments.iter().cloned().chain(["--help".to_owned()]).collect();
    let (fine, printed) = ask(program, &arguments, root())?;
    ensure!(fine, "{}", printed.lines().next().unwrap_or_default());
    Ok(())
}

fn is_in(file: &str, any: &[&str]) -> Result<()> {
    let text = std::fs::read_to_string(root().join(file))?;
    ensure!(any.iter().any(|wanted| text.contains(wanted)), "{file} does not have it");
    Ok(())
}

fn is_drill(arguments: &[String]) -> Result<()> {
    let script = |option| std::process::Command::new(root().join("deploy/drill.sh")).arg(option).output();
    let (scenarios, help) = (script("--list")?.stdout, script("--help")?.stdout);
    let known = String::from_utf8([scenarios, help, b"all\n--list\n".to_vec()].concat())?;
    let known: Vec<&str> = known.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for word in arguments.iter().map(String::as_str).filter(|word| word.parse::<u64>().is_err()) {
        ensure!(known.contains(&word), "deploy/drill.sh knows no `{word}`");
    }
    Ok(())
}

/// Packages, tests and binaries that `cargo` is asked for.
fn cargo_target(arguments: &[String]) -> Result<()> {
    let after = |flag: &str| arguments.iter().skip_while(|word| *word != flag).nth(1).map(String::as_str);
    let directory = match after("-p") {
        None => return Ok(()),
        Some("twinfeed-chaos") => "chaos-tests",
        Some("twinfeed-writer") => "node/writer",
        Some(package) => package.strip_prefix("twinfeed-").context("not a package of this project")?,
    };
    let manifest = std::fs::read_to_string(root().join(directory).join("Cargo.toml")).context("no such package")?;
    if let Some(test) = after("--test") {
        let tests = root().join(directory).join("tests");
        let found = tests.join(format!("{test}.rs")).is_file() || tests.join(test).join("main.rs").is_file();
        ensure!(found, "{directory} has no test {test}");
    }
    if let Some(name) = after("--bin") {
        ensure!(manifest.contains(&format!("name = \"{name}\"")), "{directory} has no binary {name}");
    }
    Ok(())
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut problems = Vec::new();
    for page in &pages {
        let directory = root().join(&page.name).parent().unwrap().to_owned();
        for (line, link) in page.links().into_iter().filter(|(_, link)| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = directory.join(file);
            let there = target.canonicalize().is_ok_and(|target| {
                let named = pages.iter().find(|page| root().join(&page.name).canonicalize().is_ok_and(|p| p == target));
                anchor.is_empty() || named.is_some_and(|page| page.anchors().iter().any(|known| known == anchor))
            });
            if !there {
                problems.push(format!("{}:{line}: {link} leads nowhere", page.name));
            }
        }
    }
    fail_with(&problems);
}

#[test]
fn every_configuration_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    let check = ["config", "check", "--config", "node.toml"].map(str::to_owned);
    let mut problems = Vec::new();
    let mut nodes = 0;
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "toml") {
            nodes += 1;
            std::fs::write(&file, block.lines.join("\n")).unwrap();
            let (fine, printed) = ask("twinfeed", &check, dir.path()).unwrap();
            if !fine {
                problems.push(format!("{}:{}: {printed}", page.name, block.line));
            }
        }
    }
    assert!(nodes > 1, "only {nodes} configurations were found");
    std::fs::copy(root().join("deploy/systemd/node.toml"), &file).unwrap();
    let (fine, printed) = ask("twinfeed", &check, dir.path()).unwrap();
    assert!(fine, "deploy/systemd/node.toml: {printed}");
    fail_with(&problems);
}

#[test]
fn every_command_does_what_its_page_says() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.name == "README.md").unwrap();
    let mut machines = Machines::start(readme).unwrap();
    let mut problems = Vec::new();
    // README.md first: it is read first.
    let others = pages.iter().filter(|page| page.name != "README.md");
    // While a page is written, it alone: TWINFEED_PAGE=README.md.
    let wanted = std::env::var("TWINFEED_PAGE").ok();
    let wanted = |page: &&Page| wanted.as_ref().is_none_or(|name| *name == page.name);
    for page in std::iter::once(readme).chain(others).filter(wanted).filter(|page| page.blocks.iter().any(Block::runs))
    {
        machines.begin(page).unwrap();
        for block in page.blocks.iter().filter(|block| block.runs()) {
            let outcomes = match block.language.as_str() {
                "python" => vec![(block.line, reads_a_header(block, machines.kafka()))],
                _ => block.steps().into_iter().map(|step| (step.line, follow(&mut machines, &step))).collect(),
            };
            for (line, outcome) in outcomes {
                problems.extend(outcome.err().map(|why| format!("{}:{line}: {why:#}", page.name)));
            }
        }
        problems.extend(machines.end().err().map(|why| format!("{}: {why:#}", page.name)));
    }
    fail_with(&problems);
}

fn follow(machines: &mut Machines, step: &Step) -> Result<()> {
    let Step { command, shown, .. } = step;
    eprintln!("$ {command}");
    let (code, printed) = machines.type_in(command).with_context(|| format!("`{command}`"))?;
    let wanted = match command.split_once("# exit ") {
        Some((_, code)) => code.split(' ').next().unwrap_or_default().parse().context("an exit code")?,
        None => 0,
    };
    ensure!(code == wanted, "`{command}` ended with {code}:\n{printed}");
    let missing = shape::first_missing(shown, &printed);
    ensure!(
        missing.is_none(),
        "`{command}` did not print a line like\n{}\nbut\n{printed}",
        missing.unwrap_or_default()
    );
    Ok(())
}

/// Runs Python that reads the header of a record, on the header of a real one.
fn reads_a_header(block: &Block, kafka: &str) -> Result<()> {
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka).set("group.id", "documents").create()?;
    let mut begin = TopicPartitionList::new();
    begin.add_partition_offset("trades", 0, Offset::Beginning)?;
    reader.assign(&begin)?;
    let record = reader.poll(std::time::Duration::from_secs(30)).context("no record in `trades`")??;
    let stamp = record.headers().context("a record without headers")?.iter().find(|header| header.key == "tf");
    let bytes = stamp.and_then(|header| header.value).context("a record without `tf`")?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let script = format!(
        "import struct\nheader = bytes.fromhex('{hex}')\n{}\nassert version == 2 and epoch > 0 and sequence > 0 and stream > 0, epoch\n\
         assert abs(received_ns / 1e6 - {}) < 3.6e6, received_ns",
        block.lines.join("\n"),
        record.timestamp().to_millis().context("a record without time")?
    );
    let output = std::process::Command::new("python3").args(["-c", &script]).output().context("python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_block_that_says_nothing_is_noticed() {
    let wrong = |text: &str| wrong_with(&Page::read("p.md", text).blocks[0]).is_some();
    for bad in ["```\nx\n```", "```sh\nwsctl status\n```", "```sh not-run:\nx\n```", "```sh not-run: no\nx\n```"] {
        assert!(wrong(bad), "{bad}");
    }
    for bad in ["```text\nwsctl status\n```", "```sh run\n# nothing\n```", "```cobol\nx\n```"] {
        assert!(wrong(bad), "{bad}");
    }
    for good in ["```sh run\nwsctl status\n```", "```sh not-run: needs three machines\nx\n```", "```text\nx\n```"] {
        assert!(!wrong(good), "{good}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_noticed() {
    let exists = |line: &str| exists(&words::commands(line)[0]).is_some_and(|outcome| outcome.is_ok());
    for good in
        ["wsctl connector ls -o json", "just chaos kill-owner --runs 3", "just verify", "twinfeed demo --kills 1"]
    {
        assert!(exists(good), "{good}");
    }
    for bad in ["wsctl conector ls", "wsctl status --verbos", "just nothing", "cargo test -p twinfeed-node --test none"]
    {
        assert!(!exists(bad), "{bad}");
    }
    assert!(Path::new(root()).join("README.md").is_file());
}
