//! Which server, and how long a lease lasts.

use super::tls::Tls;
use crate::error::OpenError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};

/// The schema that everything is in, in the database that the URL names.
const SCHEMA: &str = "inlet";
/// A server that does not answer within this time is tried again, or the next one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A database on a PostgreSQL server. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct PgOptions {
	pub(super) config: Config,
	pub(super) tls: Tls,
	pub(super) schema: String,
	pub(super) lease: Duration,
}

/// What is wrong with the options.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PgOptionsError {
	/// The URL. What it says is not repeated: it may hold a password.
	#[error("{0}")]
	Url(String),
	/// The root certificates.
	#[error("{0}")]
	Roots(String),
}

impl PgOptions {
	/// From a URL (`postgresql://user:password@host/database`; several hosts with commas; a socket's directory as the
	/// parameter `host`). `roots`: PEM certificates that the server's must be signed by; if empty, the public ones.
	/// `lease`: how long a leader that is not heard of stays the leader.
	///
	/// TCP connections are under TLS, with the certificate verified, unless the URL says `sslmode=disable`.
	///
	/// # Errors
	/// See [`PgOptionsError`].
	pub fn new(url: &str, roots: &[u8], lease: Duration) -> Result<PgOptions, PgOptionsError> {
		let wrong = |what: &str| PgOptionsError::Url(what.to_owned());
		if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
			return Err(wrong("does not start with postgresql://"));
		}
		let mut config: Config = url.parse().map_err(|_| wrong("cannot be understood"))?;
		if config.get_hosts().is_empty() {
			return Err(wrong("names no host"));
		}
		if config.get_user().is_none() || config.get_dbname().is_none() {
			return Err(wrong("does not name the user and the database"));
		}
		let on_sockets = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
		if on_sockets {
			config.ssl_mode(SslMode::Disable);
		} else if config.get_ssl_mode() == SslMode::Prefer {
			config.ssl_mode(SslMode::Require);
		}
		config.application_name("inlet").connect_timeout(CONNECT_TIMEOUT.min(lease / 2));
		config.keepalives_idle(Duration::from_secs(5)).tcp_user_timeout(lease);
		let tls = Tls::new(roots).map_err(PgOptionsError::Roots)?;
		Ok(PgOptions { config, tls, schema: SCHEMA.to_owned(), lease })
	}

	/// The same database, another schema: a node of its own.
	#[cfg(all(test, postgres_here))]
	pub(crate) fn in_schema(&self, schema: &str) -> PgOptions {
		PgOptions { schema: schema.to_owned(), ..self.clone() }
	}

	/// The same with another lease.
	#[cfg(all(test, postgres_here))]
	pub(crate) fn with_lease(&self, lease: Duration) -> PgOptions {
		PgOptions { lease, ..self.clone() }
	}

	#[cfg(all(test, postgres_here))]
	pub(crate) fn schema(&self) -> &str {
		&self.schema
	}

	/// Where the server is: the names or addresses by which it is reached over TCP.
	pub fn hosts(&self) -> Vec<String> {
		let named = self.config.get_hosts().iter().zip(0..);
		let tcp = named.filter_map(|(host, at)| match host {
			// An address next to a name is what is connected to.
			Host::Tcp(name) => {
				Some(self.config.get_hostaddrs().get::<usize>(at).map_or_else(|| name.clone(), ToString::to_string))
			}
			Host::Unix(_) => None,
		});
		tcp.collect()
	}

	/// What stands for the file's path in errors.
	pub(crate) fn place(&self) -> PathBuf {
		PathBuf::from(self.to_string())
	}

	pub(crate) fn unusable(&self, why: impl Into<String>) -> OpenError {
		OpenError::Database { place: self.to_string(), why: why.into() }
	}

	/// Connects, and spawns what drives the connection on the current runtime.
	pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
		let (client, connection) = self.config.connect(self.tls.clone()).await?;
		// It ends with the client, or with an error that the client's next request tells of.
		tokio::spawn(async move { drop(connection.await) });
		let half = (self.lease / 2).as_millis();
		// A leader that vanishes must not keep the lease's row locked. A name of ours needs no escape.
		client
			.batch_execute(&format!(
				"SET search_path = {}; SET default_transaction_isolation = 'read committed';
				SET idle_in_transaction_session_timeout = {half}; SET tcp_keepalives_idle = 2;
				SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; SET client_min_messages = warning",
				self.schema
			))
			.await?;
		Ok(client)
	}
}

impl fmt::Display for PgOptions {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "the database {} at ", self.config.get_dbname().unwrap_or_default())?;
		let ports = self.config.get_ports();
		for (i, host) in self.config.get_hosts().iter().enumerate() {
			let comma = if i > 0 { ", " } else { "" };
			match host {
				Host::Tcp(name) => write!(f, "{comma}{name}")?,
				Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
			}
			if let Some(port) = ports.get(i).or(ports.first()).filter(|port| **port != 5432) {
				write!(f, ":{port}")?;
			}
		}
		Ok(())
	}
}

impl fmt::Debug for PgOptions {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "PgOptions({self})")
	}
}

/// Two of them are the same if they name the same database in the same way.
impl PartialEq for PgOptions {
	fn eq(&self, other: &PgOptions) -> bool {
		(&self.config, &self.schema, self.lease) == (&other.config, &other.schema, other.lease)
	}
}
