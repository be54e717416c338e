//! The tables, and how they are brought up to date: the same as in the file (`crate::schema`), less SQLite's particulars.

use super::error::Failure;
use super::options::PgOptions;
use crate::error::OpenError;
use tokio_postgres::{Client, Transaction};

/// The schema, as the list of steps to it. A step that was released never changes. What the file's schema gets, this one
/// gets as well, under the same names: the SQL is the same (`the_tables_are_the_same` holds it).
///
/// Text is ordered by its bytes. Rows that are written again and again have room on their page for the next version, so
/// that no index is touched. What is not compressible is not tried.
const MIGRATIONS: &[&str] = &[
	// 1. As the file's version 2.
	r#"CREATE TABLE kv (
		primary_ns TEXT COLLATE "C" NOT NULL, secondary_ns TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL,
		crc BIGINT NOT NULL, value BYTEA NOT NULL, n BIGINT NOT NULL DEFAULT 0, base BIGINT,
		PRIMARY KEY (primary_ns, secondary_ns, key)
	) WITH (fillfactor = 70);
	ALTER TABLE kv ALTER COLUMN value SET STORAGE EXTERNAL;
	CREATE TABLE base (part BIGINT PRIMARY KEY, bytes BYTEA NOT NULL);
	ALTER TABLE base ALTER COLUMN bytes SET STORAGE EXTERNAL;
	CREATE TABLE log (slot BIGINT PRIMARY KEY, bytes BYTEA NOT NULL) WITH (fillfactor = 50);
	ALTER TABLE log ALTER COLUMN bytes SET STORAGE PLAIN;

	CREATE TABLE book (
		kind TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, live BOOLEAN NOT NULL,
		crc BIGINT NOT NULL, json TEXT NOT NULL,
		PRIMARY KEY (kind, id)
	);
	CREATE INDEX book_by_time ON book (kind, at, id);
	CREATE INDEX book_live ON book (kind) WHERE live;

	CREATE TABLE ledger (
		seq BIGINT PRIMARY KEY, kind TEXT COLLATE "C" NOT NULL, amount_msat BIGINT NOT NULL,
		crc BIGINT NOT NULL, json TEXT NOT NULL
	);
	CREATE TABLE ledger_total (
		kind TEXT COLLATE "C" PRIMARY KEY, entries BIGINT NOT NULL, amount_msat BIGINT NOT NULL
	) WITH (fillfactor = 50);
	CREATE TABLE wallet (seq BIGINT PRIMARY KEY, crc BIGINT NOT NULL, json TEXT NOT NULL);"#,
	// 2. As the file's version 3.
	"",
];

/// Only one node at a time makes the schema ("INLT").
const MAKING: i64 = 0x494e_4c54;

/// Makes sure that the lease's row is there. Its shape is the same for all versions: a standby of another version reads it
/// while the leader works.
pub(super) async fn make_lease(options: &PgOptions, client: &Client) -> Result<(), Failure> {
	let schema = &options.schema;
	let there = client.query_one(&format!("SELECT to_regclass('{schema}.lease') IS NOT NULL"), &[]).await?;
	if there.get(0) {
		return Ok(());
	}
	// One request of several statements is one transaction.
	client
		.batch_execute(&format!(
			"SELECT pg_advisory_xact_lock({MAKING});
			CREATE SCHEMA IF NOT EXISTS {schema};
			CREATE TABLE IF NOT EXISTS lease (
				one BOOLEAN PRIMARY KEY CHECK (one), epoch BIGINT NOT NULL, batch BIGINT NOT NULL,
				expires TIMESTAMPTZ NOT NULL, holder TEXT NOT NULL
			) WITH (fillfactor = 10);
			INSERT INTO lease VALUES (true, 0, 0, '-infinity', '') ON CONFLICT DO NOTHING"
		))
		.await?;
	Ok(())
}

/// Takes the steps that the schema has not taken, for the leader that has just taken the lease in this transaction. The
/// inner error: it has taken more than there are.
pub(super) async fn migrate(options: &PgOptions, tx: &Transaction<'_>) -> Result<Result<(), OpenError>, Failure> {
	tx.batch_execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)").await?;
	let found = tx.query_opt("SELECT value FROM meta WHERE name = 'schema'", &[]).await?;
	let found = usize::try_from(found.map_or(0i64, |row| row.get(0))).unwrap_or(usize::MAX);
	let Some(steps) = MIGRATIONS.get(found..) else {
		let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
		let (found, known) = (number(found), number(MIGRATIONS.len()));
		return Ok(Err(OpenError::TooNew { path: options.place(), found, known }));
	};
	for step in steps {
		tx.batch_execute(step).await?;
	}
	if !steps.is_empty() {
		let known = MIGRATIONS.len();
		tx.batch_execute(&format!(
			"INSERT INTO meta VALUES ('schema', {known}) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
		))
		.await?;
		tracing::info!(from = found, to = known, "store schema brought up to date");
	}
	Ok(Ok(()))
}
