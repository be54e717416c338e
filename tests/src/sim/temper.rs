//! What kind of a world a seed makes: each is calm in some ways and wild in others, so that the rare meets the rare.

use super::rng::Rng;
use inlet_lsp::Policy;
use inlet_lsp::money::Sat;
use inlet_lsp::policy::Trust;

/// How often things happen, and go wrong. In percent where nothing else is said.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
	pub clients: usize,
	/// Milliseconds between two things that a client does.
	pub client_pace: u64,
	/// Crashes in a million steps.
	pub crash_ppm: u32,
	/// Disconnects, each time a client could do something.
	pub flaky: u32,
	pub refuses_channel: u32,
	pub stalls_channel: u32,
	pub denies_payment: u32,
	/// Takes one part and fails the others.
	pub takes_partly: u32,
	pub splits: u32,
	/// Payments whose parts do not add up, come late, or expire soon.
	pub odd_payment: u32,
	pub garbage: u32,
	pub orders: u32,
	pub pays_onchain: u32,
	/// Clients that register a webhook, each time they could do something.
	pub webhooks: u32,
	/// Payments to channels that clients have, each time that one is taken over such a channel, or missed.
	pub channel_payments: u32,
	/// Blocks that reorganise.
	pub reorg: u32,
	pub double_spend: u32,
	/// Refunds as they were sent first, each block; those with a higher fee are mined as everything is.
	pub refund_mined: u32,
	pub closes_channel: u32,
	/// Times that the chain backend does not take an order's funding.
	pub refuses_funding: u32,
	/// Fundings of orders of which the chain backend says nothing for long.
	pub silent_backend: u32,
	/// Channels signed for shortly before a crash of which LDK has no record after it.
	pub loses_record: u32,
	/// HTLCs on a withheld channel whose preimage is told after the channel's end.
	pub last_words: u32,
	/// LDK's own troubles: no invoice, no channel at this moment, another channel than the one we chose.
	pub ldk_trouble: u32,
	/// Milliseconds until LDK's state is on the disk.
	pub save_lag: u64,
	/// Milliseconds for one step of opening a channel.
	pub open_pace: u64,
	/// Satoshis for 1000 weight units, when nothing happens.
	pub feerate: u64,
	pub fee_spike: u32,
	pub no_estimate: u32,
	pub coins: u64,
	pub coin_sat: u64,
	pub policy: Policy,
}

impl Temper {
	pub(crate) fn of(rng: &mut Rng) -> Temper {
		let mut policy = Policy::default();
		policy.lsps1.max_unconfirmed_order_sat = Sat(rng.pick(&[0, 0, 0, 100_000]));
		policy.lsps1.onchain_confirmations = rng.pick(&[1_u16, 1, 2, 3]);
		policy.lsps1.open_window_secs = rng.pick(&[1800, 300]);
		policy.lsps1.payment_window_secs = rng.pick(&[3600, 900]);
		policy.risk.max_open_total = rng.pick(&[1_000, 1_000, 20]);
		policy.risk.max_open_sales_per_client = rng.pick(&[10, 2]);
		policy.risk.max_open_orders_per_client = rng.pick(&[5, 1]);
		policy.lsps1.preflight = rng.percent(70);
		policy.lsps2.trust = rng.pick(&[Trust::Known, Trust::Known, Trust::Everyone, Trust::Nobody]);
		(policy.risk.max_offences, policy.risk.max_offences_per_client) = rng.pick(&[(1_000, 16), (20, 5)]);
		policy.risk.max_parts = rng.pick(&[30, 30, 4]);
		Temper {
			clients: rng.pick(&[2, 5, 20, 80, 300]),
			client_pace: rng.pick(&[5_000, 20_000, 60_000]),
			crash_ppm: rng.pick(&[0, 500, 3_000, 20_000]),
			flaky: rng.pick(&[0, 2, 10, 30]),
			refuses_channel: rng.pick(&[0, 2, 20]),
			stalls_channel: rng.pick(&[0, 2, 20]),
			denies_payment: rng.pick(&[0, 5, 30]),
			takes_partly: rng.pick(&[0, 0, 10]),
			splits: rng.pick(&[0, 30, 80]),
			odd_payment: rng.pick(&[0, 10, 40]),
			garbage: rng.pick(&[0, 2, 20]),
			orders: rng.pick(&[0, 20, 50, 90]),
			webhooks: rng.pick(&[0, 5, 20]),
			channel_payments: rng.pick(&[0, 50, 90]),
			pays_onchain: rng.pick(&[0, 30, 90]),
			reorg: rng.pick(&[0, 0, 5, 30]),
			refund_mined: rng.pick(&[80, 3]),
			double_spend: rng.pick(&[0, 5, 30]),
			closes_channel: rng.pick(&[0, 1, 10]),
			refuses_funding: rng.pick(&[0, 0, 5, 60]),
			silent_backend: rng.pick(&[0, 0, 2, 20]),
			loses_record: rng.pick(&[0, 50]),
			last_words: rng.pick(&[0, 50]),
			ldk_trouble: rng.pick(&[0, 1, 10]),
			save_lag: rng.pick(&[10, 500, 5_000]),
			open_pace: rng.pick(&[100, 1_000, 8_000]),
			feerate: rng.pick(&[253, 1_000, 5_000, 20_000]),
			fee_spike: rng.pick(&[0, 5, 20]),
			no_estimate: rng.pick(&[0, 2, 10]),
			coins: rng.pick(&[1, 5, 40]),
			coin_sat: rng.pick(&[400_000, 3_000_000, 20_000_000]),
			policy,
		}
	}

	/// A world that leaves all to whoever feeds it: a few clients, and no trouble but what it is told.
	pub(crate) fn fed(rng: &mut Rng) -> Temper {
		let mut temper = Temper::of(rng);
		temper.calm();
		temper.clients = 3;
		(temper.flaky, temper.garbage, temper.orders) = (0, 0, 0);
		(temper.refuses_channel, temper.stalls_channel) = (10, 10);
		(temper.denies_payment, temper.splits, temper.odd_payment) = (20, 50, 20);
		(temper.coins, temper.coin_sat, temper.open_pace) = (5, 3_000_000, 1_000);
		(temper.policy.risk.max_open_total, temper.policy.risk.max_open_sales_per_client) = (1_000, 10);
		temper
	}

	/// Nobody does anything any more, and nothing goes wrong.
	pub(crate) fn calm(&mut self) {
		self.crash_ppm = 0;
		self.reorg = 0;
		self.double_spend = 0;
		self.closes_channel = 0;
		self.refuses_funding = 0;
		self.silent_backend = 0;
		self.ldk_trouble = 0;
		self.fee_spike = 0;
		self.no_estimate = 0;
		self.feerate = 500;
	}
}
