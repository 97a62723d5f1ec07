//! A text as words, by quotes: as a shell would, without expansions.

/// The words of `a "b c" --d='e f'`: `a`, `b c`, `--d=e f`. A quote that is not closed goes to the end.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') if escapes(quote, characters.peek().copied()) => {
                word.get_or_insert_default().extend(characters.next());
            }
            (_, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Whether a backslash before this character takes its meaning away. Others stay: paths and patterns have them.
fn escapes(quote: Option<char>, next: Option<char>) -> bool {
    match next {
        Some('"' | '\\') => true,
        Some('\'' | ' ') => quote.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_quotes() {
        for (text, words) in [
            ("", vec![]),
            ("  ", vec![]),
            ("a b", vec!["a", "b"]),
            (r#"a "b c" 'd e'"#, vec!["a", "b c", "d e"]),
            (r#"--x="y z" --u='v w'"#, vec!["--x=y z", "--u=v w"]),
            (r#"a "" b"#, vec!["a", "", "b"]),
            (r"it\'s C:\dir a\ b", vec!["it's", r"C:\dir", "a b"]),
            (r#"--json='{"a": 1}'"#, vec![r#"--json={"a": 1}"#]),
            (r#""open"#, vec!["open"]),
        ] {
            assert_eq!(split(text), words, "{text}");
        }
    }
}
