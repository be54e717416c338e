//! Leaders, lost connections, and what a server may do to a transaction.

use super::{LEASE, Postgres, acquire, copy_files, expire, get, look, open, place, put};
use crate::db::Connection;
use crate::{OpenError, Patience, PgOptions, Store};
use lightning::util::persist::KVStore;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

/// A store whose fatal words are told instead of ending the process.
async fn open_and_listen(at: &PgOptions) -> (Store, mpsc::Receiver<String>) {
	let lease = acquire(at).await.unwrap();
	let (told, words) = mpsc::channel();
	let store = Store::open_postgres(at, lease, move |text| told.send(text.to_owned()).unwrap()).unwrap();
	(store, words)
}

/// Breaks the connection, as a network would, between two batches.
async fn cut(store: &Store) {
	let cut = |conn: &Connection| {
		conn.pg().unwrap().cut();
		Ok(())
	};
	store.ask(cut).await.unwrap();
}

#[tokio::test]
async fn r17_a_second_leader_is_refused() {
	let (_dir, at) = place();
	// It is heard of again within a quarter of its lease.
	let at = at.with_lease(Duration::from_secs(8));
	let store = open(&at);
	put(&store, "k", b"v").await.unwrap();
	let refused = acquire(&at).await.unwrap_err();
	assert!(matches!(&refused, OpenError::Held { .. }), "{refused}");
	let sentence = refused.to_string();
	assert!(sentence.contains("--standby") && sentence.contains(&std::process::id().to_string()), "{sentence}");
	put(&store, "k", b"w").await.unwrap();
}

/// A leader that is gone without a word is waited for until its lease is over, by the server's clock.
#[tokio::test]
async fn a_lease_that_is_not_renewed_runs_out() {
	let (_dir, at) = place();
	let at = at.with_lease(Duration::from_secs(1));
	let gone = acquire(&at).await.unwrap();
	let mut told = Vec::new();
	let next = at.acquire("standby", Patience::StandBy, |text| told.push(text.to_owned())).await.unwrap();
	assert_eq!(next.epoch(), gone.epoch() + 1);
	assert_eq!(told.len(), 1, "{told:?}");
	assert!(told[0].contains("has the lease"), "{told:?}");
}

/// A leader that stops gives its lease back: the standby need not wait.
#[tokio::test]
async fn a_leader_that_stops_gives_the_lease_back() {
	let (_dir, at) = place();
	let store = open(&at);
	put(&store, "k", b"v").await.unwrap();
	let (waits, told) = mpsc::channel();
	let standby = tokio::spawn({
		let at = at.clone();
		async move { at.acquire("standby", Patience::StandBy, |text| waits.send(text.to_owned()).unwrap()).await.unwrap() }
	});
	let said = tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
	assert!(said.contains("has the lease"), "{said}");
	store.close().await;
	let store = Store::open_postgres(&at, standby.await.unwrap(), crate::abort).unwrap();
	assert_eq!(get(&store, "k").await.unwrap(), b"v");
}

/// The lease ran out while the old leader was away (asleep, cut off), and another took it. Whatever the old one still wants to
/// write is not written, it is told to stop, and nothing of it is acknowledged.
#[tokio::test]
async fn r17_two_leaders_cannot_both_write() {
	let (_dir, at) = place();
	let (old, words) = open_and_listen(&at).await;
	put(&old, "k", b"old").await.unwrap();
	expire(&at).await;
	let (new, _) = open_and_listen(&at).await;
	assert_eq!(get(&new, "k").await.unwrap(), b"old");
	put(&new, "k", b"new").await.unwrap();

	let late = put(&old, "k", b"late").await;
	assert!(late.is_err(), "it must not be acknowledged");
	let said = words.recv().unwrap();
	assert!(said.contains("another node has taken over the lease, so this one stops"), "{said}");
	assert!(old.load_rows().await.is_err(), "it is dead");
	put(&new, "other", b"x").await.unwrap();
	assert_eq!(get(&new, "k").await.unwrap(), b"new");
}

