//! `inlet doctor`: a look at everything that can be wrong with a node, and what to do about it.
//!
//! On a stopped node ([`stopped`]) all of it is read: pages, values, the book; and on a copy, in a process of its own, it is seen
//! whether LDK starts with it ([`trial`]). On a running one ([`running`]) what would keep payments waiting is left out. Nothing
//! of the node's is changed by either.
//!
//! A new check is a function that takes [`Findings`] and is called from `stopped`, from `running`, or from [`common`], which
//! both call.

mod files;
mod stored;
mod trial;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use stored::books;
pub use trial::trial;

use crate::config::{Config, Overrides, Place, StoreBackend, StoreConfig};
use crate::control::{Doctor, DoctorCheck, Health};
use crate::operator::Operator;
use lightning::ln::types::ChannelId;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

/// What was found so far.
#[derive(Default)]
pub struct Findings(Vec<DoctorCheck>);

impl Findings {
	/// All is well.
	pub fn ok(&mut self, name: &str, text: impl Into<String>) {
		self.add(name, Health::Ok, text.into(), None);
	}

	/// Something should be done.
	pub fn warn(&mut self, name: &str, text: impl Into<String>, advice: impl Into<String>) {
		self.add(name, Health::Warn, text.into(), Some(advice.into()));
	}

	/// Money or the node is in danger.
	pub fn bad(&mut self, name: &str, text: impl Into<String>, advice: impl Into<String>) {
		self.add(name, Health::Bad, text.into(), Some(advice.into()));
	}

	/// Bad if there is any complaint, which are told; else well.
	pub fn judge(&mut self, name: &str, well: String, complaints: &[String], advice: &str) {
		match complaints {
			[] => self.ok(name, well),
			[first, rest @ ..] => {
				let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
				self.bad(name, format!("{first}{more}"), advice);
			}
		}
	}

	fn add(&mut self, name: &str, verdict: Health, text: String, advice: Option<String>) {
		self.0.push(DoctorCheck { name: name.to_owned(), verdict, text, advice });
	}

	fn report(self, running: bool) -> Doctor {
		let verdict = self.0.iter().map(|check| check.verdict).max().unwrap_or(Health::Ok);
		Doctor { running, verdict, checks: self.0 }
	}
}

/// What to do about damage.
pub(crate) const DAMAGED: &str = "do not start the node and do not delete anything: copy the data directory to another disk, \
	check this one (cable, power, SMART), and restore a backup";

/// The file in the data directory is none of the node's then, or its history.
const ON_A_SERVER: &str = "start the node and look again: it reads the values, monitors and ledger on the server; pages are \
	the server's (pg_amcheck)";

/// What is the same whether the node runs or not.
fn common(findings: &mut Findings, config: &Config) {
	files::directory(findings, &config.place.data_dir);
	files::seed(findings, &config.place.data_dir);
	files::clock(findings, std::time::SystemTime::now());
	files::room(findings, config);
}

/// Looks at a node that does not run. The caller holds its lock. `variables`: the environment, for the configuration; `exe`: this
/// program, which is run for the trial, in the same environment.
pub async fn stopped(
	flags: &Overrides,
	variables: impl IntoIterator<Item = (OsString, OsString)>,
	place: &Place,
	exe: Option<&Path>,
) -> Doctor {
	let mut findings = Findings::default();
	let config = match Config::load(flags, variables) {
		Ok(config) => {
			findings.ok("config", "the configuration is right");
			Some(config)
		}
		Err(e) => {
			findings.bad("config", e.what(), e.right.clone());
			None
		}
	};
	match &config {
		Some(config) => common(&mut findings, config),
		None => {
			files::directory(&mut findings, &place.data_dir);
			files::seed(&mut findings, &place.data_dir);
		}
	}
	if let Some(Config { store: StoreConfig { backend: StoreBackend::Postgres(server), .. }, .. }) = &config {
		findings.warn("store", format!("on {server}, which a stopped node does not look at"), ON_A_SERVER);
		return findings.report(false);
	}
	if let Some(copyable) = stored::look(&mut findings, &place.data_dir)
		&& config.is_some()
		&& let Some(exe) = exe
	{
		trial::run(&mut findings, copyable, exe, place).await;
	}
	findings.report(false)
}

/// Looks at a node that runs.
pub(crate) async fn running(operator: &Operator) -> Doctor {
	let mut findings = Findings::default();
	let config = &operator.config;
	findings.ok("config", "the node runs with it");
	common(&mut findings, config);
	match operator.store.verify().await {
		Ok((count, complaints)) => findings.judge("values", format!("{count} values are intact"), &complaints, DAMAGED),
		Err(e) => findings.bad("values", e.to_string(), DAMAGED),
	}
	findings.ok("pages", "looked at when the node started; stop it to have them looked at again");
	monitors(&mut findings, operator);
	match operator.store.ledger_totals().await {
		Ok(totals) => findings.ok("ledger", format!("{} kinds of entries can be read", totals.len())),
		Err(e) => findings.bad("ledger", e.to_string(), DAMAGED),
	}
	trial::chain(&mut findings, config, &operator.hands.wallet).await;
	findings.report(true)
}

/// Every channel that LDK has is watched.
fn monitors(findings: &mut Findings, operator: &Operator) {
	let lightning = &operator.hands.lightning;
	let watched: HashSet<ChannelId> = lightning.monitor.list_monitors().into_iter().collect();
	let channels = lightning.manager.list_channels();
	let funded = channels.iter().filter(|channel| channel.is_channel_ready);
	let unwatched: Vec<String> = funded
		.filter(|channel| !watched.contains(&channel.channel_id))
		.map(|channel| format!("channel {} has no monitor", channel.channel_id))
		.collect();
	let well = format!("{} channels, {} monitors", channels.len(), watched.len());
	findings.judge(
		"channels",
		well,
		&unwatched,
		"stop the node, keep its data directory, and report this: it is a bug",
	);
}
