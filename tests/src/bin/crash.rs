//! `cargo crash [--kills N]`: the crash matrix, point after point, in worlds of eleven kills each. `cargo crash POINT...`
//! tries these points.

use anyhow::{Context, Result};
use inlet_tests::crash::{Matrix, points};
use inlet_tests::{Scratch, inlet_exe, wallet_exe};
use std::process::ExitCode;
use std::time::Instant;

/// More clients in one world cost more memory than a small machine has.
const KILLS_A_WORLD: usize = 11;

fn main() -> ExitCode {
	let arguments: Vec<String> = std::env::args().skip(1).collect();
	let wanted = match arguments.as_slice() {
		[] => Some(points()),
		[flag, number] if flag == "--kills" => {
			number.parse().ok().map(|kills| points().into_iter().cycle().take(kills).collect())
		}
		given => given.iter().all(|point| points().contains(point)).then(|| given.to_vec()),
	};
	let Some(wanted) = wanted else {
		eprintln!("usage: cargo crash [--kills N | POINT...]\nthe points are: {}", points().join(" "));
		return ExitCode::from(2);
	};
	match run(&wanted) {
		Ok(()) => {
			println!("crash: ok, {} kills", wanted.len());
			ExitCode::SUCCESS
		}
		Err(error) => {
			eprintln!("crash: failed: {error:#}");
			ExitCode::FAILURE
		}
	}
}

fn run(all: &[String]) -> Result<()> {
	inlet_exe()?;
	wallet_exe()?;
	let start = Instant::now();
	for (world, points) in all.chunks(KILLS_A_WORLD).enumerate() {
		let scratch = Scratch::new()?;
		let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
		let outcome = runtime.block_on(async {
			let mut matrix = Matrix::start(&scratch).await?;
			for (n, point) in points.iter().enumerate() {
				matrix.survive(point).await?;
				println!("{:6.1} s  {:3}  {point}", start.elapsed().as_secs_f64(), world * KILLS_A_WORLD + n + 1);
			}
			matrix.finish().await
		});
		drop(runtime);
		outcome.inspect_err(|_| scratch.keep()).context("the logs are kept")?;
	}
	Ok(())
}
