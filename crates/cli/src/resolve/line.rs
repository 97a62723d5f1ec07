//! Reads a shell line just far enough to know what it runs: its commands, their words, and whether a real
//! shell is needed for them.

use std::mem;

/// A shell line, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShellLine {
    /// Its commands, in order. Never empty.
    pub(crate) commands: Vec<Command>,
    pub(crate) shape: Shape,
}

/// How the commands are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One command.
    Simple,
    /// Several, one after the other (`&&`, `||`, `;`).
    List,
    /// Pipes, background, groups, loops: only a shell knows.
    Complex,
}

/// One command of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// `VAR=value` words before it.
    pub(crate) assignments: Vec<(String, String)>,
    /// The program and its arguments, unquoted, nothing expanded.
    pub(crate) words: Vec<String>,
    /// Where the command begins in the line.
    pub(crate) begin: usize,
    /// Where the program's word begins in the line.
    pub(crate) start: usize,
    /// It has expansions or redirections.
    pub(crate) needs_shell: bool,
}

/// Why a line cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("a {0} is not closed")]
    Unclosed(&'static str),
    #[error("it has no command")]
    Empty,
}

/// Words that begin something else than a simple command, where a command is expected.
const KEYWORDS: [&str; 14] = [
    "if", "while", "until", "for", "case", "select", "function", "{", "!", "[[", "time", "trap", "coproc",
    "do",
];

/// Reads a line.
pub(crate) fn read(text: &str) -> Result<ShellLine, LineError> {
    let mut reader = Reader {
        text,
        at: 0,
        line: ShellLine {
            commands: Vec::new(),
            shape: Shape::Simple,
        },
        command: Command::default(),
        redirect: false,
    };
    reader.run()?;
    if reader.line.commands.is_empty() {
        Err(LineError::Empty)
    } else {
        Ok(reader.line)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: ShellLine,
    command: Command,
    /// The next word is where a redirection goes.
    redirect: bool,
}

/// A word as it was written.
struct Word {
    text: String,
    start: usize,
    quoted: bool,
    expands: bool,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<(), LineError> {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' => self.at += 1,
                '#' => {
                    self.at = self.text[self.at..]
                        .find('\n')
                        .map_or(self.text.len(), |end| self.at + end)
                }
                '\n' | ';' | '&' | '|' | '(' | ')' => self.operator(c),
                '<' | '>' => self.redirection(),
                _ => {
                    let word = self.word()?;
                    self.take(word);
                }
            }
        }
        self.end_command();
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn operator(&mut self, c: char) {
        let two = self.text[self.at..].get(..2).unwrap_or_default();
        if two == "&>" {
            self.at += 1;
            return self.redirection();
        }
        let joins = matches!(two, "&&" | "||") || matches!(c, ';' | '\n');
        self.at += if matches!(two, "&&" | "||" | ";;" | "|&") {
            2
        } else {
            1
        };
        let shape = if joins && two != ";;" {
            Shape::List
        } else {
            Shape::Complex
        };
        self.end_command();
        // A trailing `;` or newline joins nothing.
        if shape == Shape::Complex || !self.text[self.at..].trim().is_empty() {
            self.raise(shape);
        }
    }

    fn raise(&mut self, shape: Shape) {
        if self.line.shape != Shape::Complex {
            self.line.shape = shape;
        }
    }

    fn redirection(&mut self) {
        while matches!(self.peek(), Some('<' | '>' | '&')) {
            self.at += 1;
        }
        // The descriptor's number in front is no argument.
        let digits = |word: &String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let operator = self.text[..self.at].trim_end_matches(['<', '>', '&']);
        if operator.ends_with(|c: char| c.is_ascii_digit()) && self.command.words.last().is_some_and(digits) {
            self.command.words.pop();
        }
        self.command.needs_shell = true;
        self.redirect = true;
    }

    fn word(&mut self) -> Result<Word, LineError> {
        let mut word = Word {
            text: String::new(),
            start: self.at,
            quoted: false,
            expands: false,
        };
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => self.single_quoted(&mut word)?,
                '"' => self.double_quoted(&mut word)?,
                '\\' => {
                    self.at += 1;
                    word.quoted = true;
                    word.text.extend(self.next().filter(|c| *c != '\n'));
                }
                '$' | '`' => self.expansion(&mut word)?,
                _ => {
                    let starts = self.at == word.start;
                    word.expands |= matches!(c, '*' | '?' | '[') || c == '~' && starts;
                    word.expands |= c == '{' && self.text[self.at..].contains('}');
                    word.text.extend(self.next());
                }
            }
        }
        Ok(word)
    }

    fn single_quoted(&mut self, word: &mut Word) -> Result<(), LineError> {
        self.at += 1;
        let length = self.text[self.at..]
            .find('\'')
            .ok_or(LineError::Unclosed("single quote"))?;
        word.text.push_str(&self.text[self.at..self.at + length]);
        word.quoted = true;
        self.at += length + 1;
        Ok(())
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), LineError> {
        self.at += 1;
        word.quoted = true;
        loop {
            match self.peek().ok_or(LineError::Unclosed("double quote"))? {
                '"' => {
                    self.at += 1;
                    return Ok(());
                }
                '$' | '`' => self.expansion(word)?,
                '\\' => {
                    self.at += 1;
                    match self.next() {
                        Some('\n') | None => {}
                        Some(c @ ('"' | '\\' | '$' | '`')) => word.text.push(c),
                        Some(c) => word.text.extend(['\\', c]),
                    }
                }
                _ => word.text.extend(self.next()),
            }
        }
    }

    /// `$x`, `${x}`, `$(…)`, `` `…` ``: kept as they are; only their end must be found.
    fn expansion(&mut self, word: &mut Word) -> Result<(), LineError> {
        word.expands = true;
        let start = self.at;
        let c = self.next();
        if c == Some('`') {
            let length = self.text[self.at..]
                .find('`')
                .ok_or(LineError::Unclosed("backquote"))?;
            self.at += length + 1;
        } else if let Some(open @ ('(' | '{')) = self.peek() {
            let close = if open == '(' { ')' } else { '}' };
            let mut depth = 0;
            loop {
                let c = self.next().ok_or(LineError::Unclosed("parenthesis"))?;
                depth += i32::from(c == open) - i32::from(c == close);
                if depth == 0 {
                    break;
                }
            }
        }
        word.text.push_str(&self.text[start..self.at]);
        Ok(())
    }

    fn take(&mut self, word: Word) {
        self.command.needs_shell |= word.expands;
        if mem::take(&mut self.redirect) {
            return;
        }
        let first = self.command.words.is_empty();
        if first && self.command.assignments.is_empty() {
            self.command.begin = word.start;
        }
        if first && !word.quoted && KEYWORDS.contains(&word.text.as_str()) {
            self.raise(Shape::Complex);
        }
        if first && let Some(assignment) = assignment(&word, &self.text[word.start..]) {
            self.command.assignments.push(assignment);
            return;
        }
        if first {
            self.command.start = word.start;
        }
        self.command.words.push(word.text);
    }

    fn end_command(&mut self) {
        let command = mem::take(&mut self.command);
        self.redirect = false;
        if !command.words.is_empty() || !command.assignments.is_empty() {
            self.line.commands.push(command);
        }
    }
}

