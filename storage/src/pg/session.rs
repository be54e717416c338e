//! The leader's connection.
//!
//! The statements of a transaction are kept here until it is committed. They go to the server all at once with the commit, in
//! one round trip, or earlier when something is read in between. So a transaction that was lost with its connection is
//! carried out again from memory, after a look at the lease's row, which says whether it is there already.

use super::error::{Error, Failure};
use super::lease::Lease;
use super::options::PgOptions;
use crate::db::Value;
use bytes::BytesMut;
use futures::future::{BoxFuture, join_all};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

/// After this part of the lease it is renewed, if no transaction has done so.
const RENEW: u32 = 4;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection of the leader, with the transaction that is open on it.
pub(crate) struct Session {
	state: RefCell<State>,
	/// Runs while we wait, and only then.
	runtime: Runtime,
}

struct State {
	options: PgOptions,
	epoch: i64,
	/// Transactions that are in the database for sure.
	batch: i64,
	/// When the lease was asked to be renewed the last time that it was.
	renewed: Instant,
	client: Option<Client>,
	prepared: HashMap<String, Statement>,
	/// The open transaction, and how much of it the server has.
	open: Vec<Bound>,
	sent: usize,
	/// The server has begun it.
	begun: bool,
	bytes: u64,
}

/// A statement with its values.
struct Bound {
	sql: String,
	values: Vec<Owned>,
}

/// A row.
pub(crate) type PgRow = tokio_postgres::Row;

impl Session {
	/// Connects. Not to be called, nor the session to be dropped, on a thread of a runtime.
	pub fn open(options: &PgOptions, lease: &Lease) -> Result<Session, Error> {
		let runtime = tokio::runtime::Builder::new_current_thread()
			.enable_all()
			.build()
			.map_err(|e| Error::OutOfTime(format!("no runtime: {e}")))?;
		let mut state = State {
			options: options.clone(),
			epoch: lease.epoch,
			batch: lease.batch,
			renewed: lease.taken,
			client: None,
			prepared: HashMap::new(),
			open: Vec::new(),
			sent: 0,
			begun: false,
			bytes: 0,
		};
		runtime.block_on(state.reconnect("not connected yet".into(), false))?;
		Ok(Session { state: RefCell::new(state), runtime })
	}

	/// Takes a statement into the open transaction.
	pub fn execute(&self, sql: &str, values: &[Value<'_>]) {
		let values: Vec<Owned> = values.iter().map(Owned::from).collect();
		let mut state = self.state.borrow_mut();
		state.bytes += values.iter().map(Owned::len).sum::<u64>();
		state.open.push(Bound { sql: sql.to_owned(), values });
	}

	/// The rows of a query, which sees what the open transaction has done.
	pub fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<PgRow>, Error> {
		let query = Bound { sql: sql.to_owned(), values: values.iter().map(Owned::from).collect() };
		self.runtime.block_on(self.state.borrow_mut().query(&query))
	}

	/// Ends the open transaction. It is durable.
	pub fn commit(&self) -> Result<(), Error> {
		self.runtime.block_on(self.state.borrow_mut().commit())
	}

	/// Is a transaction open on the server? Then the lease's row is locked, and nobody must wait long.
	pub fn is_begun(&self) -> bool {
		self.state.borrow().begun
	}

	/// Renews the lease if it is time to.
	pub fn renew_if_due(&self) -> Result<(), Error> {
		let mut state = self.state.borrow_mut();
		let due = !state.begun && state.renewed.elapsed() >= state.options.lease / RENEW;
		if due { self.runtime.block_on(state.renew()) } else { Ok(()) }
	}

	/// How often [`renew_if_due`](Session::renew_if_due) is to be called.
	pub fn renew_every(&self) -> Duration {
		self.state.borrow().options.lease / RENEW
	}

	/// Gives the lease back, so that a standby need not wait for its end.
	pub fn release(&self) {
		let state = self.state.borrow();
		let Some(client) = &state.client else { return };
		let sql = format!("UPDATE lease SET expires = '-infinity' WHERE epoch = {}", state.epoch);
		let released = async { timeout_at(state.deadline(), client.batch_execute(&sql)).await };
		if !matches!(self.runtime.block_on(released), Ok(Ok(()))) {
			tracing::warn!("the lease could not be given back: a standby waits until it runs out");
		}
	}

	/// Bytes of the values of the transactions since the last call.
	pub fn take_bytes(&self) -> u64 {
		std::mem::take(&mut self.state.borrow_mut().bytes)
	}

	/// Ends the connection, as a network would.
	#[cfg(all(test, postgres_here))]
	pub fn cut(&self) {
		let mut state = self.state.borrow_mut();
		state.client = None;
	}
}

impl State {
	/// From here on, somebody else may be about to become the leader.
	fn deadline(&self) -> Instant {
		self.renewed + self.options.lease * 3 / 4
	}

