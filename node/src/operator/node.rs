//! The node as a whole, for the operator.

use super::Operator;
use crate::config::{ChainBackend, Gossip, network_name};
use crate::control::*;
use crate::driver::now;
use bitcoin::Amount;
use inlet_lsp::book::{EntryKind, NodeId, OrderState, SaleState};
use inlet_lsp::time::Timestamp;
use std::time::SystemTime;

/// Ledger entries that today's figures are made from at most.
const TODAY_ENTRIES: usize = 10_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

impl Operator {
	fn selling(&self) -> Vec<String> {
		let mut selling = Vec::new();
		if self.config.policy.lsps1.enabled {
			selling.push("LSPS1".to_owned());
		}
		if self.config.policy.lsps2.enabled {
			selling.push("LSPS2".to_owned());
		}
		selling
	}

	pub(super) fn info_now(&self) -> Info {
		let tip = self.hands.tip.borrow().clone();
		let node = &self.config.node;
		let [red, green, blue] = node.color;
		Info {
			version: env!("CARGO_PKG_VERSION").to_owned(),
			network: network_name(node.network).to_owned(),
			node_id: self.hands.lightning.keys.node_id().to_string(),
			alias: node.alias.clone(),
			color: format!("#{red:02x}{green:02x}{blue:02x}"),
			listening: self.listening.clone(),
			announced: self.announced(),
			block_height: tip.height,
			block_hash: tip.hash.to_string(),
			synced: tip.synced,
			peers: u32::try_from(self.hands.lightning.peers.list_peers().len()).unwrap_or(u32::MAX),
			channels: u32::try_from(self.hands.lightning.manager.list_channels().len()).unwrap_or(u32::MAX),
			selling: self.selling(),
			gossip: match &node.gossip {
				Gossip::P2p => "p2p",
				Gossip::Rgs(_) => "rgs",
				Gossip::None => "none",
			}
			.to_owned(),
			data_dir: self.config.place.data_dir.display().to_string(),
			started_at: self.started.into(),
		}
	}

	/// What is configured, and the onion service once it is there.
	fn announced(&self) -> Vec<String> {
		let configured = self.config.node.announce_addresses.iter().map(ToString::to_string);
		let mut all: Vec<String> = configured.collect();
		let onion = self.tor.borrow().onion.as_ref().map(ToString::to_string);
		all.extend(onion.filter(|onion| !all.contains(onion)));
		all
	}

	pub(super) fn sync_now(&self) -> SyncState {
		let tip = self.hands.tip.borrow().clone();
		SyncState {
			backend: match &self.config.chain {
				ChainBackend::Esplora { .. } => "esplora",
				ChainBackend::Electrum { .. } => "electrum",
				ChainBackend::Bitcoind { .. } => "bitcoind",
			}
			.to_owned(),
			source: tip.source,
			synced: tip.synced,
			block_height: tip.height,
			block_hash: tip.hash.to_string(),
			looked_at: Some(tip.at.into()),
			last_error: tip.error,
		}
	}

	pub(super) fn fees_now(&self) -> Fees {
		let age = self.hands.fees.age();
		let fetched_at = age.map(|age| SystemTime::now() - age);
		let mut estimates: Vec<FeeEstimate> = self
			.hands
			.fees
			.all()
			.into_iter()
			.map(|(target, sat_per_kw)| FeeEstimate { target: snake(&format!("{target:?}")), sat_per_kw })
			.collect();
		estimates.sort_by(|a, b| b.sat_per_kw.cmp(&a.sat_per_kw).then(a.target.cmp(&b.target)));
		Fees {
			fetched_at: fetched_at.map(Into::into),
			age_secs: age.map(|age| age.as_secs()),
			fresh: self.hands.fees.fresh().is_some(),
			estimates,
		}
	}

