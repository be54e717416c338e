//! Aligned columns.

use super::WIDTH;

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
	/// Words.
	Left,
	/// Numbers.
	Right,
}

/// A table with a header. Only its last column is ever cut, to keep it within [`WIDTH`].
pub(super) struct Table {
	columns: Vec<Column>,
	rows: Vec<Vec<String>>,
}

impl Table {
	pub fn new<const N: usize>(header: [(&str, Column); N]) -> Table {
		Table {
			columns: header.iter().map(|(_, column)| *column).collect(),
			rows: vec![header.iter().map(|(name, _)| (*name).to_owned()).collect()],
		}
	}

	pub fn row<const N: usize>(&mut self, cells: [String; N]) {
		debug_assert_eq!(N, self.columns.len());
		self.rows.push(cells.into());
	}

	/// The table, and after it how to see more, if there is more. `none` if it has no rows.
	pub fn page(self, next: Option<&String>, none: &str) -> String {
		let mut text = if self.rows.len() == 1 { none.to_owned() } else { self.text() };
		if let Some(next) = next {
			text.push_str(&format!("\nthere are more: add --cursor {next}"));
		}
		text
	}

	pub fn text(&self) -> String {
		let widths: Vec<usize> = (0..self.columns.len())
			.map(|at| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
			.collect();
		let lines = self.rows.iter().map(|row| {
			let cells = row.iter().zip(&self.columns).zip(&widths).map(|((cell, column), width)| match column {
				Column::Left => format!("{cell:<width$}"),
				Column::Right => format!("{cell:>width$}"),
			});
			cut(cells.collect::<Vec<_>>().join("  ").trim_end())
		});
		lines.collect::<Vec<_>>().join("\n")
	}
}

/// At most [`WIDTH`] columns of `line`.
pub(super) fn cut(line: &str) -> String {
	if line.chars().count() <= WIDTH {
		return line.to_owned();
	}
	format!("{}…", line.chars().take(WIDTH - 1).collect::<String>())
}

/// Names and values below each other. What is `None` is left out.
pub(super) fn pairs<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
	let lines = pairs.into_iter().filter_map(|(name, value)| Some(format!("{name:<12}{}", value?)));
	lines.collect::<Vec<_>>().join("\n")
}
