//! What the packages install beside the binary, made from the command line's definition: `deploy/man` and `deploy/completions`.
//!
//! After a change that is wanted: `INLET_UPDATE_SNAPSHOTS=1 cargo test -p inlet packaged`.

use super::*;
use clap::Command as Definition;
use std::fmt::Write;
use std::path::Path;

/// Columns of the help texts within the page.
const COLUMNS: usize = 90;

#[test]
fn packaged_manual_and_completions_are_what_the_definition_says() {
	let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
	for (file, expected) in [
		("man/inlet.1", manual()),
		("completions/inlet.bash", completions(Shell::Bash)),
		("completions/_inlet", completions(Shell::Zsh)),
		("completions/inlet.fish", completions(Shell::Fish)),
	] {
		let path = deploy.join(file);
		if std::env::var_os("INLET_UPDATE_SNAPSHOTS").is_some() {
			std::fs::write(&path, &expected).unwrap();
			continue;
		}
		let written = std::fs::read_to_string(&path).unwrap_or_default();
		assert!(
			written == expected,
			"deploy/{file} is out of date: INLET_UPDATE_SNAPSHOTS=1 cargo test -p inlet packaged"
		);
	}
}

/// inlet(1): what `--help` says of every command, word for word.
fn manual() -> String {
	let root = Cli::command().term_width(COLUMNS).mut_args(|arg| arg.hide_env_values(true));
	let mut page = format!(".TH INLET 1 \"\" \"inlet {}\"\n", env!("CARGO_PKG_VERSION"));
	page += ".SH NAME\ninlet \\- Lightning Service Provider in one binary\n";
	page += ".SH SYNOPSIS\n.B inlet\nCOMMAND [OPTIONS]\n";
	page += ".SH DESCRIPTION\n";
	page += &verbatim(&root.clone().render_long_help().to_string());
	page += ".SH COMMANDS\n";
	for command in root.get_subcommands() {
		describe(&mut page, "inlet", command);
	}
	page += FILES;
	page
}

/// A command and those below it.
fn describe(page: &mut String, above: &str, command: &Definition) {
	let name = format!("{above} {}", command.get_name());
	if command.is_hide_set() {
		return;
	}
	writeln!(page, ".SS {}", escape(&name)).unwrap();
	let mut command = command.clone().bin_name(&name).term_width(COLUMNS).mut_args(|arg| arg.hide_env_values(true));
	*page += &verbatim(&command.render_long_help().to_string());
	for below in command.get_subcommands() {
		describe(page, &name, below);
	}
}

fn verbatim(text: &str) -> String {
	let lines: Vec<String> = text.trim_end().lines().map(|line| escape(line.trim_end())).collect();
	format!(".nf\n{}\n.fi\n", lines.join("\n"))
}

/// A line as roff shows it: see groff(7), "Escape sequences" and "Control characters".
fn escape(line: &str) -> String {
	let line = line.replace('\\', "\\e").replace('-', "\\-");
	match line.starts_with(['.', '\'']) {
		true => format!("\\&{line}"),
		false => line,
	}
}

const FILES: &str = ".SH FILES\n\
.TP\n.I ~/.inlet/NETWORK\nThe data directory of a node that a person runs: seed, store, inlet.toml, admin.sock.\n\
.TP\n.I /etc/inlet/inlet.toml\nThe configuration of the packages' service.\n\
.TP\n.I /var/lib/inlet\nIts data directory.\n\
.TP\n.I /run/inlet/admin/admin.sock\nIts admin socket, for root and the group inlet.\n\
.TP\n.I /run/inlet/monitor/monitor.sock\nIts socket for reading only, for the group inlet\\-monitor.\n\
.SH ENVIRONMENT\nEach setting of the configuration can be given as INLET_SECTION_KEY, for example INLET_NODE_ALIAS.\n\
.SH SEE ALSO\n.BR systemctl (1),\n.BR curl (1)\n";