	pub(super) async fn status_now(&self) -> Result<Status, Refusal> {
		let info = self.info_now();
		let lightning = &self.hands.lightning;
		let tip = self.hands.tip.borrow().clone();
		let channels = lightning.manager.list_channels();
		let reserve_needed = lightning.anchor_reserve().required;
		let wallet = self.hands.wallet.balance();
		let utxos = self.hands.wallet.utxos().iter().filter(|utxo| utxo.confirmations > 0).count();
		let short = reserve_needed.checked_sub(wallet.confirmed).unwrap_or_default();
		let (reserve_ok, pending) = (short == Amount::ZERO, wallet.trusted_pending);
		let open_sales = self.driver.read(|book| {
			let sales = book.sales().filter(|sale| sale.reserved.0 > 0).count();
			sales + book.orders().filter(|order| order.reserved.0 > 0).count()
		});
		let free_sat = self.free().to_sat();
		let status = Status {
			version: info.version,
			network: info.network,
			node_id: info.node_id,
			uptime_secs: self.started.elapsed().map_or(0, |up| up.as_secs()),
			synced: info.synced,
			block_height: info.block_height,
			looked_at: Some(tip.at.into()),
			onchain: OnchainStatus {
				free_sat,
				anchor_reserve_sat: reserve_needed.to_sat(),
				anchor_channels: u32::try_from(channels.len()).unwrap_or(u32::MAX),
				utxos: u32::try_from(utxos).unwrap_or(u32::MAX),
				reserve_ok,
				in_sales_sat: self.driver.read(|book| book.reserved()).0,
				open_sales: u32::try_from(open_sales).unwrap_or(u32::MAX),
			},
			channels: ChannelsStatus {
				total: u32::try_from(channels.len()).unwrap_or(u32::MAX),
				online: u32::try_from(channels.iter().filter(|c| c.is_usable).count()).unwrap_or(u32::MAX),
				inbound_msat: channels.iter().map(|c| c.inbound_capacity_msat).sum(),
				outbound_msat: channels.iter().map(|c| c.outbound_capacity_msat).sum(),
			},
			today: self.today().await?,
			clients: self.clients_now(),
			disk: self.disk_now(),
			attention: self.attention(free_sat, short, pending),
		};
		Ok(status)
	}

	async fn today(&self) -> Result<TodayStatus, Refusal> {
		let midnight = Timestamp(now().0 / DAY_MS * DAY_MS);
		let rows = self.store.ledger(None, TODAY_ENTRIES).await.map_err(|e| Refusal::internal(e.to_string()))?;
		let mut today = TodayStatus { sold_jit: 0, sold_ordered: 0, forwards: 0, earned_msat: 0, spent_sat: 0 };
		for row in rows.into_iter().take_while(|row| row.at >= midnight) {
			let amount = row.amount_msat.unsigned_abs();
			match row.kind {
				EntryKind::JitFee => today.sold_jit += 1,
				EntryKind::OrderFee => today.sold_ordered += 1,
				EntryKind::RoutingFee => today.forwards += 1,
				EntryKind::Forward => today.forwards += 1,
				kind if kind.is_cost() => today.spent_sat += amount / 1000,
				_ => {}
			}
			if matches!(row.kind, EntryKind::JitFee | EntryKind::OrderFee | EntryKind::RoutingFee) {
				today.earned_msat += amount;
			}
		}
		Ok(today)
	}

	fn clients_now(&self) -> ClientsStatus {
		let connected = |id: &NodeId| self.hands.lightning.wire.is_connected(id);
		self.driver.read(|book| {
			let waiting = book
				.sales()
				.filter(|sale| matches!(sale.state, SaleState::Gathering { .. }) && !connected(&sale.client));
			let arrivals: Vec<Timestamp> =
				waiting.filter_map(|sale| sale.parts.iter().map(|part| part.arrived).min()).collect();
			let oldest = arrivals.iter().min().map(|at| now().0.saturating_sub(at.0) / 1000);
			ClientsStatus {
				total: u32::try_from(book.clients().count()).unwrap_or(u32::MAX),
				connected: u32::try_from(book.clients().filter(|client| connected(&client.id)).count())
					.unwrap_or(u32::MAX),
				waiting: u32::try_from(arrivals.len()).unwrap_or(u32::MAX),
				oldest_wait_secs: oldest,
			}
		})
	}

