//! Writes a command tree down as Markdown: what it does, its arguments, its examples, command by command. `wsctl` and
//! `twinfeed` hold their pages in docs/ against it in their own tests. It knows clap and nothing of the commands.

use std::{ffi::OsStr, fmt::Write as _, path::Path};

use clap::{Arg, ArgAction, Command};

/// What stands above the examples in a command's help.
const EXAMPLES: &str = "Examples:";

/// The page of a command tree. `preface` stands between title and commands: what is true of all of them.
pub fn page(mut tree: Command, preface: &str) -> String {
    // Usage lines with the full names of the commands come only with this.
    tree.build();
    let name = tree.get_name().to_owned();
    let mut text = format!("# `{name}`\n\n<!-- Written by `just docs` from the command tree. Do not edit. -->\n\n");
    let _ = writeln!(text, "{}.\n\n{}", sentence(&tree), preface.trim_end());
    let shared: Vec<&Arg> = tree.get_arguments().filter(|arg| arg.is_global_set() && shown(arg)).collect();
    if !shared.is_empty() {
        text.push_str("\n## Options of every command\n\n");
        table(&mut text, &shared);
    }
    for command in tree.get_subcommands_mut() {
        section(&mut text, &name, command);
    }
    text
}

/// Arguments without help, and commands that a user types without an example.
pub fn undocumented(mut tree: Command) -> Vec<String> {
    tree.build();
    let mut found = Vec::new();
    gather_undocumented(tree.get_name(), &tree, &mut found);
    found
}

fn gather_undocumented(path: &str, command: &Command, found: &mut Vec<String>) {
    let mute = |arg: &&Arg| shown(arg) && arg.get_help().is_none();
    found.extend(command.get_arguments().filter(mute).map(|arg| format!("{path}: {}", form(arg))));
    if !command.has_subcommands() && examples(command).is_empty() {
        found.push(format!("{path}: no example"));
    }
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && !is_added_by_clap(verb)) {
        gather_undocumented(&format!("{path} {}", verb.get_name()), verb, found);
    }
}

/// Holds a page against its file, or writes it with `TWINFEED_WRITE_DOCS=1`, as `just docs` does.
///
/// # Errors
/// The first line that differs.
pub fn hold_against(path: &Path, page: &str) -> Result<(), String> {
    if std::env::var_os("TWINFEED_WRITE_DOCS").is_some() {
        return std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()));
    }
    let present = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut pairs = present.lines().zip(page.lines()).enumerate();
    let differing = pairs.find(|(_, (there, wanted))| there != wanted);
    match differing {
        Some((n, (there, wanted))) => {
            Err(format!("{}:{} has drifted: run `just docs`\n- {there}\n+ {wanted}", path.display(), n + 1))
        }
        None if present == page => Ok(()),
        None => Err(format!("{} has drifted at its end: run `just docs`", path.display())),
    }
}

fn section(text: &mut String, above: &str, command: &mut Command) {
    if command.is_hide_set() || is_added_by_clap(command) {
        return;
    }
    let path = format!("{above} {}", command.get_name());
    let _ = writeln!(text, "\n## `{path}`\n\n{}.", sentence(command));
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = writeln!(text, "Also: {}.", aliases.join(", "));
    }
    if !command.has_subcommands() {
        let usage = command.render_usage().to_string();
        let _ = writeln!(text, "\n```text usage\n{}\n```", usage.trim_start_matches("Usage: ").trim_end());
    }
    let own: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_global_set() && shown(arg)).collect();
    if !own.is_empty() {
        text.push('\n');
        table(text, &own);
    }
    let examples = examples(command);
    if !examples.is_empty() {
        let _ = writeln!(text, "\n```sh run\n{}\n```", examples.join("\n"));
    }
    for verb in command.get_subcommands_mut() {
        section(text, &path, verb);
    }
}

/// A `help` that nobody wrote.
fn is_added_by_clap(command: &Command) -> bool {
    command.get_name() == "help" && command.get_about().is_some_and(|about| about.to_string().starts_with("Print this"))
}

fn shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())
}

fn sentence(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default().trim_end_matches('.').to_owned()
}

/// The lines under `Examples:`; a line without indentation ends them.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| line.trim() != EXAMPLES).skip(1);
    lines.map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

