//! The double-entry side of the ledger: accounts, what moved between them, and the sums that outlive the entries.

use super::{EntryKind, NodeId, months};
use crate::money::{Msat, Sat};
use crate::time::Timestamp;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{OutPoint, Txid};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Where money is, where it came from, or where it went. Debits (what is ours, what was spent) are positive, credits
/// (what is owed, what was earned, what the owner put in) negative: all accounts together are zero, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
	/// The on-chain wallet, unconfirmed transactions included.
	Wallet,
	/// Our side of one channel, until the last of it is back in the wallet.
	Channel([u8; 32]),
	/// Our side of all channels: what the sums of a month have instead of [`Account::Channel`].
	Channels,
	/// Payments of our own of which it is not told yet which channels they went over: negative while that is so.
	Unassigned,
	/// Miners' fees of fundings that are made and not known to be out.
	Pending,
	/// What channels that are not delivered yet give to their client at opening.
	Pushed,
	/// What clients paid for orders that are not delivered, or that has to go back.
	Orders,
	/// What clients paid for the balance that is pushed to them.
	ClientBalances,
	/// Opening fees taken from payments, of which not all has arrived.
	Skims,
	/// Opening fees of just-in-time channels.
	JitFees,
	/// Fees of ordered channels: opening and lease.
	OrderFees,
	/// Fees of forwarded payments.
	RoutingFees,
	/// What was there when the books were opened.
	Opening,
	/// What the owner put in.
	Deposits,
	/// What the owner took out.
	Withdrawals,
	/// Payments to the node's own invoices.
	Received,
	/// Payments that the node made.
	Sent,
	/// What others got for routing those.
	RoutingPaid,
	/// Miners' fees of openings.
	MinerOpen,
	/// What closing channels cost: miners' fees, anchors, fractions of a satoshi, what was too small to claim.
	MinerClose,
	/// Miners' fees of what hurries a closing.
	MinerBump,
	/// Miners' fees of bringing home what closed channels left.
	MinerSweep,
	/// Miners' fees of payments from the wallet to itself.
	MinerConsolidation,
	/// What we bear of the miners' fees of refunds.
	MinerRefund,
	/// Miners' fees of what the owner took out.
	MinerWithdrawal,
	/// Given, and not paid for.
	Losses,
}

/// Names, as programs for accounts want them.
const NAMES: [(Account, &str); 25] = [
	(Account::Wallet, "assets:wallet"),
	(Account::Channels, "assets:channels"),
	(Account::Unassigned, "assets:channels:unassigned"),
	(Account::Pending, "assets:pending:fees"),
	(Account::Pushed, "assets:pending:pushed"),
	(Account::Orders, "liabilities:orders"),
	(Account::ClientBalances, "liabilities:client-balances"),
	(Account::Skims, "liabilities:skims"),
	(Account::JitFees, "income:jit"),
	(Account::OrderFees, "income:orders"),
	(Account::RoutingFees, "income:routing"),
	(Account::Opening, "equity:opening"),
	(Account::Deposits, "equity:deposits"),
	(Account::Withdrawals, "equity:withdrawals"),
	(Account::Received, "equity:received"),
	(Account::Sent, "equity:sent"),
	(Account::RoutingPaid, "expenses:routing"),
	(Account::MinerOpen, "expenses:mining:open"),
	(Account::MinerClose, "expenses:mining:close"),
	(Account::MinerBump, "expenses:mining:bump"),
	(Account::MinerSweep, "expenses:mining:sweep"),
	(Account::MinerConsolidation, "expenses:mining:consolidation"),
	(Account::MinerRefund, "expenses:mining:refund"),
	(Account::MinerWithdrawal, "expenses:mining:withdrawal"),
	(Account::Losses, "expenses:losses"),
];
const OF_CHANNEL: &str = "assets:channels:id:";

impl fmt::Display for Account {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Account::Channel(id) => write!(f, "{OF_CHANNEL}{}", id.to_lower_hex_string()),
			other => f.write_str(NAMES.iter().find(|(known, _)| known == other).map_or("", |(_, name)| name)),
		}
	}
}

