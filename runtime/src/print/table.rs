//! A table as `get` prints it: a header, rows, and a memory of column widths for watching.

use super::columns;

/// How a cell is to be coloured on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Not yet, or not any more.
    Busy,
    /// Something is wrong.
    Bad,
}

impl Tone {
    /// The tone of a STATUS word.
    #[must_use]
    pub fn of_status(status: &str) -> Option<Self> {
        let word = status.strip_prefix("Init:").unwrap_or(status);
        match word {
            "Running" | "Completed" | "Succeeded" | "Normal" => Some(Self::Good),
            "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" | "NotReady" => {
                Some(Self::Busy)
            }
            "" | "<none>" => None,
            _ if word.starts_with(|first: char| first.is_ascii_digit()) => Some(Self::Busy),
            _ if word.starts_with(char::is_uppercase) => Some(Self::Bad),
            _ => None,
        }
    }

    fn sequence(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Busy => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Columns, and what is remembered between the rows of a watch.
#[derive(Debug, Default)]
pub struct Table {
    header: Vec<&'static str>,
    header_due: bool,
    widths: Vec<usize>,
    color: bool,
}

/// One row of cells.
pub type Row = Vec<String>;

impl Table {
    /// A table with these column titles.
    #[must_use]
    pub fn new(header: Vec<&'static str>) -> Self {
        Self { header, header_due: true, ..Self::default() }
    }

    /// Leaves out the header.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.header_due = false;
        self
    }

    /// Colours the cells of the columns STATUS and TYPE.
    #[must_use]
    pub fn colored(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// The text of further rows, below a header the first time.
    #[must_use]
    pub fn render(&mut self, rows: &[Row]) -> String {
        let mut text = String::new();
        if std::mem::take(&mut self.header_due) {
            text.push_str(&self.header.join("\t"));
            text.push('\n');
        }
        for row in rows {
            let cells: Vec<String> = row.iter().map(|cell| one_line(cell)).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        let header_lines = text.lines().count() - rows.len();
        let aligned = columns::align(&text, columns::TABLE, Some(&mut self.widths));
        if self.color { self.paint(&aligned, header_lines, rows) } else { aligned }
    }

    /// Colours after aligning, so that escape sequences have no say in widths.
    fn paint(&self, aligned: &str, header_lines: usize, rows: &[Row]) -> String {
        let column = self.header.iter().position(|title| matches!(*title, "STATUS" | "TYPE"));
        let mut text = String::new();
        for (number, line) in aligned.lines().enumerate() {
            let cell = column.and_then(|column| rows.get(number.checked_sub(header_lines)?)?.get(column));
            text.push_str(&self.painted(line, column.unwrap_or(0), cell));
            text.push('\n');
        }
        text
    }

    fn painted(&self, line: &str, column: usize, cell: Option<&String>) -> String {
        let tone = cell.and_then(|cell| Some((cell, Tone::of_status(cell)?)));
        let start: usize = self.widths.iter().take(column).sum();
        let Some((cell, tone)) = tone.filter(|_| line.is_ascii()) else {
            return line.to_owned();
        };
        let end = start + cell.len();
        match (line.get(..start), line.get(start..end), line.get(end..)) {
            (Some(before), Some(word), Some(after)) => {
                format!("{before}{}{word}\x1b[0m{after}", tone.sequence())
            }
            _ => line.to_owned(),
        }
    }
}

/// A cell is cut at its first line break; escape sequences are shown, not obeyed.
fn one_line(cell: &str) -> String {
    let cut = cell.find(['\n', '\r', '\x0c']).map(|end| format!("{}...", &cell[..end]));
    escape(cut.as_deref().unwrap_or(cell)).replace('\t', " ")
}

/// Makes control characters of foreign text harmless to a terminal.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('\x1b', "^[").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_header_comes_once() {
        let mut table = Table::new(vec!["NAME", "STATUS"]);
        assert_eq!(table.render(&[row(&["web", "Pending"])]), "NAME   STATUS\nweb    Pending\n");
        assert_eq!(table.render(&[row(&["web", "Running"])]), "web    Running\n");
    }

    #[test]
    fn a_cell_of_many_lines_is_cut() {
        let mut table = Table::new(vec!["A"]).without_header();
        assert_eq!(table.render(&[row(&["one\ntwo"])]), "one...\n");
        assert_eq!(table.render(&[row(&["\x1b[31mred"])]), "^[[31mred\n");
    }

    #[test]
    fn status_words_have_colours_on_demand() {
        let mut table = Table::new(vec!["NAME", "STATUS", "AGE"]).colored(true);
        let text = table.render(&[row(&["web", "Error", "5s"])]);
        assert_eq!(text, "NAME   STATUS   AGE\nweb    \x1b[31mError\x1b[0m    5s\n");
    }

    #[test]
    fn words_have_tones() {
        assert_eq!(Tone::of_status("Running"), Some(Tone::Good));
        assert_eq!(Tone::of_status("Init:0/2"), Some(Tone::Busy));
        assert_eq!(Tone::of_status("Init:CrashLoopBackOff"), Some(Tone::Bad));
        assert_eq!(Tone::of_status("<none>"), None);
    }
}