fn table(text: &mut String, arguments: &[&Arg]) {
    text.push_str("| argument | default | |\n|---|---|---|\n");
    for arg in arguments {
        let _ = writeln!(text, "| {} | {} | {} |", form(arg), default(arg), meaning(arg));
    }
}

/// How it is written: `` `-o`, `--output OUTPUT` `` or `` `NAME` ``.
fn form(arg: &Arg) -> String {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let names: Vec<&str> = arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let value = if takes_value { names.join(" ") } else { String::new() };
    let short = arg.get_short().map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
    let written = match arg.get_long() {
        Some(long) => format!("{short}`{}`", format!("--{long} {value}").trim_end()),
        None => format!("`{value}`"),
    };
    written.replace('|', "\\|")
}

fn default(arg: &Arg) -> String {
    let flag = !matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let values: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    match values.join(",") {
        _ if arg.is_required_set() => "required".to_owned(),
        values if values.is_empty() || flag => String::new(),
        values => format!("`{values}`"),
    }
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let words: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_num_args().is_some_and(|n| n.takes_values()))
        .map(word)
        .collect();
    if !words.is_empty() {
        let _ = write!(text, ": {}", words.join(", "));
    }
    if let Some(variable) = arg.get_env().and_then(OsStr::to_str) {
        let _ = write!(text, " (`{variable}`)");
    }
    text.replace('|', "\\|").replace('\n', " ")
}

fn word(value: &clap::builder::PossibleValue) -> String {
    match value.get_help() {
        Some(help) => format!("`{}` ({help})", value.get_name()),
        None => format!("`{}`", value.get_name()),
    }
}

#[cfg(test)]
mod tests {
    use clap::builder::PossibleValuesParser;

    use super::*;

    fn tree() -> Command {
        let brew = Command::new("brew")
            .about("Makes tea.")
            .visible_alias("make")
            .arg(Arg::new("leaf").value_name("LEAF").required(true).help("Which leaf"))
            .arg(
                Arg::new("grade")
                    .long("grade")
                    .short('g')
                    .value_name("N|WORD")
                    .default_value("1")
                    .env("TEA_GRADE")
                    .value_parser(PossibleValuesParser::new(["1", "2"]))
                    .help("How good"),
            )
            .arg(Arg::new("secret").long("secret").hide(true))
            .after_help("Examples:\n  tea brew green   # light\n\nNot an example");
        let global = Arg::new("loud").long("loud").action(ArgAction::SetTrue).global(true).help("Say so");
        Command::new("tea").about("Tea").arg(global).subcommand(brew).subcommand(Command::new("ghost").hide(true))
    }

    #[test]
    fn a_tree_becomes_a_page() {
        let page = page(tree(), "Drink it.\n");
        for wanted in [
            "# `tea`\n",
            "Tea.\n\nDrink it.\n",
            "| `--loud` |  | Say so |\n",
            "## `tea brew`\n\nMakes tea.\nAlso: `make`.\n\n```text usage\ntea brew [OPTIONS] <LEAF>\n```\n",
            "| `LEAF` | required | Which leaf |\n",
            "| `-g`, `--grade N\\|WORD` | `1` | How good: `1`, `2` (`TEA_GRADE`) |\n",
            "```sh run\ntea brew green   # light\n```\n",
        ] {
            assert!(page.contains(wanted), "no {wanted:?} in\n{page}");
        }
        for hidden in ["ghost", "secret", "Not an example", "--help", "tea help"] {
            assert!(!page.contains(hidden), "{hidden} in\n{page}");
        }
    }

    #[test]
    fn what_lacks_help_or_example_is_named() {
        let mute = Command::new("pour").arg(Arg::new("cup").value_name("CUP"));
        assert_eq!(undocumented(tree()), Vec::<String>::new());
        assert_eq!(undocumented(tree().subcommand(mute)), ["tea pour: `CUP`", "tea pour: no example"]);
    }

    #[test]
    fn a_page_that_drifted_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tea.md");
        std::fs::write(&file, "one\ntwo\n").unwrap();
        assert_eq!(hold_against(&file, "one\ntwo\n"), Ok(()));
        assert!(hold_against(&file, "one\n2\n").unwrap_err().contains("tea.md:2"));
        assert!(hold_against(&file, "one\ntwo\nthree\n").unwrap_err().contains("at its end"));
    }
}
