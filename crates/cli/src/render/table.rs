//! A table that fits its screen: long names are cut, less important columns are left out, and the last one is cut.

use crate::terminal::{Screen, cut, width};

/// Between two columns.
const GAP: usize = 2;
/// The last column is not cut to less, nor any other text.
const NARROW: usize = 10;
/// Longer text is cut before a column is left out for it.
const LONG: usize = 24;

/// A column's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Numbers are set to the right.
    pub(crate) right: bool,
    /// The lowest one goes first; 9 stays always.
    pub(crate) importance: u8,
}

/// One value, with its colour.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) colour: Option<u8>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, colour: None }
    }
}

/// The table as lines. Each row has a cell per column.
pub(crate) fn render(columns: &[Column], rows: &[Vec<Cell>], screen: &Screen) -> String {
    let mut widths: Vec<usize> = (0..columns.len())
        .map(|index| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
            widest.max(width(columns[index].title))
        })
        .collect();
    let shown = fit(columns, &mut widths, screen.width);
    let mut text = String::new();
    let head: Vec<Cell> = columns.iter().map(head).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = shown
            .iter()
            .filter_map(|index| {
                Some(pad(
                    row.get(*index)?,
                    columns[*index].right,
                    widths[*index],
                    screen,
                ))
            })
            .collect();
        text.push_str(cells.join(&" ".repeat(GAP)).trim_end());
        text.push('\n');
    }
    text
}

fn head(column: &Column) -> Cell {
    Cell {
        text: column.title.into(),
        colour: Some(1),
    }
}

/// Which columns have a place; the last one may get narrower.
fn fit(columns: &[Column], widths: &mut [usize], room: Option<usize>) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let Some(room) = room else { return shown };
    narrow(columns, widths, &shown, room, LONG);
    loop {
        let total: usize = shown.iter().map(|index| widths[*index] + GAP).sum();
        let over = (total.saturating_sub(GAP)).saturating_sub(room);
        let Some(last) = shown.last().copied().filter(|_| over > 0) else {
            return shown;
        };
        if !columns[last].right && widths[last].saturating_sub(over) >= NARROW {
            widths[last] -= over;
            return shown;
        }
        let droppable = |index: &&usize| columns[**index].importance < 9;
        let least = shown
            .iter()
            .filter(droppable)
            .min_by_key(|index| columns[**index].importance);
        let Some(least) = least.copied() else {
            narrow(columns, widths, &shown, room, NARROW);
            return shown;
        };
        shown.retain(|index| *index != least);
    }
}

/// Cuts columns of text that stay always, as far as is needed.
fn narrow(columns: &[Column], widths: &mut [usize], shown: &[usize], room: usize, least: usize) {
    for index in shown {
        let total: usize = shown.iter().map(|index| widths[*index] + GAP).sum();
        let over = total.saturating_sub(GAP + room);
        let column = &columns[*index];
        if !column.right && column.importance == 9 && widths[*index] > least {
            widths[*index] = widths[*index].saturating_sub(over).max(least);
        }
    }
}

fn pad(cell: &Cell, right: bool, room: usize, screen: &Screen) -> String {
    let text = cut(&cell.text, room);
    let blanks = " ".repeat(room.saturating_sub(width(&text)));
    let text = cell
        .colour
        .map_or_else(|| text.clone(), |colour| screen.paint(colour, &text));
    if right { blanks + &text } else { text + &blanks }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "PID",
            right: true,
            importance: 9,
        },
        Column {
            title: "MEMORY",
            right: true,
            importance: 1,
        },
        Column {
            title: "SAYS",
            right: false,
            importance: 2,
        },
    ];

    fn table(room: Option<usize>, colour: bool) -> String {
        let row = |cells: [&str; 3]| cells.iter().map(|text| Cell::from((*text).to_owned())).collect();
        let rows = [
            row(["7", "1.0 MiB", "all is well with me"]),
            row(["4711", "-", ""]),
        ];
        render(&COLUMNS, &rows, &Screen { width: room, colour })
    }

    #[test]
    fn wide_enough() {
        let expected = " PID   MEMORY  SAYS\n   7  1.0 MiB  all is well with me\n4711        -\n";
        assert_eq!(table(None, false), expected);
        assert_eq!(table(Some(34), false), expected);
    }

    #[test]
    fn cut_and_left_out() {
        assert_eq!(
            table(Some(33), false).lines().nth(1),
            Some("   7  1.0 MiB  all is well with …")
        );
        assert_eq!(
            table(Some(25), false).lines().nth(1),
            Some("   7  1.0 MiB  all is we…")
        );
        assert_eq!(
            table(Some(24), false).lines().nth(1),
            Some("   7  all is well with …")
        );
        assert_eq!(table(Some(10), false), " PID\n   7\n4711\n");
        assert_eq!(table(Some(1), false), " PID\n   7\n4711\n");
        for room in 4..60 {
            assert!(
                table(Some(room), false)
                    .lines()
                    .all(|line| line.chars().count() <= room),
                "{room}"
            );
        }
    }

    #[test]
    fn colour_has_no_width() {
        assert!(table(None, true).starts_with(" \x1b[1mPID\x1b[0m   \x1b[1mMEMORY\x1b[0m"));
    }
}
