//! What survives a power cut.
//!
//! One SQLite file behind LDK's [`KVStore`](lightning::util::persist::KVStore), BDK's persister ([`WalletStore`]) and
//! the LSP's [book](inlet_lsp::book). All changes, whoever makes them, stand in one queue in the order of the calls;
//! one thread writes them in batches, each batch one transaction and one sync. So what is on the disk is always a
//! prefix of what was asked for, and a future that has resolved is on the disk. `docs/store.md` says why.
//!
//! The file may be a database on a PostgreSQL server instead ([`PgOptions`]), for a node with a standby:
//! `docs/decisions/0003-postgresql.md`.
//!
//! Opens no socket but that server's, reads no clock but for its lease, holds no policy.

mod book;
mod db;
mod delta;
mod error;
mod export;
mod history;
mod inspect;
mod kv;
mod log;
mod migrate;
mod pg;
mod queue;
mod rare;
mod rebuild;
mod record;
mod room;
mod schema;
mod settle;
mod snapshot;
mod spawn;
mod stats;
mod store;
mod stream;
mod table;
mod values;
mod wallet;
mod writer;

#[cfg(test)]
mod tests;

pub use book::{MAX_CLIENTS_LOADED, MAX_LEDGER_LOADED, MAX_RECENT_LOADED};
pub use error::{OpenError, ReadError};
pub use history::{LedgerTotal, MAX_PAGE};
pub use inspect::Inspection;
pub use kv::{NODE_NAMESPACE, OnThisDisk};
pub use migrate::{MigrateError, Moved, Place, migrate};
pub use pg::{Lease, Patience, PgOptions, PgOptionsError};
pub use queue::{MAX_LAZY, QUEUE_ALARM_BYTES};
pub use rebuild::{Rebuild, RebuildError};
pub use room::{GIVE_UP_BELOW, Space, free_bytes};
pub use snapshot::{Piece, Snapshot};
pub use spawn::CallOrder;
pub use stats::{ByPurpose, Stats};
pub use store::{Store, abort};
pub use stream::{Changes, MAX_BEHIND, Tap};
pub use wallet::{COMPACT_ABOVE, WalletStore};
pub use writer::{CHECKPOINT_FRAMES, MAX_WAL_FRAMES};