/// A leader that has nothing to write notices all the same: at the next renewal.
#[tokio::test]
async fn an_idle_leader_notices_that_it_is_none() {
	let (_dir, at) = place();
	let at = at.with_lease(Duration::from_secs(8));
	let (_old, words) = open_and_listen(&at).await;
	expire(&at).await;
	let _new = acquire(&at).await.unwrap();
	let said = tokio::task::spawn_blocking(move || words.recv().unwrap()).await.unwrap();
	assert!(said.contains("another node has taken over"), "{said}");
}

/// A connection that breaks costs nothing but time.
#[tokio::test]
async fn a_lost_connection_is_made_again() {
	let (_dir, at) = place();
	let store = open(&at);
	for i in 0..20u8 {
		put(&store, "k", &[i]).await.unwrap();
		drop(store.remove("inlet", "test", "other", true));
		cut(&store).await;
		assert_eq!(get(&store, "k").await.unwrap(), [i]);
		let (_copy_dir, copy) = copy_files(&at);
		assert_eq!(get(&open(&copy), "k").await.unwrap(), [i]);
	}
	assert_eq!(store.stats().batches, batches(&at).await - 1, "each is there once, behind the first opening");
}

async fn batches(at: &PgOptions) -> u64 {
	let row = look(at).await.query_one("SELECT batch FROM lease", &[]).await.unwrap();
	row.get::<_, i64>(0).unsigned_abs()
}

/// The server ends connections in the middle of everything, again and again: the answer to a commit is lost, or the commit
/// itself. Each entry is in the ledger once, and its total is right: nothing was lost and nothing done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_commit_whose_answer_is_lost_is_made_once() {
	let (_dir, at) = place();
	let store = open(&at);
	let killer = look(&at).await;
	let writes = tokio::spawn({
		let store = store.clone();
		async move {
			for seq in 0..300 {
				store.commit(vec![super::samples::entry(seq)]).await;
			}
		}
	});
	let mut cuts = 0;
	let mut next = 0;
	while !writes.is_finished() {
		// It has to get on in between.
		if store.stats().batches < next {
			tokio::task::yield_now().await;
			continue;
		}
		// Others of this server's stores have connections that are not on this schema's lease.
		let row = killer
			.query_one(
				"SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l
				WHERE l.relation = 'lease'::regclass AND l.pid <> pg_backend_pid()",
				&[],
			)
			.await
			.unwrap();
		let cut = row.get::<_, i64>(0);
		cuts += cut;
		next = if cut > 0 { store.stats().batches + 4 } else { 0 };
	}
	writes.await.unwrap();
	assert!(cuts > 0, "nothing was cut: the test tests nothing");
	let totals = store.ledger_totals().await.unwrap();
	assert_eq!(totals.iter().map(|total| total.entries).sum::<u64>(), 300);
	assert_eq!(totals.iter().map(|total| total.amount_msat).sum::<i64>(), 150 * (546_000 - 200_000));
	assert_eq!(store.ledger(None, 1000).await.unwrap().len(), 300);
}

/// The server crashes and comes back: what it acknowledged is there, what it did not is written then.
#[tokio::test]
async fn r13_the_server_crashes_and_comes_back() {
	let server = Postgres::start().unwrap();
	let at = PgOptions::new(&server.url(), &[], LEASE).unwrap();
	let (store, _words) = open_and_listen(&at).await;
	put(&store, "k", b"before").await.unwrap();
	server.crash().unwrap();
	let waits = tokio::spawn(put(&store, "k", b"meanwhile"));
	server.resume().unwrap();
	waits.await.unwrap().unwrap();
	assert_eq!(get(&store, "k").await.unwrap(), b"meanwhile");
}