/// It is not the name of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAccount(String);

impl fmt::Display for NoAccount {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{} is no account", self.0)
	}
}

impl std::error::Error for NoAccount {}

impl FromStr for Account {
	type Err = NoAccount;

	fn from_str(text: &str) -> Result<Account, NoAccount> {
		let unknown = || NoAccount(text.to_owned());
		match text.strip_prefix(OF_CHANNEL) {
			Some(id) => FromHex::from_hex(id).map(Account::Channel).map_err(|_| unknown()),
			None => NAMES.iter().find(|(_, name)| *name == text).map(|(account, _)| *account).ok_or_else(unknown),
		}
	}
}

impl Serialize for Account {
	fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
		serializer.collect_str(self)
	}
}

impl<'de> Deserialize<'de> for Account {
	fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Account, D::Error> {
		String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
	}
}

impl Account {
	/// The same without the name of the channel.
	pub fn collapsed(self) -> Account {
		if let Account::Channel(_) = self { Account::Channels } else { self }
	}
}

/// One side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
	/// Which account.
	pub account: Account,
	/// Debit positive, credit negative, in millisatoshis.
	pub msat: i64,
}

/// What the books keep beside the entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum BooksRow {
	/// How far the books are.
	State(BooksState),
	/// A month's sums.
	Month(MonthSums),
	/// A channel's, or a client's without a channel.
	Channel(ChannelSums),
	/// A transaction of the wallet that is not final.
	Tx(BookedTx),
	/// What the entries added up to that are gone.
	Folded(Folded),
}

/// How far the books are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BooksState {
	/// When the books were opened.
	pub opened_at: Timestamp,
	/// The wallet's transactions are booked up to this height, see [`FINAL_AFTER`].
	pub height: u32,
	/// The number that the entry after the last one had when the books were last compared with LDK's and BDK's balances
	/// and agreed.
	#[serde(default)]
	pub agreed_before: u64,
	/// When that was.
	#[serde(default)]
	pub agreed_at: Timestamp,
}

/// So many blocks below [`BooksState::height`] a transaction is final: it is booked, and nobody asks for it again.
pub const FINAL_AFTER: u32 = 144;

/// So many earlier funding outputs of a channel are known.
pub const MAX_FUNDINGS_KEPT: usize = 8;

/// The closing totals of the entries that were [folded](crate::ledger::Fact::Oldest): what they added up to. What they
/// meant for a month, a channel and a client was added up when they were made, in [`MonthSums`] and [`ChannelSums`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Folded {
	/// Entries with a smaller number are gone.
	pub before: u64,
	/// When the newest of them was.
	pub until: Timestamp,
	/// How many of each kind, and their sum.
	pub kinds: BTreeMap<EntryKind, (u64, i64)>,
	/// What was in each account, channel by channel, behind the last of them; without those that were empty.
	pub accounts: BTreeMap<Account, i64>,
}

impl Folded {
	/// The first month of which no entry is gone, `2026-03`.
	pub fn whole_from(&self) -> String {
		months::month_of(months::next_month(self.until))
	}
}

/// What moved in a month.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MonthSums {
	/// `2026-11`, UTC.
	pub month: String,
	/// How many entries.
	pub entries: u64,
	/// By account, [collapsed](Account::collapsed).
	pub accounts: BTreeMap<Account, i64>,
	/// By kind of entry.
	pub kinds: BTreeMap<EntryKind, i64>,
	/// The capital that was in channels, in satoshi-seconds, as far as it is known from channels that moved since.
	#[serde(default)]
	pub sat_secs: u64,
}

