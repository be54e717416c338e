//! Whom we trust to pay for a channel, and when strangers have to wait.
//!
//! bLIP-52's default is that the LSP trusts the client: it pays for the funding transaction before it is paid. Whoever
//! we do not know could have us pay for channels without end (a probe is enough), so a stranger has to trust us
//! instead: its funding transaction is broadcast when it has taken the payment. See
//! `docs/decisions/0001-strangers-trust-us.md`.

use crate::admission::Refusal;
use crate::book::{Book, Client, NodeId, Sale, SaleState, push_bounded};
use crate::input::Action;
use crate::policy::{Policy, RiskPolicy, Trust};
use crate::time::Timestamp;
use crate::turn::Turn;
use serde::{Deserialize, Serialize};

/// How many offences a client's row keeps, newest last.
pub const MAX_OFFENCES_KEPT: usize = 16;

/// A channel that came to nothing through the client's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offence {
	/// When.
	pub at: Timestamp,
	/// In which way.
	pub kind: OffenceKind,
	/// Was its funding broadcast, so that we paid a miner for nothing?
	#[serde(default)]
	pub cost: bool,
}

impl Offence {
	/// May it cost the client its next channel? Anybody who has its invoice can have a client fail a payment: that
	/// counts only if it cost us something.
	fn counts(&self) -> bool {
		self.cost || self.kind != OffenceKind::Failed
	}
}

/// In which way a channel came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffenceKind {
	/// It was opened, and went away unpaid.
	Unpaid,
	/// The client refused it.
	Refused,
	/// The client failed the payment that it was opened for.
	Failed,
	/// The client held the payment until it timed out.
	Held,
}

impl OffenceKind {
	/// For people.
	pub fn text(self) -> &'static str {
		match self {
			OffenceKind::Unpaid => "a channel went away unpaid",
			OffenceKind::Refused => "it refused the channel",
			OffenceKind::Failed => "it failed the payment that the channel was for",
			OffenceKind::Held => "it held the payment until it timed out",
		}
	}
}

/// Is this client known: listed by the operator, or has it paid for a channel before, owes us nothing for another, and
/// has given no offence of late?
pub fn is_known(policy: &Policy, book: &Book, id: &NodeId, now: Timestamp) -> bool {
	let is_good = |client: &Client| has_paid(client) && recent_offences(&policy.risk, client, now) == 0;
	let owes = || book.live_sales().any(|sale| sale.client == *id && sale.state == SaleState::Owing);
	policy.lsps2.trusted_clients.contains(id) || (book.client(id).is_some_and(is_good) && !owes())
}

/// How many offences count against this client now, of those that its row keeps.
pub fn recent_offences(risk: &RiskPolicy, client: &Client, now: Timestamp) -> usize {
	let counts = |offence: &&Offence| offence.counts() && offence.at.plus_secs(risk.offence_window_secs) > now;
	client.offence_log.iter().filter(counts).count()
}

/// Until when strangers get no channel just in time: `risk.pause_secs` from the offence that was one too many within
/// `risk.offence_window_secs`; only those count that cost us something, or stopping us would be free. `None` while
/// there is no pause. It follows from the clients' rows, so that a restart does not end it.
pub fn paused_until(policy: &Policy, book: &Book, now: Timestamp) -> Option<Timestamp> {
	paused(&policy.risk, strangers_offences(policy, book), now)
}

/// The offences of those who never paid for a channel, newest first.
fn strangers_offences<'a>(policy: &'a Policy, book: &'a Book) -> impl Iterator<Item = Timestamp> + 'a {
	let is_stranger = |id: &NodeId| {
		!policy.lsps2.trusted_clients.contains(id) && book.client(id).is_none_or(|client| !has_paid(client))
	};
	book.offences().filter(move |(_, id)| is_stranger(id)).map(|(at, _)| at)
}

