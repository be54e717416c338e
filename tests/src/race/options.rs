//! What is to be raced.

use super::crowd::Kind;
use std::path::PathBuf;
use std::time::Duration;

/// How it is called.
pub const USAGE: &str = "usage: cargo race [FLAG...]
  --rounds N            rounds, of which medians are taken (3)
  --only inlet|ldk-node one of both, for a profile
  --clients LIST        thin, wallets (both)
  --sections LIST       forward, jit, start, blocks, idle (forward,jit)
  --concurrency LIST    payments under way at once (1,10,50,150)
  --payments FACTOR     multiplies the number of payments (1)
  --disk LIST           ms added to each sync; beyond 0, on one core (0,5,20)
  --channels LIST       channels in all; idle ones are opened up to it (15)
  --per-node N          how many of the idle channels each of their nodes has (as the number of channels asks for, 20 or so)
  --sales N             sales one after another, and N x 4 at once at most 20 (5)
  --idle MINUTES        how long the idle section looks (1)
  --profile NAME        cargo profile that Inlet is built with (release)
  --json FILE           every sample and the table's figures
  --quick               one short round with thin clients, a fast and a 5 ms disk: under 3 minutes";

/// What is to be raced.
#[derive(Clone, Debug)]
pub struct Options {
	/// Rounds.
	pub rounds: usize,
	/// One of both.
	pub only: Option<String>,
	/// Which clients.
	pub clients: Vec<Kind>,
	/// Which sections.
	pub sections: Vec<String>,
	/// Payments under way at once.
	pub concurrency: Vec<usize>,
	/// Multiplies the number of payments.
	pub payments: f64,
	/// Added to each sync.
	pub disk: Vec<Duration>,
	/// Channels in all.
	pub channels: Vec<usize>,
	/// Idle channels of each of their nodes.
	pub per_node: Option<usize>,
	/// Sales one after another.
	pub sales: usize,
	/// How long the idle section looks.
	pub idle: Duration,
	/// Cargo profile of Inlet.
	pub profile: String,
	/// Where the figures go.
	pub json: Option<PathBuf>,
}

impl Default for Options {
	fn default() -> Options {
		Options {
			rounds: 3,
			only: None,
			clients: vec![Kind::Thin, Kind::Wallets],
			sections: vec!["forward".to_owned(), "jit".to_owned()],
			concurrency: vec![1, 10, 50, 150],
			payments: 1.0,
			disk: [0, 5, 20].map(Duration::from_millis).to_vec(),
			channels: vec![15],
			per_node: None,
			sales: 5,
			idle: Duration::from_secs(60),
			profile: "release".to_owned(),
			json: None,
		}
	}
}

impl Options {
	/// Reads the command line; `None` if it cannot be understood.
	pub fn read(mut given: impl Iterator<Item = String>) -> Option<Options> {
		let mut options = Options::default();
		while let Some(flag) = given.next() {
			if flag == "--quick" {
				options.quick();
				continue;
			}
			let value = given.next()?;
			match flag.as_str() {
				"--rounds" => options.rounds = value.parse().ok().filter(|rounds| *rounds > 0)?,
				"--only" => {
					options.only = Some(Some(value).filter(|name| ["inlet", "ldk-node"].contains(&name.as_str()))?);
				}
				"--clients" => options.clients = list(&value, Kind::named)?,
				"--sections" => options.sections = list(&value, section)?,
				"--concurrency" => options.concurrency = list(&value, |text| text.parse().ok())?,
				"--payments" => options.payments = value.parse().ok()?,
				"--disk" => options.disk = list(&value, |text| text.parse().ok().map(Duration::from_millis))?,
				"--channels" => options.channels = list(&value, |text| text.parse().ok())?,
				"--per-node" => options.per_node = Some(value.parse().ok().filter(|channels| *channels > 0)?),
				"--sales" => options.sales = value.parse().ok()?,
				"--idle" => options.idle = Duration::from_secs_f64(value.parse::<f64>().ok()? * 60.0),
				"--profile" => options.profile = value,
				"--json" => options.json = Some(value.into()),
				_ => return None,
			}
		}
		Some(options)
	}

	fn quick(&mut self) {
		self.rounds = 1;
		self.clients = vec![Kind::Thin];
		self.disk = [0, 5].map(Duration::from_millis).to_vec();
		self.payments = 0.5;
		self.sales = 3;
	}

	/// Is this section wanted?
	pub fn wants(&self, section: &str) -> bool {
		self.sections.iter().any(|wanted| wanted == section)
	}
}

fn section(name: &str) -> Option<String> {
	["forward", "jit", "start", "blocks", "idle"].contains(&name).then(|| name.to_owned())
}

fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
	text.split(',').map(read).collect()
}
