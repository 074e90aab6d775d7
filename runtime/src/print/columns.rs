//! Aligning cells in columns: the elastic tab stops of Go's `text/tabwriter`, which kubectl prints with.
//!
//! Every cell but the last of a line ends in a tab. A column is a run of consecutive lines that have a
//! cell there, and is as wide as its widest cell plus the padding. The last cell of a line has no say.

/// How wide columns are.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Least width of a cell with its padding.
    pub least: usize,
    /// Blanks after the widest cell.
    pub padding: usize,
}

/// Tables of `get` and `events`.
pub const TABLE: Style = Style { least: 6, padding: 3 };
/// The text of `describe`.
pub const DESCRIBE: Style = Style { least: 0, padding: 2 };

/// Aligns `text`, whose cells are separated by tabs. `remembered` holds the greatest width of each column
/// from call to call, so that the rows of a watch stay below each other.
#[must_use]
pub fn align(text: &str, style: Style, remembered: Option<&mut Vec<usize>>) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut forget = Vec::new();
    let remember = remembered.is_some();
    let mut aligner = Aligner {
        style,
        remember,
        greatest: remembered.unwrap_or(&mut forget),
        widths: Vec::new(),
        out: String::new(),
    };
    aligner.block(&lines);
    aligner.out
}

struct Aligner<'a> {
    style: Style,
    remember: bool,
    greatest: &'a mut Vec<usize>,
    /// Widths of the columns that the present block stands in.
    widths: Vec<usize>,
    out: String,
}

impl Aligner<'_> {
    /// Writes lines that share the columns in `widths`, looking for runs with one column more.
    fn block(&mut self, lines: &[Vec<&str>]) {
        let column = self.widths.len();
        let in_column = |line: &Vec<&str>| line.len() > column + 1;
        for run in lines.chunk_by(|one, next| in_column(one) == in_column(next)) {
            if !in_column(&run[0]) {
                run.iter().for_each(|line| self.line(line));
                continue;
            }
            let width = self.width(column, run);
            self.widths.push(width);
            self.block(run);
            self.widths.pop();
        }
    }

    fn width(&mut self, column: usize, run: &[Vec<&str>]) -> usize {
        let widest = run.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let width = self.style.least.max(widest + self.style.padding);
        if !self.remember {
            return width;
        }
        if self.greatest.len() <= column {
            self.greatest.push(width);
        }
        self.greatest[column] = self.greatest[column].max(width);
        self.greatest[column]
    }

    fn line(&mut self, cells: &[&str]) {
        for (column, cell) in cells.iter().enumerate() {
            self.out.push_str(cell);
            if column + 1 < cells.len() {
                let width = self.widths.get(column).copied().unwrap_or(0);
                let blanks = width.saturating_sub(cell.chars().count());
                self.out.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let text = "NAME\tREADY\tAGE\nweb\t1/1\t5s\na-long-name\t0/1\t10m\n";
        assert_eq!(
            align(text, TABLE, None),
            "NAME          READY   AGE\nweb           1/1     5s\na-long-name   0/1     10m\n"
        );
    }

    #[test]
    fn a_line_without_a_tab_ends_a_block() {
        let text = "IP:\t1\nContainers:\n  Container ID:\tx\n  Image:\ty\n";
        assert_eq!(
            align(text, DESCRIBE, None),
            "IP:  1\nContainers:\n  Container ID:  x\n  Image:         y\n"
        );
    }

    #[test]
    fn an_inner_column_needs_the_outer_one() {
        let text = "a\tb\tc\nlonger\td\ne\tmuch longer\tf\n";
        assert_eq!(align(text, DESCRIBE, None), "a       b  c\nlonger  d\ne       much longer  f\n");
    }

    #[test]
    fn a_watch_remembers_widths() {
        let mut widths = Vec::new();
        assert_eq!(align("a-long-name\tx\n", TABLE, Some(&mut widths)), "a-long-name   x\n");
        assert_eq!(align("b\tx\n", TABLE, Some(&mut widths)), "b             x\n");
    }
}