	async fn query(&mut self, query: &Bound) -> Result<Vec<PgRow>, Error> {
		loop {
			let asked = timeout_at(self.deadline(), self.try_query(query)).await;
			match asked.unwrap_or_else(|_| Err(no_answer())) {
				Ok(rows) => return Ok(rows),
				Err(Failure::Fatal(e)) => return Err(e),
				Err(Failure::Lost(why)) => self.reconnect(why, false).await?,
			};
		}
	}

	async fn try_query(&mut self, query: &Bound) -> Result<Vec<PgRow>, Failure> {
		self.prepare(Some(query)).await?;
		if self.begun || !self.open.is_empty() {
			self.send(false).await?;
		}
		let rows = self.client()?.query(&self.prepared[&query.sql], &refs(&query.values)).await;
		Ok(rows?)
	}

	async fn commit(&mut self) -> Result<(), Error> {
		loop {
			let asked = Instant::now();
			let done = timeout_at(self.deadline(), self.try_commit()).await;
			match done.unwrap_or_else(|_| Err(no_answer())) {
				Ok(()) => self.renewed = asked,
				Err(Failure::Fatal(e)) => return Err(e),
				Err(Failure::Lost(why)) => {
					if self.reconnect(why, true).await? == self.batch {
						continue;
					}
					tracing::info!("the transaction whose answer was lost is in the database");
				}
			}
			self.batch += 1;
			self.open.clear();
			(self.sent, self.begun) = (0, false);
			return Ok(());
		}
	}

	async fn try_commit(&mut self) -> Result<(), Failure> {
		self.prepare(None).await?;
		self.send(true).await
	}

	/// Sends what of the open transaction is not sent; all requests at once, and the answers are waited for afterwards. If one
	/// fails, so do all behind it: the transaction is over on the server.
	async fn send(&mut self, commit: bool) -> Result<(), Failure> {
		let client = self.client.as_ref().ok_or_else(lost)?;
		let fence = fence(&self.options, self.epoch, self.batch);
		let mut requests: Vec<BoxFuture<'_, Result<(), tokio_postgres::Error>>> = Vec::new();
		if !self.begun {
			requests.push(Box::pin(client.batch_execute("BEGIN")));
			requests.push(Box::pin(client.batch_execute(&fence)));
		}
		for bound in &self.open[self.sent..] {
			let statement = &self.prepared[&bound.sql];
			requests.push(Box::pin(async move { client.execute(statement, &refs(&bound.values)).await.map(drop) }));
		}
		if commit {
			requests.push(Box::pin(client.batch_execute("COMMIT")));
		}
		for answer in join_all(requests).await {
			answer?;
		}
		(self.begun, self.sent) = (!commit, self.open.len());
		Ok(())
	}

	/// Has all statements known to the server that are about to be sent.
	async fn prepare(&mut self, query: Option<&Bound>) -> Result<(), Failure> {
		let client = self.client.as_ref().ok_or_else(lost)?;
		for bound in self.open[self.sent..].iter().chain(query) {
			if !self.prepared.contains_key(&bound.sql) {
				let statement = client.prepare(&bound.sql.replace('?', "$")).await?;
				self.prepared.insert(bound.sql.clone(), statement);
			}
		}
		Ok(())
	}

	async fn renew(&mut self) -> Result<(), Error> {
		let asked = Instant::now();
		// What it changes may be lost: it is only about time.
		let sql = format!("BEGIN; SET LOCAL synchronous_commit = off; {}; COMMIT", renewal(&self.options, self.epoch));
		let done = match &self.client {
			Some(client) => timeout_at(self.deadline(), client.batch_execute(&sql)).await,
			None => return self.reconnect("not connected".into(), false).await.map(drop),
		};
		match done.map_or_else(|_| Err(no_answer()), |done| done.map_err(Failure::from)) {
			Ok(()) => {
				self.renewed = asked;
				Ok(())
			}
			Err(Failure::Fatal(e)) => Err(e),
			Err(Failure::Lost(why)) => self.reconnect(why, false).await.map(drop),
		}
	}

