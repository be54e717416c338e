//! The store on PostgreSQL: the same queue, writer, log of values and SQL as on SQLite, with the rows on a server.
//!
//! What is different: a server can be reached by two nodes, and a connection can break in the middle of a commit. So
//! each transaction first changes the one row of `lease` ([`lease`]): it locks it, compares the leader's number, and
//! counts the transactions. Who is no longer the leader writes nothing, and who lost a connection reads there whether
//! its last transaction is in the database. `docs/decisions/0003-postgresql.md` has the reasons.

mod error;
mod lease;
mod options;
mod schema;
mod session;
mod tls;

pub(crate) use error::Error;
pub use lease::{Lease, Patience};
pub use options::{PgOptions, PgOptionsError};
pub(crate) use session::{PgRow, Session};
