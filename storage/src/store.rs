//! The handle.

use crate::db::Connection;
use crate::error::{OpenError, ReadError};
use crate::migrate;
use crate::pg::{Lease, PgOptions, Session};
use crate::queue::{Change, Op, Question, Queue, Sees};
use crate::room::{Room, Space};
use crate::schema;
use crate::stats::Stats;
use crate::stream::{Stream, Tap};
use crate::values::Values;
use crate::writer::Writer;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The store. Clones are handles to the same one; when the last is dropped, what is queued is written and the file is
/// closed (which blocks; prefer [`close`](Store::close)).
#[derive(Clone)]
pub struct Store(Arc<Handle>);

struct Handle {
	queue: Arc<Queue>,
	writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
	/// Opens the file, or creates it (mode 0600; the directory must exist), checks it, and brings its schema up to date.
	/// Blocks: call it before anything else runs.
	///
	/// `fatal` is called on the writer's thread, once, if something cannot be written: with a sentence for the operator
	/// that says what happened and what to do. It is meant not to return ([`abort`]); if it does, the store is dead:
	/// what was not acknowledged never will be, and reads fail.
	pub fn open(path: &Path, fatal: impl Fn(&str) + Send + 'static) -> Result<Store, OpenError> {
		Store::open_with(path, Vec::new(), fatal)
	}

	/// [`open`](Store::open), with a tap for each who keeps a copy elsewhere; at most one of them holds. A tap is for one store.
	pub fn open_with(path: &Path, taps: Vec<Tap>, fatal: impl Fn(&str) + Send + 'static) -> Result<Store, OpenError> {
		// A disk may be so full that even a start has no room.
		Room::of(path).keep_for(0);
		let conn = Connection::Sqlite(schema::open(path)?);
		let unreadable = |e: ReadError| schema::unreadable(path, &e);
		refuse_marked(&conn, path, unreadable)?;
		let values = load_values(&conn).map_err(unreadable)?;
		Store::start(conn, values, taps, path, Room::of(path), Box::new(fatal))
	}

	/// Opens a store on a PostgreSQL server, with the lease that [`PgOptions::acquire`] gave. Blocks.
	///
	/// As [`open`](Store::open) otherwise. `fatal` is also called when another node has taken the lease, and when it could
	/// not be renewed in time: what was not acknowledged by then never will be.
	pub fn open_postgres(
		options: &PgOptions,
		lease: Lease,
		fatal: impl Fn(&str) + Send + 'static,
	) -> Result<Store, OpenError> {
		let on = options.clone();
		// A session's runtime cannot be used on a thread that belongs to another.
		let opening = std::thread::spawn(move || {
			let conn = Connection::Pg(Box::new(Session::open(&on, &lease).map_err(|e| on.unusable(e.to_string()))?));
			let unreadable = |e: ReadError| match e {
				ReadError::Damaged(what) => OpenError::Damaged { path: on.place(), what },
				e => on.unusable(e.to_string()),
			};
			refuse_marked(&conn, &on.place(), unreadable)?;
			let values = load_values(&conn).map_err(unreadable)?;
			Ok((conn, values))
		});
		let (conn, values) = opening.join().map_err(|_| options.unusable("a bug, please report it"))??;
		Store::start(conn, values, Vec::new(), &options.place(), Room::elsewhere(), Box::new(fatal))
	}

	/// Starts the writer on a database that is ready.
	fn start(
		conn: Connection,
		mut values: Values,
		taps: Vec<Tap>,
		path: &Path,
		room: Room,
		fatal: Box<dyn Fn(&str) + Send>,
	) -> Result<Store, OpenError> {
		values.stream = (!taps.is_empty()).then(Stream::default);
		let queue = Arc::new(Queue::new(room));
		let mut writer = Writer::new(queue.clone(), conn, values, path.to_owned(), fatal);
		writer.taps = taps;
		let thread = std::thread::Builder::new()
			.name("store".into())
			.spawn(move || {
				let last = catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(|_| {
					(writer.fatal)("the store's writer panicked: this is a bug, please report it; start again");
					Vec::new()
				});
				writer.queue.shut();
				drop(writer);
				last.into_iter().for_each(|answer| answer());
			})
			.map_err(|e| OpenError::Disk { path: path.to_owned(), why: format!("no thread: {e}") })?;
		Ok(Store(Arc::new(Handle { queue, writer: Mutex::new(Some(thread)) })))
	}

	/// Everything enqueued before this call, lazy removes included, is durable when it returns, but for the graph and the
	/// scorer, for which nothing has to wait. Never returns if the store has died or was closed.
	pub fn drain(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
		let (done, wait) = oneshot::channel();
		self.push(Op::Drain(done));
		never_if_dropped(wait)
	}