	/// Connects again, until the lease may have run out. Gives the number of transactions that there are: ours, or one
	/// more if one was being committed. What the open transaction had sent is to be sent again.
	async fn reconnect(&mut self, why: String, committing: bool) -> Result<i64, Error> {
		tracing::warn!("no connection to {}: {why}", self.options);
		let mut why = why;
		(self.client, self.begun, self.sent) = (None, false, 0);
		self.prepared.clear();
		loop {
			let asked = Instant::now();
			let there = timeout_at(self.deadline(), self.try_reconnect()).await;
			match there.unwrap_or_else(|_| Err(Failure::Fatal(Error::OutOfTime(why.clone())))) {
				Ok(there) if there == self.batch || (committing && there == self.batch + 1) => {
					self.renewed = asked;
					return Ok(there);
				}
				Ok(found) if found < self.batch => return Err(Error::WentBack { found, acknowledged: self.batch }),
				Ok(_) => return Err(Error::Fenced),
				Err(Failure::Fatal(e)) => return Err(e),
				Err(Failure::Lost(again)) => why = again,
			}
			sleep(PAUSE).await;
		}
	}

	/// The lease's row is locked for it, so a transaction of ours that is still under way over there has ended before. And it is
	/// durable itself, so all before it is: also on a replica, if the server waits for one.
	async fn try_reconnect(&mut self) -> Result<i64, Failure> {
		let client = self.options.connect_to_primary().await?;
		let sql = format!("{} RETURNING batch", renewal(&self.options, self.epoch));
		let there = client.query_one(&sql, &[]).await?.get(0);
		self.client = Some(client);
		Ok(there)
	}

	fn client(&self) -> Result<&Client, Failure> {
		self.client.as_ref().ok_or_else(lost)
	}
}

fn lost() -> Failure {
	Failure::Lost("not connected".into())
}

fn no_answer() -> Failure {
	Failure::Fatal(Error::OutOfTime("no answer".into()))
}

/// What each transaction begins with: it locks the lease's row, and fails (the column may not be null) unless the leader is
/// this one and the transaction is the next. So a request that was thought lost and comes late does nothing.
fn fence(options: &PgOptions, epoch: i64, batch: i64) -> String {
	let (until, next) = (options.until(), batch + 1);
	format!("UPDATE lease SET batch = CASE WHEN epoch = {epoch} AND batch = {batch} THEN {next} END, expires = {until}")
}

/// Renews the lease, and fails unless it is ours.
fn renewal(options: &PgOptions, epoch: i64) -> String {
	format!("UPDATE lease SET expires = CASE WHEN epoch = {epoch} THEN {} END", options.until())
}

/// A value that is kept until its transaction is committed.
#[derive(Debug)]
enum Owned {
	Null,
	Int(i64),
	Bool(bool),
	Text(String),
	Bytes(Vec<u8>),
}

impl From<&Value<'_>> for Owned {
	fn from(value: &Value<'_>) -> Owned {
		match *value {
			Value::Null => Owned::Null,
			Value::Int(n) => Owned::Int(n),
			Value::Bool(b) => Owned::Bool(b),
			Value::Text(text) => Owned::Text(text.to_owned()),
			Value::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
		}
	}
}

impl Owned {
	fn len(&self) -> u64 {
		match self {
			Owned::Null | Owned::Bool(_) => 1,
			Owned::Int(_) => 8,
			Owned::Text(text) => text.len() as u64,
			Owned::Bytes(bytes) => bytes.len() as u64,
		}
	}
}

impl ToSql for Owned {
	fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
		match self {
			Owned::Null => Ok(IsNull::Yes),
			Owned::Int(n) if *ty == Type::INT4 => i32::try_from(*n)?.to_sql(ty, out),
			Owned::Int(n) => n.to_sql(ty, out),
			Owned::Bool(b) => b.to_sql(ty, out),
			Owned::Text(text) => text.to_sql(ty, out),
			Owned::Bytes(bytes) => bytes.to_sql(ty, out),
		}
	}

	/// Our SQL gives each column what it holds.
	fn accepts(_: &Type) -> bool {
		true
	}

	to_sql_checked!();
}

fn refs(values: &[Owned]) -> Vec<&(dyn ToSql + Sync)> {
	values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}
