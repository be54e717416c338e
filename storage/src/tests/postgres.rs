//! The same tests on a PostgreSQL server, and those that only a server needs.
//!
//! The first are the files beside this one, which ask their parent for a place and for a store there; here the place is a
//! schema of a server that this process starts.

#[path = "book.rs"]
mod book;
#[path = "crash.rs"]
mod crash;
#[path = "deltas.rs"]
mod deltas;
#[path = "group.rs"]
mod group;
#[path = "lazy.rs"]
mod lazy;
#[path = "leader.rs"]
mod leader;
#[path = "model.rs"]
mod model;
#[path = "moving.rs"]
mod moving;
#[path = "order.rs"]
mod order;
#[path = "reading.rs"]
mod reading;
#[path = "../../../tests/src/postgres.rs"]
mod server;
#[path = "wallet.rs"]
mod wallet;

use super::{CHILD, block_writer, get, put, samples};
use crate::{Lease, OpenError, Patience, PgOptions, Store, abort};
use server::Postgres;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// Long: no test waits for its end, and a slow machine must not.
const LEASE: Duration = Duration::from_secs(120);

/// Runs of the model: fewer than on a file, because copies take time.
const CASES: u32 = 6;

/// Where the child finds its place: the server's URL and the schema.
const PLACE: &str = "INLET_STORE_TEST_PLACE";

fn server_url() -> String {
	static SERVER: OnceLock<Postgres> = OnceLock::new();
	std::env::var(PLACE).unwrap_or_else(|_| SERVER.get_or_init(|| Postgres::start().unwrap()).url())
}

fn options(schema: &str) -> PgOptions {
	PgOptions::new(&server_url(), &[], LEASE).unwrap().in_schema(schema)
}

/// A schema of its own.
fn place() -> ((), PgOptions) {
	static NEXT: AtomicU32 = AtomicU32::new(0);
	((), options(&format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))))
}

/// Runs this on a runtime of its own, whether or not we are on one.
fn wait<T: Send>(future: impl Future<Output = T> + Send) -> T {
	let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
	std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// A connection for looking at the tables and changing them.
async fn look(at: &PgOptions) -> Client {
	let (client, connection) = server_url().parse::<tokio_postgres::Config>().unwrap().connect(NoTls).await.unwrap();
	tokio::spawn(connection);
	client.batch_execute(&format!("SET search_path = {}", at.schema())).await.unwrap();
	client
}

/// What a lease's holder is called.
fn me() -> String {
	format!("process {}", std::process::id())
}

async fn acquire(at: &PgOptions) -> Result<Lease, OpenError> {
	at.acquire(&me(), Patience::Refuse, |_| {}).await
}

/// Lets the lease run out, if there is one.
async fn expire(at: &PgOptions) {
	// Before the first store there is no such table.
	let _ = look(at).await.batch_execute("UPDATE lease SET expires = '-infinity'").await;
}

/// Opens the store, also when a child that had the lease was killed.
fn open(at: &PgOptions) -> Store {
	let lease = wait(async {
		expire(at).await;
		acquire(at).await.unwrap()
	});
	Store::open_postgres(at, lease, abort).unwrap()
}

/// A copy of all that is committed at this moment, in a schema of its own.
fn copy_files(at: &PgOptions) -> ((), PgOptions) {
	let (guard, copy) = place();
	wait(async {
		let client = look(at).await;
		let mut sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA {};", copy.schema());
		for table in client
			.query("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1", &[])
			.await
			.unwrap()
		{
			let (table, from, to): (String, _, _) = (table.get(0), at.schema(), copy.schema());
			sql += &format!(
				"CREATE TABLE {to}.{table} (LIKE {from}.{table} INCLUDING ALL);
				INSERT INTO {to}.{table} SELECT * FROM {from}.{table};"
			);
		}
		client.batch_execute(&format!("{sql} COMMIT")).await.unwrap();
	});
	(guard, copy)
}

/// This test binary again, as a process of its own that runs one test in the role of a child.
fn child(test: &str, at: &PgOptions) -> Command {
	let mut command = Command::new(std::env::current_exe().unwrap());
	command.args([&format!("tests::postgres::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
	command.env(PLACE, server_url()).env(CHILD, at.schema());
	command
}

/// The schema, in a process made by [`child`].
fn child_path() -> Option<PgOptions> {
	Some(options(&std::env::var(CHILD).ok()?))
}