fn paused(risk: &RiskPolicy, newest_first: impl Iterator<Item = Timestamp>, now: Timestamp) -> Option<Timestamp> {
	let reach = risk.pause_secs.saturating_add(risk.offence_window_secs);
	let times: Vec<Timestamp> = newest_first.take_while(|at| at.plus_secs(reach) > now).collect();
	let before = usize::try_from(risk.max_offences).unwrap_or(usize::MAX).saturating_sub(1);
	let first = times.iter().skip(before);
	times
		.iter()
		.zip(first)
		.take_while(|(at, _)| at.plus_secs(risk.pause_secs) > now)
		.find(|(at, first)| first.plus_secs(risk.offence_window_secs) > **at)
		.map(|(at, _)| at.plus_secs(risk.pause_secs))
}

/// Has it ever paid for a channel?
pub(crate) fn has_paid(client: &Client) -> bool {
	client.sales_done > 0 || client.orders_done > 0
}

/// Does its tier say that we trust it? One that it has earned does not while it owes us, or gave offence of late.
fn is_trusted(turn: &Turn<'_>, id: &NodeId) -> bool {
	crate::tiers::here(turn, id).lsp_trusts
}

/// Must this client trust us with its next just-in-time channel? We trust nobody with two unpaid ones.
pub(crate) fn client_trusts(turn: &Turn<'_>, id: &NodeId) -> bool {
	let trusts_us_not = |sale: &Sale| sale.client == *id && sale.state.is_unpaid() && !sale.client_trusts;
	match turn.policy().lsps2.trust {
		Trust::Known => !is_trusted(turn, id) || turn.book.live_sales().any(trusts_us_not),
		Trust::Everyone => false,
		Trust::Nobody => true,
	}
}

/// May this client be sold a just-in-time channel at all now?
pub(crate) fn admit(turn: &Turn<'_>, id: &NodeId) -> Result<(), Refusal> {
	few_offences(turn, id)?;
	match paused_until(turn.policy(), turn.book, turn.now) {
		Some(until) if !is_known(turn.policy(), turn.book, id, turn.now) => Err(Refusal::Paused { until }),
		_ => Ok(()),
	}
}

/// May the channel of this sale be opened? A pause is for sales that can cost us something: not for those in which the
/// client trusts us.
pub(crate) fn admit_opening(turn: &Turn<'_>, sale: &Sale) -> Result<(), Refusal> {
	if sale.client_trusts { few_offences(turn, &sale.client) } else { admit(turn, &sale.client) }
}

fn few_offences(turn: &Turn<'_>, id: &NodeId) -> Result<(), Refusal> {
	let policy = turn.policy();
	if policy.lsps2.trusted_clients.contains(id) {
		return Ok(());
	}
	let count = turn.book.client(id).map_or(0, |client| recent_offences(&policy.risk, client, turn.now));
	let limit = policy.risk.max_offences_per_client;
	if count >= usize::try_from(limit).unwrap_or(usize::MAX) {
		return Err(Refusal::Offences { count, limit });
	}
	Ok(())
}

/// Records an offence with this sale; says so if it was one too many.
pub(crate) fn offend(turn: &mut Turn<'_>, sale: &Sale, kind: OffenceKind) {
	let id = &sale.client;
	let cost = sale.channel.as_ref().is_some_and(|channel| channel.funding.is_some() || channel.release);
	let mut client = turn.client(id);
	client.offences = client.offences.saturating_add(1);
	push_bounded(&mut client.offence_log, Offence { at: turn.now, kind, cost }, MAX_OFFENCES_KEPT);
	let is_stranger = !has_paid(&client) && !turn.policy().lsps2.trusted_clients.contains(id);
	turn.put_client(client);
	if !cost || !is_stranger || paused_until(turn.policy(), turn.book, turn.now).is_some() {
		return;
	}
	let newest_first = std::iter::once(turn.now).chain(strangers_offences(turn.policy(), turn.book));
	if let Some(until) = paused(&turn.policy().risk, newest_first, turn.now) {
		let limit = turn.policy().risk.max_offences;
		let text = format!(
			"{limit} just-in-time channels for strangers were opened for nothing: they get none until {until}, known clients still do"
		);
		turn.act(Action::Warn { code: "strangers_paused", text });
	}
}