	/// What the operator should look at, most urgent first. `short`: confirmed coins that the anchors lack. `pending`: change
	/// of our own transactions that is not mined yet.
	fn attention(&self, free_sat: u64, short: Amount, pending: Amount) -> Vec<Attention> {
		let mut list = Vec::new();
		let mut say = |code: &str, text: String, command: &str| {
			list.push(Attention { code: code.to_owned(), text, command: command.to_owned() });
		};
		let tip = self.hands.tip.borrow().clone();
		if !tip.synced {
			let why = tip.error.map_or_else(String::new, |error| format!(" ({error})"));
			say("out_of_sync", format!("the chain view is not current{why}: nothing is sold"), "inlet sync");
		}
		for trouble in tip.troubles {
			say("chain", trouble.text, "inlet sync");
		}
		for trouble in self.tor.borrow().troubles() {
			say("tor", trouble, "inlet info");
		}
		if self.hands.disk.is_low() {
			say("disk_low", self.hands.disk.complaint(), "inlet storage");
		}
		let waiting = |short: u64| short <= pending.to_sat();
		let wait = format!("{} sat wait for a confirmation", pending.to_sat());
		if short > Amount::ZERO {
			let text = "the wallet holds less than its anchor channels may need for fees";
			match waiting(short.to_sat()) {
				true => say("anchor_reserve", format!("{text}: {wait}"), "inlet utxos"),
				false => say("anchor_reserve", text.to_owned(), "inlet address"),
			}
		}
		match self.hands.fees.fresh() {
			None => say("no_feerate", "no fresh fee estimate: nothing is sold".to_owned(), "inlet fees"),
			Some(rate) => {
				let (vb, risk) = (u64::from(rate.0).div_ceil(250), &self.config.policy.risk);
				let (ceiling, patient) = (risk.max_feerate_sat_per_vb, risk.patient_feerate_sat_per_vb);
				if vb > ceiling {
					let text = format!("feerate {vb} sat/vB is above your ceiling of {ceiling}: nothing is sold");
					say("feerate_ceiling", text, "inlet fees");
				} else if vb > patient {
					let text = format!(
						"feerate {vb} sat/vB is above {patient}: only orders that can wait {} blocks are sold",
						risk.patient_blocks
					);
					say("feerate_ceiling", text, "inlet fees");
				}
			}
		}
		let smallest = self.config.policy.lsps2.min_channel_sat.0;
		if free_sat < smallest {
			let text = format!("{free_sat} sat are free, the smallest channel takes {smallest}: nothing is sold");
			match waiting(short.to_sat().saturating_add(smallest - free_sat)) {
				true => say("no_funds", format!("{text} yet; {wait}"), "inlet utxos"),
				false => say("no_funds", text, "inlet address"),
			}
		}
		let policy = &self.config.policy;
		if let Some(until) = self.driver.read(|book| inlet_lsp::trust::paused_until(policy, book, now())) {
			let text =
				format!("too many channels for strangers came to nothing: they get none just in time until {until}");
			say("strangers_paused", text, "inlet clients");
		}
		if self.recovering {
			let text =
				"coins of lost channels are being recovered: nothing is sold; when all is there, send it to a new node";
			say("recovering", text.to_owned(), "inlet balance");
		}
		for target in self.backup.status().targets.iter().filter(|target| target.behind) {
			say("backup", target.trouble(), "inlet backup status");
		}
		let stuck = self
			.driver
			.read(|book| book.orders().filter(|order| matches!(order.state, OrderState::Refunding { .. })).count());
		if stuck > 0 {
			say("refunds", format!("{stuck} refunds are on their way"), "inlet orders list");
		}
		list
	}
}

/// `UrgentOnChainSweep` to `urgent_on_chain_sweep`.
fn snake(camel: &str) -> String {
	let mut snake = String::new();
	for letter in camel.chars() {
		if letter.is_uppercase() && !snake.is_empty() {
			snake.push('_');
		}
		snake.extend(letter.to_lowercase());
	}
	snake
}
