//! The binary: parse, then be the node or its client.

use inlet::api::Problem;
use inlet::backup::{ClaimError, LeaveError, commands};
use inlet::cli::{
	BackupCommand, Cli, Command, ConfigCommand, DoctorArgs, MigrateArgs, RestoreArgs, RunArgs, SeedCommand,
	StorageArgs, StorageCommand,
};
use inlet::config::{Config, ConfigError, Overrides, Place, SYSTEM_SOCKET};
use inlet::lock::{self, DataDir};
use inlet::{cli, client, doctor, logging, migrate, run, seed, stored};
use std::io::{ErrorKind, IsTerminal, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
	let mut cli = cli::parse();
	let flags = overrides(&cli);
	let done = match &cli.command {
		Command::Run(args) => node(&flags, args.standby),
		Command::Storage(StorageArgs { verb: Some(StorageCommand::Migrate(args)), .. }) => {
			migrate(&flags, args, cli.json)
		}
		Command::Config { verb: ConfigCommand::Check { .. } } => check(&flags, cli.json),
		Command::Seed { verb: SeedCommand::Show { yes } } => show(&flags, *yes),
		Command::Seed { verb: SeedCommand::Restore { seed_file } } => from_seed(&flags, seed_file.as_deref()),
		Command::Backup { verb: Some(BackupCommand::Forget { target, yes }) } => forget(&flags, target, *yes),
		Command::Backup { verb: Some(verb @ (BackupCommand::Init { .. } | BackupCommand::Verify { .. })) } => {
			backup(&flags, verb)
		}
		Command::Restore(args) => restore(&flags, args),
		Command::Doctor(DoctorArgs { trial: Some(scratch) }) => wait(doctor::trial(&flags, scratch)),
		Command::Storage(StorageArgs { verb: Some(StorageCommand::Export { to }), .. }) => export(&flags, to, cli.json),
		_ => match Place::find(&flags, std::env::vars_os()) {
			Ok(place) => {
				if matches!(cli.command, Command::Doctor(_))
					&& let Some(code) = look(&flags, &place, cli.json)
				{
					return code;
				}
				cli.data_dir = Some(place.data_dir.clone());
				cli.socket = Some(place.socket_or(&flags, Path::new(SYSTEM_SOCKET)));
				return client::run(cli);
			}
			Err(e) => Err(e.into()),
		},
	};
	match done {
		Ok(()) => ExitCode::SUCCESS,
		Err(e) => complain(&e, cli.json),
	}
}

/// Says what is wrong. A configuration that has to be changed ends with 2, like a command that has to be written otherwise
/// and a copy of the node that must not run:
/// starting again does not help (systemd's `RestartPreventExitStatus`).
fn complain(e: &anyhow::Error, json: bool) -> ExitCode {
	let config = e.downcast_ref::<ConfigError>();
	let (code, detail, hint) = match config {
		Some(e) => ("config", e.what(), e.right.clone()),
		None => ("failed", format!("{e:#}"), "inlet --help and node/docs describe what is needed".to_owned()),
	};
	let problem = Problem {
		kind: format!("urn:inlet:{code}"),
		title: "Not done".to_owned(),
		status: 0,
		code: code.to_owned(),
		detail,
		hint,
	};
	client::complain(&problem, json);
	let fenced = matches!(e.downcast_ref::<ClaimError>(), Some(ClaimError::Fenced { .. }))
		|| matches!(e.downcast_ref::<LeaveError>(), Some(LeaveError::Foreign { .. }));
	ExitCode::from(if config.is_some() || fenced { 2 } else { 1 })
}

/// What the command line says of the configuration.
fn overrides(cli: &Cli) -> Overrides {
	let config = match &cli.command {
		Command::Run(run) => run.config.clone(),
		Command::Config { verb: ConfigCommand::Check { config } } => config.clone(),
		_ => None,
	};
	let run = match &cli.command {
		Command::Run(run) => run.clone(),
		_ => RunArgs::default(),
	};
	Overrides {
		data_dir: cli.data_dir.clone(),
		config,
		network: cli.network.map(|network| network.as_str().to_owned()),
		listen: run.listen,
		chain: run.chain,
		alias: run.alias,
		log_level: run.log_level,
		log_format: run.log_format.map(|format| format.as_str().to_owned()),
		gossip: run.gossip,
		announce_addr: run.announce_addr,
	}
}