/// What a channel earned and cost, for ever; or what a client did that belongs to no channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelSums {
	/// `channel:` and LDK's channel id, or `client:` and the node id.
	pub key: String,
	/// Its peer.
	#[serde(default)]
	pub client: Option<NodeId>,
	/// The sale or order that it was opened for.
	#[serde(default)]
	pub sold_as: Option<String>,
	/// The client's tier when it was sold.
	#[serde(default)]
	pub tier: Option<String>,
	/// What it was sold for, by the quote.
	#[serde(default)]
	pub quoted: Option<Msat>,
	/// What it was expected to cost when it was opened: opening, close, capital and the margin for risk.
	#[serde(default)]
	pub expected: Option<Msat>,
	/// Its size.
	#[serde(default)]
	pub capacity: Sat,
	/// Its funding output.
	#[serde(default)]
	pub funding: Option<OutPoint>,
	/// The funding outputs that it had before it was made larger, or may have again, newest last, at most
	/// [`MAX_FUNDINGS_KEPT`].
	#[serde(default, skip_serializing_if = "<[_]>::is_empty")]
	pub earlier_fundings: Box<[OutPoint]>,
	/// First entry.
	pub opened_at: Timestamp,
	/// LDK has it no more.
	#[serde(default)]
	pub closed_at: Option<Timestamp>,
	/// The last of it is home.
	#[serde(default)]
	pub settled_at: Option<Timestamp>,
	/// A payment over it was settled last.
	#[serde(default)]
	pub used_at: Option<Timestamp>,
	/// What the reclaimer did about it.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub reclaiming: Option<Box<Reclaiming>>,
	/// Our side.
	pub balance_msat: i64,
	/// When `balance_msat` became what it is.
	pub since: Timestamp,
	/// Our side times time until `since`, in satoshi-seconds: the capital that was in it.
	#[serde(default)]
	pub sat_secs: u64,
	/// By kind of entry.
	pub kinds: BTreeMap<EntryKind, i64>,
}

/// How far the [reclaimer](crate::reclaim) is with a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reclaiming {
	/// Its client was told that we want the capital back. Void if it was used since.
	#[serde(default)]
	pub told_at: Option<Timestamp>,
	/// The last notice about it.
	#[serde(default)]
	pub called_at: Option<Timestamp>,
	/// It was to be closed.
	#[serde(default)]
	pub closed_at: Option<Timestamp>,
}

/// A transaction of the wallet that a reorganisation, or a conflicting one, can still take away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BookedTx {
	/// Which.
	pub txid: Txid,
	/// When it was booked.
	pub at: Timestamp,
	/// As what.
	pub kind: EntryKind,
	/// With which amount.
	pub amount_msat: i64,
	/// With whom.
	#[serde(default)]
	pub client: Option<NodeId>,
	/// What moved; taken back if the transaction goes away.
	pub postings: Vec<Posting>,
	/// In which block it is.
	#[serde(default)]
	pub height: Option<u32>,
	/// It is not in the wallet any more, and was taken back.
	#[serde(default)]
	pub gone: bool,
	/// It is final.
	#[serde(default)]
	pub done: bool,
}

impl ChannelSums {
	/// A row without anything in it.
	pub fn new(key: String, now: Timestamp) -> ChannelSums {
		ChannelSums {
			key,
			client: None,
			sold_as: None,
			tier: None,
			quoted: None,
			expected: None,
			capacity: Sat::ZERO,
			funding: None,
			earlier_fundings: Box::default(),
			opened_at: now,
			closed_at: None,
			settled_at: None,
			used_at: None,
			reclaiming: None,
			balance_msat: 0,
			since: now,
			sat_secs: 0,
			kinds: BTreeMap::new(),
		}
	}

	/// It is, or will be, funded by this output. Until that is certain, the one before it may be spent too.
	pub(crate) fn fund_with(&mut self, funding: OutPoint) {
		let before = self.funding.replace(funding).filter(|before| *before != funding);
		let mut earlier = std::mem::take(&mut self.earlier_fundings).into_vec();
		earlier.retain(|earlier| *earlier != funding);
		if let Some(before) = before {
			super::push_bounded(&mut earlier, before, MAX_FUNDINGS_KEPT);
		}
		self.earlier_fundings = earlier.into();
	}

