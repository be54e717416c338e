//! How the backup stands.

use super::table::{Column::*, Table};
use super::{Style, bytes, duration, number};
use crate::control::Backup;

pub(in crate::client) fn backup(b: &Backup, style: &Style) -> String {
	let mut table =
		Table::new([("TARGET", Left), ("STATE", Left), ("BEHIND", Right), ("SNAPSHOT", Left), ("SIZE", Right)]);
	let mut notes = String::new();
	for target in &b.targets {
		let behind = match target.lag_changes {
			0 => "-".to_owned(),
			changes => format!("{} ({})", duration(target.lag_secs), number(changes)),
		};
		let snapshot = target.snapshot_at.as_ref().map_or_else(|| "-".to_owned(), |at| style.short(*at));
		let state = target.state.replace('_', " ");
		let size = bytes(target.snapshot_bytes + target.increment_bytes);
		table.row([target.name.clone(), state, behind, snapshot, size]);
		if let Some(error) = &target.error {
			notes += &format!("\n{error}");
		}
	}
	let first = match (b.targets.is_empty(), b.mode.as_str()) {
		(true, _) => {
			return "no backup: a machine that is lost takes its channels along (node/docs/backup.md)".to_owned();
		}
		(false, "sync") => "mode sync: nothing is acknowledged before the first target has it",
		(false, _) => "mode async: targets follow; after a crash the coins come back, the channels may not",
	};
	format!("{first}\n\n{}{notes}", table.page(None, ""))
}
