//! Finds a bitcoind: `BITCOIND_EXE`, then the `PATH`, then the cache, which is filled from Debian's packages ([`crate::debian`]).

use crate::debian::{Package, find_exe};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// What wants to be installed as a service does not need that to run.
const KNOTS: Package = Package { name: "bitcoin-knots", exe: "bitcoind", megabytes: 40 };

/// A bitcoind that can be run on this machine.
#[derive(Clone, Debug)]
pub struct Program {
	argv: Vec<OsString>,
	/// What it says it is, e.g. `Bitcoin Knots daemon version v29.4`.
	pub version: String,
	/// Where it was found, for people.
	pub origin: String,
}

impl Program {
	/// A command that runs it; arguments are to be added.
	pub fn command(&self) -> Command {
		let mut command = Command::new(&self.argv[0]);
		command.args(&self.argv[1..]);
		command
	}

	fn checked(argv: Vec<OsString>, origin: String) -> Result<Program> {
		let mut program = Program { argv, version: String::new(), origin };
		let text = program.ask(&["-version"])?;
		program.version = text.lines().next().unwrap_or("unknown version").trim().to_owned();
		Ok(program)
	}

	/// What it prints, e.g. its `-help`. Even then it makes its data folder and writes there, so it gets one of its own.
	pub fn ask(&self, arguments: &[&str]) -> Result<String> {
		let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
		let mut command = self.command();
		command.args(arguments).arg(format!("-datadir={}", dir.path().display())).stdin(Stdio::null());
		let output = command.output().with_context(|| format!("cannot run bitcoind ({})", self.origin))?;
		ensure!(
			output.status.success(),
			"bitcoind ({}) does not run: {}",
			self.origin,
			String::from_utf8_lossy(&output.stderr)
		);
		Ok(String::from_utf8_lossy(&output.stdout).into_owned())
	}
}

/// Finds a bitcoind, fetching one if need be. Blocks; says on stderr when it downloads. Safe to call from several
/// threads and processes at once: one fetches, the others wait for it.
pub fn find() -> Result<Program> {
	let (argv, origin) = find_exe("BITCOIND_EXE", &KNOTS).context(
		"no bitcoind: BITCOIND_EXE is not set, the PATH has none, and Debian's package could not be fetched. \
		 Install Bitcoin Core, or point BITCOIND_EXE at its bitcoind",
	)?;
	Program::checked(argv, origin)
}