	fn fundings(&self) -> impl Iterator<Item = &OutPoint> {
		self.earlier_fundings.iter().chain(&self.funding)
	}

	/// The key of a channel's row.
	pub fn key_of(channel: &[u8; 32]) -> String {
		format!("channel:{}", channel.to_lower_hex_string())
	}

	/// LDK's channel id, if it is a channel's row.
	pub fn channel_id(&self) -> Option<[u8; 32]> {
		FromHex::from_hex(self.key.strip_prefix("channel:")?).ok()
	}

	/// What it earned less what it cost.
	pub fn profit_msat(&self) -> i64 {
		self.kinds.iter().filter(|(kind, _)| kind.is_profit()).fold(0, |sum, (_, msat)| sum.saturating_add(*msat))
	}

	/// What it cost on the chain so far, as a positive number.
	pub fn cost_msat(&self) -> i64 {
		self.kinds.iter().filter(|(kind, _)| kind.is_cost()).fold(0i64, |sum, (_, msat)| sum.saturating_sub(*msat))
	}

	/// The capital that was in it until `now`, in satoshi-days, rounded down.
	pub fn sat_days(&self, now: Timestamp) -> u64 {
		let secs = now.0.saturating_sub(self.since.0) / 1000;
		let balance = u64::try_from(self.balance_msat / 1000).unwrap_or(0);
		self.sat_secs.saturating_add(balance.saturating_mul(secs)) / 86_400
	}

	/// What was in it since it moved last, in satoshi-seconds by month.
	pub(super) fn since_last(&self, now: Timestamp) -> Vec<(String, u64)> {
		let balance = u64::try_from(self.balance_msat / 1000).unwrap_or(0);
		let by_month = months::split(self.since, now).into_iter();
		by_month.map(|(month, secs)| (month, balance.saturating_mul(secs))).collect()
	}

	/// Takes a change of our side into account. Gives what was in it before, in satoshi-seconds by month.
	pub(crate) fn move_balance(&mut self, msat: i64, now: Timestamp) -> Vec<(String, u64)> {
		let before = self.since_last(now);
		self.sat_secs = before.iter().fold(self.sat_secs, |sum, (_, sat_secs)| sum.saturating_add(*sat_secs));
		self.balance_msat = self.balance_msat.saturating_add(msat);
		self.since = now;
		before
	}
}

impl BooksRow {
	/// What names the row.
	pub fn key(&self) -> String {
		match self {
			BooksRow::State(_) => "state".to_owned(),
			BooksRow::Month(month) => format!("month:{}", month.month),
			BooksRow::Channel(sums) => sums.key.clone(),
			BooksRow::Tx(tx) => format!("tx:{}", tx.txid),
			BooksRow::Folded(_) => "folded".to_owned(),
		}
	}

	/// When it began.
	pub fn at(&self) -> Timestamp {
		match self {
			BooksRow::State(state) => state.opened_at,
			BooksRow::Month(_) | BooksRow::Folded(_) => Timestamp(0),
			BooksRow::Channel(sums) => sums.opened_at,
			BooksRow::Tx(tx) => tx.at,
		}
	}

	/// Is it loaded at every start?
	pub fn is_live(&self) -> bool {
		match self {
			BooksRow::State(_) | BooksRow::Month(_) | BooksRow::Folded(_) => true,
			BooksRow::Channel(sums) => sums.settled_at.is_none(),
			BooksRow::Tx(tx) => !tx.done && !tx.gone,
		}
	}
}

/// The books in memory: sums by month, channels whose money is not all home, transactions that are not final.
#[derive(Clone, Debug, Default)]
pub struct Books {
	pub(crate) state: Option<BooksState>,
	pub(crate) months: BTreeMap<String, MonthSums>,
	pub(crate) channels: BTreeMap<String, ChannelSums>,
	pub(crate) txs: BTreeMap<Txid, BookedTx>,
	folded: Option<Folded>,
	/// Channels by their funding outputs.
	fundings: BTreeMap<OutPoint, String>,
}

