//! `cargo sim`: many seeded runs of the simulation, until one fails.
//!
//! A failing seed is printed with its step and the end of its trace; `cargo sim --seed N` runs it again, the same.
//!
//! `cargo sim business`: thirty days of a business, under several policies.

use inlet_tests::business::{self, Feerates};
use inlet_tests::sim::{Options, Report, run};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const USAGE: &str = "usage: cargo sim [--seeds N] [--seed FIRST] [--steps M] [--jobs J] [--trace LINES] [--keep-going]
       cargo sim business [--seed N] [--feerates FILE]";

struct Args {
	first: u64,
	seeds: u64,
	steps: u64,
	jobs: usize,
	trace: usize,
	keep_going: bool,
}

fn main() -> ExitCode {
	let mut given = std::env::args().skip(1).peekable();
	if given.next_if(|word| word == "business").is_some() {
		return sell(given);
	}
	let Some(args) = read(given) else {
		eprintln!("{USAGE}");
		return ExitCode::from(2);
	};
	let began = Instant::now();
	let next = AtomicU64::new(args.first);
	let failed = AtomicU64::new(0);
	let all = Mutex::new(Report::default());
	std::thread::scope(|scope| {
		for _ in 0..args.jobs {
			scope.spawn(|| {
				while failed.load(Ordering::Relaxed) == 0 || args.keep_going {
					let seed = next.fetch_add(1, Ordering::Relaxed);
					if seed >= args.first + args.seeds {
						break;
					}
					if let Some(report) = try_seed(seed, Options { steps: args.steps, trace: args.trace }) {
						let mut sum = all.lock().expect("not poisoned");
						*sum = sum.plus(report);
					} else {
						failed.fetch_add(1, Ordering::Relaxed);
					}
				}
			});
		}
	});
	let sum = *all.lock().expect("not poisoned");
	let secs = began.elapsed().as_secs_f64();
	println!(
		"{} steps in {secs:.1} s, {:.0} a second: {} sales, {} orders, {} channels, {} HTLCs settled, {} refunds, {} crashes, {} torn commits",
		sum.steps,
		sum.steps as f64 / secs,
		sum.sales,
		sum.orders,
		sum.funded,
		sum.settled,
		sum.refunds,
		sum.crashes,
		sum.torn
	);
	println!(
		"{} refunds bumped, {} lost; {} trials refused; {} fundings withheld, {} released, {} discarded; {} fundings of orders \
		 withdrawn, {} delivered unpaid; {} notices, {} HTLCs taken after waking",
		sum.bumped,
		sum.lost,
		sum.refused,
		sum.withheld,
		sum.released,
		sum.discarded,
		sum.withdrawn,
		sum.unpaid,
		sum.notices,
		sum.woken
	);
	match failed.into_inner() {
		0 => {
			println!("sim: ok, {} seeds from {}", args.seeds, args.first);
			ExitCode::SUCCESS
		}
		count => {
			println!("sim: {count} seeds failed");
			ExitCode::FAILURE
		}
	}
}

/// `cargo sim business`.
fn sell(mut given: impl Iterator<Item = String>) -> ExitCode {
	let (mut seed, mut feerates) = (42, Ok(Feerates::own()));
	while let Some(flag) = given.next() {
		match (flag.as_str(), given.next()) {
			("--seed", Some(number)) if number.parse::<u64>().is_ok() => seed = number.parse().unwrap_or(seed),
			("--feerates", Some(file)) => {
				let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"));
				feerates = text.and_then(|text| Feerates::read(&text));
			}
			_ => {
				eprintln!("{USAGE}");
				return ExitCode::from(2);
			}
		}
	}
	match feerates.and_then(|feerates| business::tables(&feerates, seed)) {
		Ok(tables) => {
			print!("{tables}");
			ExitCode::SUCCESS
		}
		Err(error) => {
			eprintln!("{error}");
			ExitCode::FAILURE
		}
	}
}

/// One seed; what failed is printed.
fn try_seed(seed: u64, options: Options) -> Option<Report> {
	match std::panic::catch_unwind(|| run(seed, options)) {
		Ok(Ok(report)) => Some(report),
		Ok(Err(failure)) => {
			println!("seed {seed} failed at step {}; the end of its trace:", failure.step);
			failure.trace.iter().for_each(|line| println!("{line}"));
			println!("seed {seed}: {}", failure.what);
			println!("again: cargo sim --seed {seed} --seeds 1 --steps {}", options.steps);
			None
		}
		Err(_) => {
			println!("seed {seed} panicked; again: cargo sim --seed {seed} --seeds 1 --steps {}", options.steps);
			None
		}
	}
}

fn read(mut given: impl Iterator<Item = String>) -> Option<Args> {
	let jobs = std::thread::available_parallelism().map_or(1, usize::from);
	let mut args = Args { first: 1, seeds: 0, steps: 2_000, jobs, trace: 60, keep_going: false };
	let mut seed_given = false;
	while let Some(flag) = given.next() {
		let mut number = || given.next()?.parse::<u64>().ok();
		match flag.as_str() {
			"--seed" => (args.first, seed_given) = (number()?, true),
			"--seeds" => args.seeds = number()?,
			"--steps" => args.steps = number()?,
			"--jobs" => args.jobs = usize::try_from(number()?).ok()?.max(1),
			"--trace" => args.trace = usize::try_from(number()?).ok()?,
			"--keep-going" => args.keep_going = true,
			_ => return None,
		}
	}
	if args.seeds == 0 {
		args.seeds = if seed_given { 1 } else { 100 };
	}
	Some(args)
}
