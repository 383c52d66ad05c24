//! What goes to stdout (data) and to stderr (everything else).

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, TableStyle};
use tokio::sync::oneshot;

use super::failure::Failure;
use super::text;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: the API's document.
    Json,
}

/// Prints data, ending it with a line end.
pub(crate) fn print(data: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(data.as_bytes())?;
    if !data.is_empty() && !data.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Says something to the person. Lines are kept; nothing in them acts on the terminal.
pub(crate) fn note(message: &str) {
    let mut out = io::stderr().lock();
    for line in message.split('\n') {
        // With stderr gone there is nobody to tell.
        let _ = writeln!(out, "{}", text::plain(line));
    }
}

/// Asks the person a question that is answered with y or n.
pub(crate) async fn confirmed(question: &str) -> bool {
    let mut out = io::stderr();
    let _ = write!(out, "{question}");
    let _ = out.flush();
    let (answer, answered) = oneshot::channel();
    // A thread of its own, not the runtime's: Ctrl-C must not wait for a line that never comes.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        let _ = answer.send(read.map(|_| line).unwrap_or_default());
    });
    let line = answered.await.unwrap_or_default();
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// A column's head, and whether it holds figures, which are set flush right.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    Text(&'static str),
    Figure(&'static str),
}

/// A table without lines: it survives `grep`, `awk` and narrow terminals.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(name) | Column::Figure(name) => *name,
    }));
    for row in rows {
        table.add_row(row.iter().map(
            |cell| {
                if cell.is_empty() { "-".to_owned() } else { text::plain(cell) }
            },
        ));
    }
    for (index, column) in columns.iter().enumerate() {
        let Some(set) = table.column_mut(index) else {
            continue;
        };
        set.set_padding((0, 2));
        if matches!(column, Column::Figure(_)) {
            set.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Names and values, one pair a line. Values that are empty are left out.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let shown = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0);
    shown()
        .map(|(name, value)| format!("{name:width$}  {}", text::plain(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_harmless() {
        let columns = [Column::Text("NAME"), Column::Figure("SIZE"), Column::Text("NOTE")];
        let rows = vec![
            vec!["a".to_owned(), "10".to_owned(), "x\x1b[31my\nz".to_owned()],
            vec!["longer".to_owned(), "5".to_owned(), String::new()],
        ];
        assert_eq!(table(&columns, rows), "NAME    SIZE  NOTE\na         10  x?[31my?z\nlonger     5  -");
    }

    #[test]
    fn fields_leave_out_what_is_not_known() {
        let pairs = [("id", "1".to_owned()), ("nothing", String::new()), ("status", "ok".to_owned())];
        assert_eq!(fields(&pairs), "id      1\nstatus  ok");
    }
}