impl Books {
	/// How far the books are; `None` until they are opened.
	pub fn state(&self) -> Option<&BooksState> {
		self.state.as_ref()
	}

	/// What the entries added up to that are gone; `None` while all are there.
	pub fn folded(&self) -> Option<&Folded> {
		self.folded.as_ref()
	}

	/// The sums of each month, oldest first.
	pub fn months(&self) -> impl DoubleEndedIterator<Item = &MonthSums> {
		self.months.values()
	}

	/// Channels whose money is not all home, and clients with entries that belong to no channel.
	pub fn channels(&self) -> impl Iterator<Item = &ChannelSums> {
		self.channels.values()
	}

	/// One channel of those.
	pub fn channel(&self, id: &[u8; 32]) -> Option<&ChannelSums> {
		self.channels.get(&ChannelSums::key_of(id))
	}

	/// The channel of this funding output, of those.
	pub fn channel_of_funding(&self, funding: &OutPoint) -> Option<&ChannelSums> {
		self.channels.get(self.fundings.get(funding)?)
	}

	/// Transactions that are booked and not final.
	pub fn txs(&self) -> &BTreeMap<Txid, BookedTx> {
		&self.txs
	}

	/// An account's balance; of [`Account::Channel`], while its money is not all home.
	pub fn balance(&self, account: Account) -> i64 {
		if let Account::Channel(id) = account {
			return self.channel(&id).map_or(0, |sums| sums.balance_msat);
		}
		let months = self.months.values().filter_map(|month| month.accounts.get(&account));
		months.fold(0, |sum, msat| sum.saturating_add(*msat))
	}

	/// All accounts, [collapsed](Account::collapsed), that are not zero.
	pub fn balances(&self) -> BTreeMap<Account, i64> {
		let mut sums: BTreeMap<Account, i64> = BTreeMap::new();
		for (account, msat) in self.months.values().flat_map(|month| &month.accounts) {
			let sum = sums.entry(*account).or_default();
			*sum = sum.saturating_add(*msat);
		}
		sums.retain(|_, msat| *msat != 0);
		sums
	}

	/// Is this row in the books, just like this?
	pub(crate) fn has(&self, row: &BooksRow) -> bool {
		match row {
			BooksRow::State(state) => self.state.as_ref() == Some(state),
			BooksRow::Month(month) => self.months.get(&month.month) == Some(month),
			BooksRow::Channel(sums) => self.channels.get(&sums.key) == Some(sums),
			BooksRow::Tx(tx) => self.txs.get(&tx.txid) == Some(tx),
			BooksRow::Folded(folded) => self.folded.as_ref() == Some(folded),
		}
	}

	pub(crate) fn apply(&mut self, row: BooksRow) {
		match row {
			BooksRow::State(state) => self.state = Some(state),
			BooksRow::Month(month) => drop(self.months.insert(month.month.clone(), month)),
			BooksRow::Channel(sums) => {
				if let Some(old) = self.channels.remove(&sums.key) {
					for funding in old.fundings() {
						self.fundings.remove(funding);
					}
				}
				if sums.settled_at.is_none() {
					for funding in sums.fundings() {
						self.fundings.insert(*funding, sums.key.clone());
					}
					self.channels.insert(sums.key.clone(), sums);
				}
			}
			BooksRow::Tx(tx) if tx.done || tx.gone => drop(self.txs.remove(&tx.txid)),
			BooksRow::Tx(tx) => drop(self.txs.insert(tx.txid, tx)),
			BooksRow::Folded(folded) => self.folded = Some(folded),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn every_account_is_read_back_by_its_name() {
		for account in NAMES.iter().map(|(account, _)| *account).chain([Account::Channel([7; 32])]) {
			assert_eq!(account.to_string().parse(), Ok(account));
		}
		assert!("assets:walle".parse::<Account>().is_err());
	}
}