/// `NAME=value`, if the word is one; the name must not be quoted.
fn assignment(word: &Word, written: &str) -> Option<(String, String)> {
    let (name, value) = word.text.split_once('=')?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let good = starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (good && written.starts_with(name)).then(|| (name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Command {
        let mut line = read(text).unwrap();
        assert_eq!((line.commands.len(), line.shape), (1, Shape::Simple), "{text}");
        line.commands.remove(0)
    }

    #[test]
    fn words_and_quotes() {
        let command = one(r#"A=1 B="x y" node 'my app.js' --x="a \"b\" 'c'" d\ e '' # comment"#);
        assert_eq!(
            command.assignments,
            [("A".into(), "1".into()), ("B".into(), "x y".into())]
        );
        assert_eq!(command.words, ["node", "my app.js", "--x=a \"b\" 'c'", "d e", ""]);
        assert!(!command.needs_shell);
        assert_eq!(command.start, 12);
    }

    #[test]
    fn what_needs_a_shell() {
        for text in [
            "node $X",
            "node \"$X\"",
            "node `x y`",
            "node $(a; b)",
            "node *.js",
            "~/app",
            "node {a,b}",
            "node a > log",
            "node a 2>&1",
            "node a?",
            "P=$X node a",
        ] {
            assert!(one(text).needs_shell, "{text}");
        }
        for text in [
            "node '$X'",
            r"node \$X",
            "node a=b",
            "node a#b",
            "node ~x~ 'a*'",
            "node a;",
        ] {
            assert!(!one(text).needs_shell || text.contains('~'), "{text}");
        }
        assert_eq!(one("node a 2>&1 >log b").words, ["node", "a", "b"]);
        assert_eq!(one("node a 2 >log").words, ["node", "a", "2"]);
    }

    #[test]
    fn shapes() {
        for (text, shape, commands) in [
            ("a && b", Shape::List, 2),
            ("a; b || c", Shape::List, 3),
            ("a\nb", Shape::List, 2),
            ("a;", Shape::Simple, 1),
            ("a | b", Shape::Complex, 2),
            ("a &", Shape::Complex, 1),
            ("a & b; c", Shape::Complex, 3),
            ("(a; b)", Shape::Complex, 2),
            ("while true; do a; done", Shape::Complex, 3),
            ("! a", Shape::Complex, 1),
            ("a && { b; }", Shape::Complex, 3),
        ] {
            let line = read(text).unwrap();
            assert_eq!((line.shape, line.commands.len()), (shape, commands), "{text}");
        }
    }

    #[test]
    fn unreadable() {
        assert_eq!(read("a 'b"), Err(LineError::Unclosed("single quote")));
        assert_eq!(read("a \"b"), Err(LineError::Unclosed("double quote")));
        assert_eq!(read("a $(b"), Err(LineError::Unclosed("parenthesis")));
        assert_eq!(read("  # x"), Err(LineError::Empty));
    }
}
