//! Who may write: the one row of the table `lease`.
//!
//! `epoch` counts the leaders, `batch` the transactions, `expires` is the moment (by the server's clock, the only one that
//! is compared) from which on somebody else may become the leader. Taking the lease adds one to `epoch`. Each
//! transaction of a leader begins by changing this row, and fails if the epoch is another or the number of transactions is
//! not the one that the leader knows of: see [`Session`](super::Session). That is what keeps two leaders from writing;
//! the time only says when to try.

use super::error::{Error, Failure};
use super::options::PgOptions;
use super::schema;
use crate::error::OpenError;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;

/// The right to write, just taken. Open the store with it soon: it is renewed from then on only.
#[derive(Debug)]
pub struct Lease {
	pub(super) epoch: i64,
	/// Transactions that there are.
	pub(super) batch: i64,
	/// Not later than the server's clock was asked.
	pub(super) taken: Instant,
}

impl Lease {
	/// The number of this leader: each has a greater one than those before it.
	pub fn epoch(&self) -> u64 {
		self.epoch.max(0).cast_unsigned()
	}
}

/// What to do while another node has the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
	/// Refuse, if it renews it; take it, if it runs out.
	Refuse,
	/// Wait until it runs out or is given back, for as long as that takes, and through every outage of the server.
	StandBy,
}

/// What was seen of other leaders.
#[derive(Default)]
struct Seen {
	/// Transactions: there can never be less.
	batch: i64,
	/// When its lease was to run out, when it was seen first.
	expires: Option<String>,
}

/// How an attempt ended that did not fail for good.
enum Found {
	Taken(Lease),
	/// By this node, and has it been heard of since we look?
	Held {
		holder: String,
		renewed: bool,
	},
	/// What is there is not for us.
	Refused(OpenError),
}

enum Trouble {
	/// Try again.
	Passing(String),
	Final(OpenError),
}

impl PgOptions {
	/// Takes the lease, for `holder`, which is this node's name for people. `tell` is called with what there is to say while it is waited for, each thing once.
	/// May be dropped at any time: a lease that was taken by then runs out.
	///
	/// # Errors
	/// See [`OpenError`]; with [`Patience::StandBy`] only those that will not pass.
	pub async fn acquire(
		&self,
		holder: &str,
		patience: Patience,
		mut tell: impl FnMut(&str),
	) -> Result<Lease, OpenError> {
		let (mut client, mut seen, mut told) = (None, Seen::default(), String::new());
		loop {
			let say = match self.try_take(holder, &mut client, &mut seen).await {
				Ok(Found::Taken(lease)) => return Ok(lease),
				Ok(Found::Held { holder, renewed: true }) if patience == Patience::Refuse => {
					return Err(OpenError::Held { place: self.to_string(), holder });
				}
				Ok(Found::Held { holder, .. }) => format!("{holder} has the lease of {self}"),
				Ok(Found::Refused(e)) | Err(Trouble::Final(e)) => return Err(e),
				Err(Trouble::Passing(why)) if patience == Patience::Refuse => return Err(self.unusable(why)),
				Err(Trouble::Passing(why)) => {
					client = None;
					format!("{self} cannot be reached: {why}")
				}
			};
			if say != told {
				tell(&say);
				told = say;
			}
			tokio::time::sleep((self.lease / 20).max(Duration::from_millis(50))).await;
		}
	}

	async fn try_take(&self, name: &str, client: &mut Option<Client>, seen: &mut Seen) -> Result<Found, Trouble> {
		let client = match client {
			Some(client) => client,
			None => {
				let connected = tokio::time::timeout(self.lease, self.connect_to_primary()).await;
				let connected = connected.unwrap_or_else(|_| Err(Failure::Lost("no answer".into())));
				client.insert(connected.map_err(|e| self.trouble(e))?)
			}
		};
		let attempt = async {
			let taken = Instant::now();
			let tx = client.transaction().await?;
			let won = tx
				.query_opt(
					&format!(
						"UPDATE lease SET epoch = epoch + 1, holder = $1, expires = {}
						WHERE expires < clock_timestamp() RETURNING epoch, batch",
						self.until()
					),
					&[&name],
				)
				.await?;
			let Some(won) = won else {
				let row = tx.query_one("SELECT holder, batch, expires::text FROM lease", &[]).await?;
				let (holder, batch, expires) = (row.get(0), row.get::<_, i64>(1), row.get::<_, String>(2));
				seen.batch = seen.batch.max(batch);
				let first = seen.expires.get_or_insert_with(|| expires.clone());
				return Ok(Found::Held { holder, renewed: *first != expires });
			};
			let lease = Lease { epoch: won.get(0), batch: won.get(1), taken };
			if lease.batch < seen.batch {
				return Err(Failure::Fatal(Error::WentBack { found: lease.batch, acknowledged: seen.batch }));
			}
			if let Err(refusal) = schema::migrate(self, &tx).await? {
				return Ok(Found::Refused(refusal));
			}
			tx.commit().await?;
			Ok(Found::Taken(lease))
		};
		match tokio::time::timeout(self.lease, attempt).await {
			Ok(found) => found.map_err(|e| self.trouble(e)),
			Err(_) => Err(Trouble::Passing("no answer".into())),
		}
	}

	/// A connection to a server that can be written to, whose settings keep what it promises. The lease's row is there.
	pub(super) async fn connect_to_primary(&self) -> Result<Client, Failure> {
		let client = self.connect().await?;
		let row = client
			.query_one(
				"SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('full_page_writes'),
					current_setting('synchronous_commit'), current_setting('server_version_num')::int",
				&[],
			)
			.await?;
		if row.get(0) {
			return Err(Failure::Lost("it is a replica, which was not made the primary".into()));
		}
		if row.get::<_, i32>(4) < MIN_VERSION {
			return Err(Error::Refused(format!("PostgreSQL {} or later is needed", MIN_VERSION / 10_000)).into());
		}
		for (at, name) in [(1, "fsync"), (2, "full_page_writes")] {
			if row.get::<_, String>(at) != "on" {
				let what = format!("its setting {name} is off, so that a power cut would lose channels: set it to on");
				return Err(Error::Refused(what).into());
			}
		}
		if row.get::<_, String>(3) == "off" {
			client.batch_execute("SET synchronous_commit = on").await?;
		}
		schema::make_lease(self, &client).await?;
		Ok(client)
	}

	/// The end of a lease that is renewed now, in SQL.
	pub(super) fn until(&self) -> String {
		format!("clock_timestamp() + interval '{} ms'", self.lease.as_millis())
	}

	fn trouble(&self, failure: Failure) -> Trouble {
		match failure {
			Failure::Lost(why) => Trouble::Passing(why),
			Failure::Fatal(e) => Trouble::Final(self.unusable(e.to_string())),
		}
	}
}

/// The oldest server that this is tested to need: 13.
const MIN_VERSION: i32 = 130_000;
