//! `cargo race`: Inlet against ldk-node 0.7.1 as an LSP, on this machine. See `tests/docs/race.md`.

use inlet_tests::race::{Options, USAGE, run};
use std::process::ExitCode;

fn main() -> ExitCode {
	let Some(options) = Options::read(std::env::args().skip(1)) else {
		eprintln!("{USAGE}");
		return ExitCode::from(2);
	};
	let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
	match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&options))) {
		Ok(()) => ExitCode::SUCCESS,
		Err(error) => {
			eprintln!("race: {error:#}");
			ExitCode::FAILURE
		}
	}
}