/// A server that lost transactions it had acknowledged (a replica that was behind) is no server for this node.
#[tokio::test]
async fn r13_a_database_that_went_back_is_refused() {
	let (_dir, at) = place();
	let (store, words) = open_and_listen(&at).await;
	put(&store, "k", b"1").await.unwrap();
	put(&store, "k", b"2").await.unwrap();
	look(&at).await.batch_execute("UPDATE lease SET batch = batch - 1").await.unwrap();
	cut(&store).await;
	assert!(put(&store, "k", b"3").await.is_err());
	let said = words.recv().unwrap();
	assert!(said.contains("a replica that was behind") && !said.contains("is lost."), "{said}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_the_lease_not_taken() {
	let (_dir, at) = place();
	open(&at).close().await;
	look(&at).await.batch_execute("UPDATE meta SET value = 99 WHERE name = 'schema'").await.unwrap();
	let refused = acquire(&at).await.unwrap_err();
	assert!(matches!(refused, OpenError::TooNew { found: 99, .. }), "{refused}");
	look(&at).await.batch_execute("UPDATE meta SET value = 1 WHERE name = 'schema'").await.unwrap();
	open(&at);
}

/// Neither what is shown nor what goes wrong has the password in it.
#[tokio::test]
async fn the_password_is_in_no_text() {
	let server = super::server_url();
	let url = server.replace("inlet@", "inlet:hunter2@").replace("/postgres", "/nowhere");
	let at = PgOptions::new(&url, &[], LEASE).unwrap();
	let refused = acquire(&at).await.unwrap_err();
	assert!(refused.to_string().contains("nowhere"), "{refused}");
	for text in [format!("{at} {at:?}"), format!("{refused} {refused:?}")] {
		assert!(!text.contains("hunter2"), "{text}");
	}
	for wrong in ["postgresql://a:hunter2@h:x/d", "mysql://a:hunter2@h/d", "postgresql://:hunter2@h", "postgresql:///d"]
	{
		let said = PgOptions::new(wrong, &[], LEASE).unwrap_err().to_string();
		assert!(!said.contains("hunter2"), "{said}");
	}
}

/// `table.column` of all tables.
async fn tables_of_file(store: &Store) -> BTreeSet<String> {
	let columns = store.ask(|conn| {
		conn.prepare(
			"SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'",
		)?
		.query_map([], |row| row.get::<_, String>(0))?
		.collect::<Result<BTreeSet<_>, _>>()
		.map_err(Into::into)
	});
	columns.await.unwrap()
}

/// The SQL is the same for both, so the tables are.
#[tokio::test]
async fn the_tables_are_the_same() {
	let (_file_dir, path) = crate::tests::place();
	let file = crate::tests::open(&path);
	let (_dir, at) = place();
	let store = open(&at);
	let found = store.ask(|conn| {
		conn.prepare(
			"SELECT table_name || '.' || column_name FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name <> 'lease'",
		)?
		.query_map([], |row| row.get::<_, String>(0))?
		.collect::<Result<BTreeSet<_>, _>>()
		.map_err(Into::into)
	});
	assert_eq!(found.await.unwrap(), tables_of_file(&file).await);
}

/// What is moved is all that there is.
#[tokio::test]
async fn all_tables_are_moved() {
	let (_file_dir, path) = crate::tests::place();
	let file = crate::tests::open(&path);
	let mut wanted: BTreeSet<String> = tables_of_file(&file).await;
	wanted.retain(|column| !column.starts_with("meta."));
	assert_eq!(crate::migrate::columns(), wanted);
}

/// TCP is under TLS, by a certificate that is trusted and for this host, unless the URL says that it is not wanted.
#[tokio::test]
async fn tls_is_verified() {
	let server = Postgres::start().unwrap();
	let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
	let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
	server.serve_tls(port, &made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
	let at = |host: &str, more: &str, roots: &str| {
		let url = format!("postgresql://inlet@{host}:{port}/postgres{more}");
		PgOptions::new(&url, roots.as_bytes(), LEASE).unwrap()
	};
	let own = made.cert.pem();
	for (host, more, roots) in
		[("localhost", "", ""), ("127.0.0.1", "", own.as_str()), ("localhost", "?sslmode=prefer", "")]
	{
		let refused = acquire(&at(host, more, roots)).await.unwrap_err().to_string();
		assert!(refused.contains("certificate"), "{host}{more}: {refused}");
	}
	let trusted = at("localhost", "", &own);
	let store = Store::open_postgres(&trusted, acquire(&trusted).await.unwrap(), crate::abort).unwrap();
	let row = store.ask(|conn| {
		conn.query_row("SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()", [], |row| row.get(0))
			.map_err(Into::into)
	});
	let under_tls: i64 = row.await.unwrap();
	assert_eq!(under_tls, 1);
	store.close().await;
	acquire(&at("localhost", "?sslmode=disable", "")).await.unwrap();
	assert!(PgOptions::new("postgresql://a@h/d", b"no certificate", LEASE).is_err());
}
