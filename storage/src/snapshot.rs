//! A copy of all there is, made piece by piece while the store is in use.
//!
//! A piece is read in its turn in the queue and is small, so that nobody waits long for it. It is of its own moment, which
//! is told with it. The pieces, and the changes from the first piece's moment to the last one's, make the store as it was at
//! the last one's: a value is put as its piece has it, and the changes that are in it already are left out.

use crate::book::Row;
use crate::db::{Connection, params};
use crate::error::ReadError;
use crate::kv::Key;
use crate::queue::{Change, Sees};
use crate::store::Store;
use crate::stream::Stream;
use crate::wallet;

/// Bytes of a piece, about: what one question reads on the writer's thread.
const PIECE: usize = if cfg!(test) { 1 << 10 } else { 128 << 10 };
/// Rows of a piece at most.
const ROWS: i64 = 200;

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
	/// The number of the last change that it has.
	pub as_of: u64,
	/// For [`Rebuild::piece`](crate::Rebuild::piece).
	pub bytes: Vec<u8>,
}

/// A snapshot in the making.
#[derive(Debug)]
pub struct Snapshot {
	store: Store,
	/// The changes after this one are needed beside the pieces.
	pub base: u64,
	keys: std::vec::IntoIter<Key>,
	/// Where the book goes on: kind and id, after which; `None` when that is done.
	book: Option<(String, String)>,
	/// Where the ledger goes on.
	ledger: Option<i64>,
	wallet: bool,
}

impl Store {
	/// Begins a snapshot. It is of use only with a [`Tap`](crate::Tap): without the changes, its pieces do not fit together.
	///
	/// # Errors
	/// The store cannot be read.
	pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
		let asked = self.ask_values(Sees::Soon, |conn, values| {
			let keys = values.all_keys(conn)?.into_iter().filter(|key| !key.is_written_rarely());
			Ok((values.stream_last(), keys.collect::<Vec<_>>()))
		});
		let (base, keys) = asked.await?;
		let start = Some((String::new(), String::new()));
		Ok(Snapshot { store: self.clone(), base, keys: keys.into_iter(), book: start, ledger: Some(-1), wallet: true })
	}
}

impl Snapshot {
	/// The next piece; `None` when all is told.
	///
	/// # Errors
	/// The store cannot be read.
	pub async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
		if !self.keys.as_slice().is_empty() {
			return self.values().await.map(Some);
		}
		if let Some(after) = self.book.take() {
			return self.rows(after).await.map(Some);
		}
		if let Some(after) = self.ledger.take() {
			return self.entries(after).await.map(Some);
		}
		if std::mem::take(&mut self.wallet) {
			let asked = self.store.ask_values(Sees::Others, |conn, values| {
				let mut stream = Stream::default();
				if let Some((last, json)) = wallet::merged(conn)? {
					stream.change(&Change::WalletReplace(last, json));
				}
				Ok(Piece { as_of: values.stream_last(), bytes: stream.into_bytes() })
			});
			return asked.await.map(Some);
		}
		Ok(None)
	}

	async fn values(&mut self) -> Result<Piece, ReadError> {
		let keys = std::mem::take(&mut self.keys);
		let asked = self.store.ask_values(Sees::Soon, move |conn, values| {
			let (mut stream, mut keys) = (Stream::default(), keys);
			while stream.len() < PIECE
				&& let Some(key) = keys.next()
			{
				if let Some(value) = values.latest(conn, &key)? {
					stream.value(&key, &value);
				}
			}
			Ok((Piece { as_of: values.stream_last(), bytes: stream.into_bytes() }, keys))
		});
		let (piece, keys) = asked.await?;
		self.keys = keys;
		Ok(piece)
	}

	async fn rows(&mut self, after: (String, String)) -> Result<Piece, ReadError> {
		let asked = self.store.ask_values(Sees::Others, move |conn, values| {
			let mut stream = Stream::default();
			let rows = book_rows(conn, &after)?;
			// A page that is not full was the last: what is added meanwhile is among the changes.
			let next = rows.last().filter(|_| rows.len() == ROWS as usize).and_then(|row| match row {
				Row::Thing { kind, id, .. } => Some((kind.clone().into_owned(), id.clone())),
				Row::Entry { .. } | Row::Forget { .. } => None,
			});
			rows.iter().for_each(|row| stream.row(row));
			Ok((Piece { as_of: values.stream_last(), bytes: stream.into_bytes() }, next))
		});
		let (piece, next) = asked.await?;
		self.book = next;
		Ok(piece)
	}

	async fn entries(&mut self, after: i64) -> Result<Piece, ReadError> {
		let asked = self.store.ask_values(Sees::Others, move |conn, values| {
			let mut stream = Stream::default();
			let rows = ledger_rows(conn, after)?;
			let next = rows.last().filter(|_| rows.len() == ROWS as usize).and_then(|row| match row {
				Row::Entry { seq, .. } => Some(*seq),
				Row::Thing { .. } | Row::Forget { .. } => None,
			});
			rows.iter().for_each(|row| stream.row(row));
			Ok((Piece { as_of: values.stream_last(), bytes: stream.into_bytes() }, next))
		});
		let (piece, next) = asked.await?;
		self.ledger = next;
		Ok(piece)
	}
}

fn book_rows(conn: &Connection, after: &(String, String)) -> Result<Vec<Row>, ReadError> {
	let sql = "SELECT kind, id, at, live, json, crc FROM book WHERE (kind, id) > (?1, ?2) ORDER BY kind, id LIMIT ?3";
	let mut select = conn.prepare_cached(sql)?;
	let mut found = select.query(params![after.0, after.1, ROWS])?;
	let mut rows = Vec::new();
	while let Some(row) = found.next()? {
		let (kind, json): (String, String) = (row.get(0)?, row.get(4)?);
		sound(row.get(5)?, &json)?;
		let live = row.get::<_, i64>(3)? != 0;
		rows.push(Row::Thing { kind: kind.into(), id: row.get(1)?, at: row.get(2)?, live, json });
	}
	Ok(rows)
}

fn ledger_rows(conn: &Connection, after: i64) -> Result<Vec<Row>, ReadError> {
	let sql = "SELECT seq, kind, amount_msat, json, crc FROM ledger WHERE seq > ?1 ORDER BY seq LIMIT ?2";
	let mut select = conn.prepare_cached(sql)?;
	let mut found = select.query(params![after, ROWS])?;
	let mut rows = Vec::new();
	while let Some(row) = found.next()? {
		let json: String = row.get(3)?;
		sound(row.get(4)?, &json)?;
		rows.push(Row::Entry { seq: row.get(0)?, kind: row.get(1)?, amount_msat: row.get(2)?, json });
	}
	Ok(rows)
}

/// Nothing that is damaged gets into a copy.
fn sound(crc: u32, json: &str) -> Result<(), ReadError> {
	match crc32fast::hash(json.as_bytes()) == crc {
		true => Ok(()),
		false => Err(ReadError::Damaged("a row is not what was written".into())),
	}
}
