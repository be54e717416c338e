//! The ledger: what was earned and spent, what there is, and what each channel brought.

use super::Time;
use inlet_lsp::book::EntryKind;
use serde::{Deserialize, Serialize};

/// What an entry of the ledger is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LedgerKind {
	/// Opening fee of a just-in-time channel.
	JitFee,
	/// Fee of an ordered channel, client balance not included.
	OrderFee,
	/// A forwarded payment.
	RoutingFee,
	/// Miner fee of a funding transaction.
	FundingCost,
	/// Miner fee of a refund that the client did not bear.
	RefundCost,
	/// Payment for an order taken in that is not our fee: the balance that we push to the client.
	ClientBalance,
	/// A forwarded payment that earned nothing.
	Forward,
	/// What was there when the books were opened.
	Opening,
	/// The owner put coins in, or a peer gave us a balance.
	Deposit,
	/// The owner took coins out, the miner's fee included.
	Withdrawal,
	/// A client paid for an order.
	OrderPayment,
	/// A payment went back to a client.
	Refund,
	/// Coins became a channel.
	ChannelFunding,
	/// A closing transaction paid the wallet.
	ChannelClose,
	/// What a closing cost.
	CloseCost,
	/// Miner fee of what hurries a closing.
	BumpCost,
	/// Miner fee of bringing home what a closed channel left.
	SweepCost,
	/// Miner fee of a payment from the wallet to itself.
	ConsolidationCost,
	/// A payment to an invoice of the node's own.
	PaymentReceived,
	/// A payment of the node's own, with what its routing cost.
	PaymentSent,
	/// What was given and not paid for.
	Loss,
}

impl LedgerKind {
	/// Does it make the owner richer or poorer, rather than move money?
	pub fn is_profit(self) -> bool {
		EntryKind::from(self).is_profit()
	}
}

/// The core's kinds by the same names, both ways.
macro_rules! same_names {
	($($kind:ident)*) => {
		impl From<EntryKind> for LedgerKind {
			fn from(kind: EntryKind) -> LedgerKind {
				match kind {
					$(EntryKind::$kind => LedgerKind::$kind,)*
				}
			}
		}

		impl From<LedgerKind> for EntryKind {
			fn from(kind: LedgerKind) -> EntryKind {
				match kind {
					$(LedgerKind::$kind => EntryKind::$kind,)*
				}
			}
		}
	};
}

same_names! {
	JitFee OrderFee RoutingFee FundingCost RefundCost ClientBalance Forward Opening Deposit Withdrawal OrderPayment Refund
	ChannelFunding ChannelClose CloseCost BumpCost SweepCost ConsolidationCost PaymentReceived PaymentSent Loss
}

/// A page of the ledger. The totals are over all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ledger {
	/// Newest first.
	pub entries: Vec<LedgerEntry>,
	/// One for each kind that occurs.
	pub totals: Vec<LedgerTotal>,
	/// All fees less all costs; what only moves money is not in it.
	pub net_msat: i64,
	/// The cursor of the page that follows, `null` if this is the last.
	pub next: Option<String>,
	/// Where the entries begin, if old ones were folded; `null` if all are there.
	#[serde(default)]
	pub folded: Option<LedgerFolded>,
}

/// Entries that are gone (`ledger.keep_months`). All totals, reports and balances have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerFolded {
	/// Those with a smaller number.
	pub before_seq: u64,
	/// When the newest of them was.
	pub until: Time,
	/// The first month of which every entry is there, as `2026-03`.
	pub whole_from: String,
	/// What was in each account behind the last of them: what the entries that are left begin with. In the last page only.
	pub brought_forward: Vec<LedgerPosting>,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerEntry {
	/// Its number, counted from 0 without gaps.
	pub seq: u64,
	/// When.
	pub at: Time,
	/// What for.
	pub kind: LedgerKind,
	/// Positive: earned or come in. Negative: spent or gone.
	pub amount_msat: i64,
	/// With whom.
	pub client: Option<String>,
	/// The sale or order (or, for forwards and on-chain costs, the channel or transaction).
	pub reference: String,
	/// Which accounts it moves; they add up to zero. Entries from before the books were opened have none.
	#[serde(default)]
	pub postings: Vec<LedgerPosting>,
}

/// One side of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerPosting {
	/// Which account, as `assets:wallet`.
	pub account: String,
	/// Debit positive, credit negative.
	pub amount_msat: i64,
}

/// All entries of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerTotal {
	/// What for.
	pub kind: LedgerKind,
	/// How many.
	pub entries: u64,
	/// Their sum.
	pub amount_msat: i64,
}

/// How long to wait for what is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LedgerCheckRequest {
	/// So many seconds, at most [`MAX_CHECK_WAIT_SECS`]: payments that are just being settled are half booked for a moment.
	pub wait_secs: u64,
}

/// Longest wait of [`LedgerCheckRequest`].
pub const MAX_CHECK_WAIT_SECS: u64 = 60;

/// The books, compared with what LDK and BDK say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerCheck {
	/// Do they agree, to the millisatoshi?
	pub balanced: bool,
	/// The number of the next entry.
	pub entries: u64,
	/// All accounts together; zero unless there is a bug.
	pub sum_msat: i64,
	/// The wallet.
	pub wallet: LedgerComparison,
	/// Our side of the open channels.
	pub channels: LedgerComparison,
	/// Open channels that differ.
	pub differing: Vec<LedgerComparison>,
	/// Closed channels whose money is not all home, by the books: what that costs is known when it is.
	pub closing_msat: i64,
	/// HTLCs on their way. While one is being settled, it can be booked and not moved, or moved and not booked.
	pub htlcs_in_flight: u64,
	/// The entries before this one are known to agree with what was there then: a difference began later.
	pub agreed_before: u64,
	/// When that was; `null` if never.
	pub agreed_at: Option<Time>,
	/// Every account that is not zero.
	pub accounts: Vec<LedgerPosting>,
}

/// Two opinions on one amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerComparison {
	/// Of what.
	pub what: String,
	/// By the books.
	pub booked_msat: i64,
	/// By LDK or BDK.
	pub actual_msat: i64,
}

/// What a report has a line for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReportBy {
	/// Each client.
	#[default]
	Client,
	/// Each channel.
	Channel,
	/// Each tier of clients.
	Tier,
	/// Each month.
	Month,
}

/// Which report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LedgerReportRequest {
	/// What has a line.
	pub by: ReportBy,
}

/// What was earned, what it cost, and the capital that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerReport {
	/// The most profitable first; months, the newest first.
	pub lines: Vec<LedgerReportLine>,
	/// There were more channels than a report looks at; the oldest are left out.
	pub cut: bool,
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerReportLine {
	/// The client, channel, tier or month.
	pub name: String,
	/// How many channels.
	pub channels: u64,
	/// Fees.
	pub earned_msat: i64,
	/// Miners' fees and losses, as a positive number.
	pub cost_msat: i64,
	/// The one less the other.
	pub profit_msat: i64,
	/// What the quotes asked for the sales in it.
	pub quoted_msat: u64,
	/// What these sales were expected to cost when they were opened: opening, close, capital and the margin for risk. Zero for months.
	#[serde(default)]
	pub expected_cost_msat: u64,
	/// Our side of its channels times time, in satoshi-days.
	pub sat_days: Option<u64>,
	/// Profit on that capital in a year, in parts per million; `null` where there was none, and where its oldest channel was there
	/// (of a month: the books have seen) less than a week: an opening fee says nothing of a year.
	pub yearly_ppm: Option<i64>,
}
