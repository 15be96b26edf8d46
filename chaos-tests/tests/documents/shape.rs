//! Output on a page against output of a run: the same lines in the same order, where numbers, times and identities may
//! differ and the run may say more in between.

/// What stands for a figure in a shape.
const FIGURE: &str = "9";
/// Figures with their units: `12ms`, `2m3s`, `4900/s`, `0.5%`.
const FIGURE_LETTERS: &str = "9.msh/%";

/// A line without what changes from run to run: figures, identities, and the width of columns. Figures in a row are one,
/// as a thousand is written in two words, and a figure that is not known yet is a dash.
fn shape(line: &str) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(word).collect();
    words.dedup_by(|a, b| a == FIGURE && b == FIGURE);
    words.join(" ")
}

fn word(word: &str) -> String {
    let bare = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let is_hex = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
    if bare.len() >= 8 && bare.chars().all(is_hex) && bare.contains(|letter: char| letter.is_ascii_digit()) {
        return FIGURE.to_owned();
    }
    let mut text = String::new();
    for letter in word.chars() {
        match letter.is_ascii_digit() {
            true if text.ends_with(FIGURE) => {}
            true => text.push_str(FIGURE),
            false => text.push(letter),
        }
    }
    let text = text.replace("9.9", FIGURE);
    let is_figure = text.starts_with(FIGURE) && text.chars().all(|letter| FIGURE_LETTERS.contains(letter));
    if is_figure || text == "-" { FIGURE.to_owned() } else { text }
}

/// The first line of the page that the run did not print; `…` stands for any lines, at the end of a line for its rest.
pub(crate) fn first_missing<'p>(shown: &'p [String], printed: &str) -> Option<&'p str> {
    let mut printed = printed.lines().map(shape);
    let mut is_there = |line: &String| {
        let wanted = shape(line);
        match wanted.strip_suffix('…') {
            Some(begin) => begin.is_empty() || printed.any(|line| line.starts_with(begin.trim_end())),
            None => wanted.is_empty() || printed.any(|line| line == wanted),
        }
    };
    shown.iter().find(|line| !is_there(line)).map(String::as_str)
}

#[test]
fn figures_may_differ_and_words_may_not() {
    let shown = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let printed =
        "NAME    STATE    P99\ntrades  RUNNING  12.5 ms\n2026-11-21T11:36:34.429Z  gap  n1\nid b0659f8fbf06c866\n";
    assert_eq!(first_missing(&shown(&["trades RUNNING 3 ms", "…", "id 00ff00ff00ff0011"]), printed), None);
    assert_eq!(first_missing(&shown(&["2025-01-01T00:00:00.000Z gap …"]), printed), None);
    assert_eq!(first_missing(&shown(&["trades FAILED 3 ms"]), printed), Some("trades FAILED 3 ms"));
    assert_eq!(first_missing(&shown(&["id 0123456789", "NAME …"]), printed), Some("NAME …"), "another order");
}
