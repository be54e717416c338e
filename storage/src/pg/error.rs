//! What a server can answer, by what is done next.

use tokio_postgres::error::SqlState;

/// Why the server did not do something. Each ends the process, with this sentence.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
	/// Another node is the leader.
	#[error("another node has taken over the lease, so this one stops: only one may write")]
	Fenced,
	/// The lease may have run out, and nobody could be asked.
	#[error(
		"the lease could not be renewed in time ({0}), so this node stops before a standby takes over; \
		check the database, and start again"
	)]
	OutOfTime(String),
	/// It has less than it had acknowledged.
	#[error(
		"the database has {found} transactions, but {acknowledged} were acknowledged: it is a replica that was behind, or \
		an old copy. Do not run the node on it: channels would be lost. Go back to the server that has them all, and replicate \
		synchronously (node/docs/standby.md)"
	)]
	WentBack {
		/// What it has.
		found: i64,
		/// What it had said that it has.
		acknowledged: i64,
	},
	/// It refuses, and will do so again.
	#[error("the database refuses: {0}. Mend that, then start again")]
	Refused(String),
	/// A column is not of the type that was asked for.
	#[error("a column is not what was written: {0}")]
	Column(String),
}

/// One attempt.
pub(crate) enum Failure {
	/// The connection, or only the transaction, is lost: connect again and look what is there.
	Lost(String),
	Fatal(Error),
}

impl From<Error> for Failure {
	fn from(e: Error) -> Failure {
		Failure::Fatal(e)
	}
}

impl From<tokio_postgres::Error> for Failure {
	fn from(e: tokio_postgres::Error) -> Failure {
		let Some(said) = e.as_db_error() else { return Failure::Lost(text(&e)) };
		if *said.code() == SqlState::NOT_NULL_VIOLATION && said.table() == Some("lease") {
			return Failure::Fatal(Error::Fenced);
		}
		match is_passing(said.code()) {
			true => Failure::Lost(text(&e)),
			false => Failure::Fatal(Error::Refused(text(&e))),
		}
	}
}

/// Is it about the connection, the moment, or the server that happens to answer, and not about what was asked?
fn is_passing(code: &SqlState) -> bool {
	// Connection exceptions, operator intervention (shutdown, start, cancel), too many connections, time spent idle.
	let classes = ["08", "57"];
	let others = [
		SqlState::TOO_MANY_CONNECTIONS,
		SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
		SqlState::READ_ONLY_SQL_TRANSACTION,
		SqlState::T_R_SERIALIZATION_FAILURE,
		SqlState::T_R_DEADLOCK_DETECTED,
		SqlState::LOCK_NOT_AVAILABLE,
	];
	classes.iter().any(|class| code.code().starts_with(class)) || others.contains(code)
}

/// All that an error says; a password is in none of it.
pub(crate) fn text(e: &tokio_postgres::Error) -> String {
	let mut text = e.to_string();
	let mut source = std::error::Error::source(e);
	while let Some(inner) = source {
		let said = inner.to_string();
		if !text.contains(&said) {
			text = format!("{text}: {said}");
		}
		source = inner.source();
	}
	text
}
