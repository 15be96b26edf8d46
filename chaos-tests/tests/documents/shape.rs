//! Output on a page against output of a run: the same lines in the same order, where numbers, times and identities may
//! differ and the run may say more in between.

/// A line without what changes from run to run: digits and what stands for them, and the width of columns.
fn shape(line: &str) -> String {
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn word(word: &str) -> String {
    let bare = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let long_hex = bare.len() >= 8 && bare.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
    if long_hex && bare.contains(|letter: char| letter.is_ascii_digit()) {
        return "9".to_owned();
    }
    let mut shape = String::new();
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            shape.push(letter);
            continue;
        }
        shape.push('9');
        let mut point = false;
        while let Some(next) = letters.peek().copied() {
            let is_point = next == '.' && !point && letters.clone().nth(1).is_some_and(|after| after.is_ascii_digit());
            if !next.is_ascii_digit() && !is_point {
                break;
            }
            point |= is_point;
            letters.next();
        }
    }
    shape
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
