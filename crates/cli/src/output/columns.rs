//! Columns without lines, as kubectl and rpk show them: they can be cut and grepped.

use anyhow::Result;
use comfy_table::{Table, presets};

/// Rows under a header. A result without rows shows the header alone.
pub(crate) struct Columns {
    table: Table,
}

impl Columns {
    /// With these names.
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(names.iter().copied());
        Self { table }
    }

    /// One row more.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.table.add_row(cells.into());
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<String> = self.table.lines().map(|line| line.trim().to_owned()).collect();
        lines.join("\n")
    }

    /// To standard output.
    pub(crate) fn print(&self) -> Result<()> {
        super::line(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut columns = Columns::new(&["NAME", "N"]);
        columns.row(["flights".to_owned(), "3".to_owned()]);
        let text = columns.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "N"]);
        assert_eq!(
            lines[0].find('N').zip(lines[0].rfind('N')),
            lines[1].find('f').zip(lines[1].find('3'))
        );
    }
}
