//! Splits an option's value into words by a shell's quoting rules, without any of its expansions.

/// Why a text cannot be split.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    #[error("a {0} quote is not closed")]
    Unclosed(char),
}

impl WordsError {
    pub(crate) const HINT: &'static str = "quotes and backslashes work as in a shell";
}

/// The words of `text`: separated by blanks, quoted by `'…'`, `"…"` or a backslash.
pub(crate) fn split(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' | '"' => loop {
                match chars.next().ok_or(WordsError::Unclosed(c))? {
                    end if end == c => break,
                    '\\' if c == '"' && matches!(chars.peek(), Some('"' | '\\' | '$' | '`')) => {
                        word.extend(chars.next());
                    }
                    other => word.push(other),
                }
            },
            '\\' => word.push(chars.next().unwrap_or('\\')),
            other => word.push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        for (text, expected) in [
            ("", vec![]),
            ("  --a   --b=1 ", vec!["--a", "--b=1"]),
            (r#"-r "./my file.js" 'x y'z"#, vec!["-r", "./my file.js", "x yz"]),
            (r#"a\ b "c\"d" 'e\f' """#, vec!["a b", "c\"d", r"e\f", ""]),
            (r"$HOME * \", vec!["$HOME", "*", "\\"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        assert_eq!(split("a 'b"), Err(WordsError::Unclosed('\'')));
    }
}