fn node(flags: &Overrides, standby: bool) -> anyhow::Result<()> {
	let config = Config::load(flags, std::env::vars_os())?;
	logging::init(&config.log)?;
	wait(run::run(config, standby))
}

/// Does it on a runtime of its own. What is left then are look-ups and the like: all that matters was waited for.
fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
	let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
	let result = runtime.block_on(work);
	runtime.shutdown_background();
	result
}

/// A look at a node that does not run; `None` if it runs, or if there is none here.
fn look(flags: &Overrides, place: &Place, json: bool) -> Option<ExitCode> {
	let _lock = match lock::hold(&place.data_dir) {
		Ok(Some(lock)) => Some(lock),
		Ok(None) => return None,
		// Without a lock's file nobody holds it: a copy, say.
		Err(e) if e.kind() == ErrorKind::NotFound && place.data_dir.exists() => None,
		Err(_) => return None,
	};
	let exe = std::env::current_exe().ok();
	let found = wait(async { Ok(doctor::stopped(flags, std::env::vars_os(), place, exe.as_deref()).await) });
	Some(match found {
		Ok(found) => client::show_doctor(&found, json),
		Err(e) => complain(&e, json),
	})
}

fn export(flags: &Overrides, to: &Path, json: bool) -> anyhow::Result<()> {
	let (place, _, store) = Place::find_with_store(flags, std::env::vars_os())?;
	let _lock = DataDir::open(&place.data_dir)?;
	let values = wait(async {
		let store = stored::open(&place, &store).await?;
		let values = store.export(to).await?;
		store.close().await;
		Ok(values)
	})?;
	match json {
		true => println!("{}", serde_json::json!({ "values": values, "to": to })),
		false => println!("{values} values are in {}; whoever can read them can close your channels", to.display()),
	}
	Ok(())
}

fn migrate(flags: &Overrides, args: &MigrateArgs, json: bool) -> anyhow::Result<()> {
	let config = Config::load(flags, std::env::vars_os())?;
	logging::init(&config.log)?;
	let moved = wait(migrate::migrate(&config, args))?;
	match json {
		true => println!("{}", serde_json::json!({ "rows": moved.rows, "values": moved.values })),
		false => println!("{}", migrate::next_step(&config, args)),
	}
	Ok(())
}

fn check(flags: &Overrides, json_wanted: bool) -> anyhow::Result<()> {
	let config = Config::load(flags, std::env::vars_os())?;
	let (file, json) = (config.place.file.display(), serde_json::json!(config.place.file));
	match (config.place.file.exists(), json_wanted) {
		(exists, true) => println!("{}", serde_json::json!({ "file": json, "exists": exists, "right": true })),
		(true, false) => println!("{file} is right"),
		(false, false) => println!("no file at {file}: defaults, variables and flags only, and they are right"),
	}
	Ok(())
}

fn backup(flags: &Overrides, verb: &BackupCommand) -> anyhow::Result<()> {
	let (place, config) = Place::find_with_backup(flags, std::env::vars_os())?;
	wait(async {
		match verb {
			BackupCommand::Init { take_over } => commands::init(&place, &config, *take_over).await,
			BackupCommand::Verify { from } => commands::verify(&place, &config, from.as_ref()).await,
			BackupCommand::Status | BackupCommand::Now | BackupCommand::Forget { .. } => Ok(()),
		}
	})
}

fn forget(flags: &Overrides, target: &str, yes: bool) -> anyhow::Result<()> {
	let (place, backup, store) = Place::find_with_store(flags, std::env::vars_os())?;
	wait(commands::forget(&place, (&backup, &store), target, yes))
}

fn restore(flags: &Overrides, args: &RestoreArgs) -> anyhow::Result<()> {
	let (place, config) = Place::find_with_backup(flags, std::env::vars_os())?;
	wait(commands::restore(&place, config.way, args))
}

fn from_seed(flags: &Overrides, seed_file: Option<&Path>) -> anyhow::Result<()> {
	let place = Place::find(flags, std::env::vars_os())?;
	wait(async { commands::from_seed(&place, seed_file) })
}

fn show(flags: &Overrides, yes: bool) -> anyhow::Result<()> {
	let place = Place::find(flags, std::env::vars_os())?;
	let file = place.data_dir.join(seed::FILE_NAME);
	let terminal = stdin().is_terminal();
	seed::show(&file, yes, terminal, &mut stdin().lock(), &mut std::io::stderr(), &mut stdout().lock())?;
	Ok(())
}
