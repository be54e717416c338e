//! The client half of the binary: asks a running node over its admin socket, and shows the answer.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 usage, 3 node not reachable.

mod commands;
mod export;
mod failure;
mod http;
mod render;
mod terminal;

#[cfg(test)]
mod tests;

pub use terminal::complain;

use crate::cli::Cli;
use failure::Failure;
use std::process::ExitCode;
use terminal::Ui;

/// Carries out one client command, from the question to the exit code. `run`, `seed show` and `config check` are not among
/// them: they need no running node.
pub fn run(cli: Cli) -> ExitCode {
	let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
		Ok(runtime) => runtime,
		Err(error) => {
			eprintln!("inlet: cannot start: {error}\n  → free some memory or file descriptors");
			return ExitCode::FAILURE;
		}
	};
	ExitCode::from(terminal::with_terminal(|ui| runtime.block_on(run_with(cli, ui))))
}

/// Shows what a look at a stopped node found, as [`run`] does for a running one.
pub fn show_doctor(found: &crate::control::Doctor, json: bool) -> ExitCode {
	let shown = |ui: &mut Ui<'_>| {
		let text = match json {
			true => serde_json::to_string(found).expect("plain data has a JSON form"),
			false => render::doctor(found, &ui.style),
		};
		match ui.say(&text).and_then(|()| commands::well(found)) {
			Ok(()) => 0,
			Err(failure) => {
				ui.complain(&failure, json);
				failure.exit_code()
			}
		}
	};
	ExitCode::from(terminal::with_terminal(shown))
}

/// The same on any terminal.
async fn run_with(cli: Cli, ui: &mut Ui<'_>) -> u8 {
	let json = cli.json;
	match commands::perform(cli, ui).await {
		Ok(()) => 0,
		// Whoever read our output has seen enough (`inlet ... | head`).
		Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
		Err(failure) => {
			ui.complain(&failure, json);
			failure.exit_code()
		}
	}
}
