//! pm2's tables: boxes of lines, columns of a given width.

use crate::terminal::{Screen, cut, width as wide};

/// Text in a column, with ANSI styles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Field {
    pub(crate) text: String,
    pub(crate) styles: &'static [u8],
}

impl Field {
    pub(crate) fn new(text: impl Into<String>, styles: &'static [u8]) -> Self {
        Self {
            text: text.into(),
            styles,
        }
    }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self::new(text, &[])
    }
}

/// The table. Widths are those of the columns with a blank on each side; longer text is cut.
pub(crate) fn grid(head: Option<&[&str]>, widths: &[usize], rows: &[Vec<Field>], screen: &Screen) -> String {
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let line = |row: &[Field]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(field, width)| cell(field, *width, screen))
            .collect();
        format!("│{}│\n", cells.join("│"))
    };
    let mut text = rule("┌", "┬", "┐");
    if let Some(head) = head {
        let head: Vec<Field> = head.iter().map(|title| Field::new(*title, &[1, 36])).collect();
        text.push_str(&line(&head));
        if !rows.is_empty() {
            text.push_str(&rule("├", "┼", "┤"));
        }
    }
    for row in rows {
        text.push_str(&line(row));
    }
    text.push_str(&rule("└", "┴", "┘"));
    text
}

/// As wide as what is in them.
pub(crate) fn natural(rows: &[Vec<Field>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|field| wide(&field.text)).max().unwrap_or(0) + 2
        })
        .collect()
}

fn cell(field: &Field, width: usize, screen: &Screen) -> String {
    let room = width.saturating_sub(2);
    let text = cut(&field.text, room);
    let blanks = " ".repeat(room.saturating_sub(wide(&text)));
    format!(" {}{blanks} ", styled(&text, field.styles, screen))
}

/// The text in these styles, where colour is wanted.
pub(crate) fn styled(text: &str, styles: &[u8], screen: &Screen) -> String {
    if !screen.colour || styles.is_empty() {
        return text.to_owned();
    }
    let start: String = styles.iter().map(|style| format!("\x1b[{style}m")).collect();
    format!("{start}{text}\x1b[0m")
}
