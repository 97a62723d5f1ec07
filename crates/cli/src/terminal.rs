//! What a terminal is shown: how wide it is, whether it wants colour, and texts of others without their power over it.

use crate::output::paint;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Where text goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// In characters; `None` if lines may be as long as they like.
    pub(crate) width: Option<usize>,
    pub(crate) colour: bool,
}

impl Screen {
    /// Our standard output.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let size = terminal
            .then(|| rustix::termios::tcgetwinsize(&stdout).ok())
            .flatten();
        let width = size
            .map(|size| usize::from(size.ws_col))
            .filter(|width| *width > 0);
        Self {
            width,
            colour: terminal && colour_wanted(),
        }
    }

    /// The text in a colour, where that is wanted.
    pub(crate) fn paint(&self, colour: u8, text: &str) -> String {
        if self.colour {
            paint(colour, text)
        } else {
            text.to_owned()
        }
    }
}

/// Whether a terminal of ours may have colour.
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The text with everything shown that would move the cursor, change colours or turn the direction of writing. It
/// has one line.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            // Writing to a string cannot fail.
            _ if is_harmful(c) => write!(shown, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default(),
            _ => shown.push(c),
        }
    }
    shown
}

/// How many columns of the screen it takes: letters of some scripts take two.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// As much of it as has room, with `…` for the rest.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = if fits { left - wide } else { 0 };
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!((width("ab"), width("日本"), width("é")), (2, 4, 1));
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abcd", 3), "ab…");
    }

    #[test]
    fn escapes_have_no_power() {
        for (text, expected) in [
            ("plain äöü 漢字", "plain äöü 漢字"),
            ("\x1b[2J\x1b]0;title\x07", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
            ("a\tb\r\nc", "a    b\\u{d}\\u{a}c"),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }
}
