//! A line of shell as the simple commands in it, just well enough for documentation: quotes, comments, operators and
//! assignments before a command. Nothing is expanded.

/// The words of every simple command of a line.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | ';' | '>' | '<') => {
                end_word(&mut all, word.take());
                all.push(Vec::new());
            }
            (None, ' ') => end_word(&mut all, word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    end_word(&mut all, word);
    let bare =
        |words: Vec<String>| words.into_iter().skip_while(|word| is_assignment(word) || word == "sudo").collect();
    all.into_iter().map(bare).filter(|words: &Vec<String>| !words.is_empty()).collect()
}

fn end_word(all: &mut [Vec<String>], word: Option<String>) {
    if let (Some(last), Some(word)) = (all.last_mut(), word) {
        last.push(word);
    }
}

fn is_assignment(word: &str) -> bool {
    let capital = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(capital))
}

#[test]
fn a_line_is_split_as_a_shell_would() {
    assert_eq!(
        commands("A_B=1 wsctl x '{\"a\": 1}' -o json | head # why"),
        [vec!["wsctl", "x", "{\"a\": 1}", "-o", "json"], vec!["head"]]
    );
    assert_eq!(commands("twinfeed feed --a &"), [vec!["twinfeed", "feed", "--a"]]);
    assert!(commands("# only a comment").is_empty());
    assert_eq!(commands("wsctl set KEY=VALUE x#y"), [vec!["wsctl", "set", "KEY=VALUE", "x#y"]]);
}
