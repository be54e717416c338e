//! Channels as the reclaimer sees them, and what it does with them.

use super::Hands;
use super::books::ours;
use crate::driver::{Driver, now};
use crate::lightning::splice::waits_for_splice;
use crate::stop::stopped;
use bitcoin::Network;
use inlet_lsp::book::NodeId;
use inlet_lsp::capital::Holding;
use inlet_lsp::input::Input;
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::policy::CapitalPolicy;
use inlet_lsp::reclaim::{self, CLIENT_AWAY, Verdict};
use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState};
use lightning::ln::types::ChannelId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks at all channels,
const EVERY: Duration = Duration::from_secs(60);
/// ... and on a private regtest.
const EVERY_ON_REGTEST: Duration = Duration::from_secs(4);
/// Between two looks for clients that are waited for: a phone that was woken is here for half a minute.
const ATTEND: Duration = Duration::from_secs(2);

impl Hands {
	/// All channels that have a funding.
	pub fn holdings(&self, driver: &Driver) -> Vec<Holding> {
		let (height, at) = (self.tip.borrow().height, now());
		let channels = self.lightning.manager.list_channels();
		let funded = channels.iter().filter(|channel| channel.funding_txo.is_some());
		let holding = |channel: &ChannelDetails| {
			let (id, ours) = (channel.channel_id.0, ours(channel));
			let (sums, lease) = driver.read(|book| (book.books().channel(&id).cloned(), book.lease(&id)));
			Holding {
				channel_id: id,
				client: channel.counterparty.node_id,
				capacity: Sat(channel.channel_value_satoshis),
				ours,
				theirs: Msat(channel.channel_value_satoshis.saturating_mul(1_000).saturating_sub(ours.0)),
				opened_by_us: channel.is_outbound,
				public: channel.is_announced,
				connected: channel.is_usable,
				closing: !matches!(channel.channel_shutdown_state, None | Some(ChannelShutdownState::NotShuttingDown)),
				in_flight: channel.pending_inbound_htlcs.len() + channel.pending_outbound_htlcs.len(),
				lease_left: lease.map_or(0, |lease| lease.blocks_left(height, at)),
				opened_at: sums.as_ref().map_or(at, |sums| sums.opened_at),
				used_at: sums.as_ref().and_then(|sums| sums.used_at),
				told_at: sums.as_ref().and_then(reclaim::told),
			}
		};
		funded.map(holding).collect()
	}

	/// Shows the core its channels every minute, and at once when a client is here that a closing waits for, until `stop`.
	pub async fn reclaim(self: Arc<Self>, driver: Driver, policy: CapitalPolicy, mut stop: watch::Receiver<bool>) {
		if !policy.reclaim {
			return stopped(&mut stop).await;
		}
		let every = if self.network == Network::Regtest { EVERY_ON_REGTEST } else { EVERY };
		let (mut due, mut away) = (Instant::now() + every, BTreeSet::new());
		loop {
			tokio::select! {
				() = stopped(&mut stop) => return,
				() = tokio::time::sleep(ATTEND) => {},
			}
			if Instant::now() < due && !away.iter().any(|client| self.has_usable(client)) {
				continue;
			}
			due = Instant::now() + every;
			let (holdings, feerate) = (self.holdings(&driver), self.fees.fresh());
			let waits = |held: &&Holding| reclaim::verdict(&policy, feerate, held, now()) == Verdict::Wait(CLIENT_AWAY);
			away = holdings.iter().filter(waits).map(|held| held.client).collect();
			// When we are stopping, what is idle now is idle after the start.
			let _ = driver.submit(Input::Holdings { holdings, asked: false }).await;
		}
	}

	fn has_usable(&self, client: &NodeId) -> bool {
		self.lightning.wire.is_connected(client)
			&& self.lightning.manager.list_channels_with_counterparty(client).iter().any(|channel| channel.is_usable)
	}

	/// Begins to close a channel. What is refused is asked for again by the core.
	pub(super) fn close_together(&self, channel_id: [u8; 32], peer: NodeId, feerate: FeePerKw) {
		let (manager, id) = (&self.lightning.manager, ChannelId(channel_id));
		if waits_for_splice(&manager.list_channels_with_counterparty(&peer), id) {
			tracing::info!(target: "inlet::capital", channel = %id, client = %peer, "an idle channel is being made larger, and not closed now");
			return;
		}
		match manager.close_channel_with_feerate_and_script(&id, &peer, Some(feerate.0), None) {
			Ok(()) => {
				tracing::info!(target: "inlet::capital", channel = %id, client = %peer, "an idle channel is being closed")
			}
			Err(e) => {
				tracing::info!(target: "inlet::capital", channel = %id, client = %peer, "an idle channel cannot be closed now: {e:?}")
			}
		}
		self.lightning.hurry();
	}
}