	/// [`drain`](Store::drain), of this disk alone: it does not wait for a copy elsewhere.
	pub fn drain_here(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
		let (done, wait) = oneshot::channel();
		self.push(Op::DrainHere(done));
		never_if_dropped(wait)
	}

	/// Writes what is queued, empties the log into the database and closes the file. What is enqueued afterwards, through
	/// other handles, is not written and not acknowledged.
	pub async fn close(self) {
		let (done, wait) = oneshot::channel();
		self.push(Op::Close(done));
		// An error: it was closed already, or has died; either way there is no more to wait for.
		drop(wait.await);
	}

	/// What was written so far, and what waits.
	pub fn stats(&self) -> Stats {
		self.0.queue.counters.snapshot()
	}

	/// Keeps a file of so many bytes beside the store's, which is given up when the disk is full, so that what is in flight can
	/// still be finished. Makes it, if it is not there (or has another size) and the disk has room for it and for as much again;
	/// to be called now and then, because there may be room again. Blocks for as long as the file system takes.
	///
	/// # Errors
	/// What the system says; the store works all the same.
	pub fn keep_reserve(&self, bytes: u64) -> std::io::Result<()> {
		self.0.queue.room.keep_reserve(bytes)
	}

	/// How much room there is.
	pub fn space(&self) -> Space {
		self.0.queue.room.space()
	}

	/// Takes its place now; false if the store is closed or dead.
	pub(crate) fn push(&self, op: Op) -> bool {
		self.0.queue.push(op)
	}

	/// Enqueues a change, now; the future resolves when it is durable, in the order of the calls. An error: it was not
	/// acknowledged, and never will be.
	pub(crate) fn change(&self, change: Change) -> oneshot::Receiver<()> {
		let (done, wait) = oneshot::channel();
		self.push(Op::Change(change, done));
		wait
	}

	/// Enqueues a question, now: it sees all that was enqueued before it. What it sees is durable when it is answered,
	/// except for lazy removes. It runs on the writer's thread, so it must be short.
	pub(crate) fn ask<T: Send + 'static, Q>(
		&self,
		question: Q,
	) -> impl Future<Output = Result<T, ReadError>> + Send + 'static + use<T, Q>
	where
		Q: FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
	{
		self.ask_values(Sees::Others, move |conn, _| question(conn))
	}

	/// [`ask`](Store::ask), for LDK's values, which the tables alone do not have.
	pub(crate) fn ask_values<T: Send + 'static, Q>(
		&self,
		sees: Sees,
		question: Q,
	) -> impl Future<Output = Result<T, ReadError>> + Send + 'static + use<T, Q>
	where
		Q: FnOnce(&Connection, &Values) -> Result<T, ReadError> + Send + 'static,
	{
		let (tell, wait) = oneshot::channel();
		let question: Question = Box::new(move |conn, values| {
			let answer = question(conn, values);
			Box::new(move || drop(tell.send(answer)))
		});
		self.push(Op::Ask(question, sees));
		async move { wait.await.unwrap_or(Err(ReadError::Closed)) }
	}
}

/// Where the write-ahead log of a store is.
pub(crate) fn log_of(store: &Path) -> std::path::PathBuf {
	let mut name = store.as_os_str().to_owned();
	name.push("-wal");
	name.into()
}

fn refuse_marked(conn: &Connection, path: &Path, unreadable: impl Fn(ReadError) -> OpenError) -> Result<(), OpenError> {
	match migrate::refusal(conn).map_err(|e| unreadable(e.into()))? {
		Some(what) => Err(OpenError::Moved { path: path.to_owned(), what }),
		None => Ok(()),
	}
}

fn load_values(conn: &Connection) -> Result<Values, ReadError> {
	conn.begin()?;
	let values = Values::load(conn)?;
	conn.commit()?;
	Ok(values)
}

/// Resolves when the change is durable; never, if the store has died or was closed. For callers that have no use for an
/// error, because the process is about to end.
pub(crate) async fn never_if_dropped(wait: oneshot::Receiver<()>) {
	if wait.await.is_err() {
		std::future::pending::<()>().await;
	}
}

/// The fatal hook of a real node: says what happened in the log and on stderr, and ends the process at once, before
/// anything is said or signed on the strength of a write that did not happen.
pub fn abort(message: &str) {
	tracing::error!("{message}");
	eprintln!("fatal: {message}");
	std::process::abort();
}

impl Drop for Handle {
	fn drop(&mut self) {
		let (done, _) = oneshot::channel();
		self.queue.push(Op::Close(done));
		let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
		if let Some(writer) = writer
			&& writer.thread().id() != std::thread::current().id()
		{
			// Its panics were reported by the thread itself.
			drop(writer.join());
		}
	}
}

impl std::fmt::Debug for Store {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
	}
}
