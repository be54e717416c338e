//! Every setting: its section, its name, its default and what it means in a sentence. The commented file and the
//! table in `node/docs/config.md` are written from here.

use super::value::network_name;
use bitcoin::Network;
use inlet_lsp::policy::{
	CapitalPolicy, LedgerPolicy, Lsps1Policy, Lsps2Policy, Lsps5Policy, PricePolicy, RiskPolicy, Tiers,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The config file as it is written, before any value is understood. No `Debug`: `chain.backend` may hold a password.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
	pub node: RawNode,
	pub chain: RawChain,
	pub lsps1: Lsps1Policy,
	pub lsps2: Lsps2Policy,
	pub lsps5: Lsps5Policy,
	pub price: PricePolicy,
	pub risk: RiskPolicy,
	pub capital: CapitalPolicy,
	pub ledger: LedgerPolicy,
	pub tier: Tiers,
	pub routing: RawRouting,
	pub peers: RawPeers,
	pub notify: RawNotify,
	pub tor: RawTor,
	pub backup: RawBackup,
	pub storage: RawStorage,
	pub log: RawLog,
	pub api: RawApi,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNode {
	pub network: String,
	pub alias: String,
	pub color: String,
	pub listen: Vec<String>,
	pub announce_addresses: Vec<String>,
	pub gossip: String,
	pub peers: Vec<String>,
}

impl Default for RawNode {
	fn default() -> Self {
		RawNode {
			network: "signet".into(),
			alias: "inlet".into(),
			color: "#3399ff".into(),
			listen: vec!["0.0.0.0:9735".into()],
			announce_addresses: Vec::new(),
			gossip: "p2p".into(),
			peers: Vec::new(),
		}
	}
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawChain {
	pub backend: String,
	pub witnesses: Vec<String>,
	pub max_tip_age_secs: u64,
}

impl Default for RawChain {
	fn default() -> Self {
		RawChain { backend: String::new(), witnesses: Vec::new(), max_tip_age_secs: 10_800 }
	}
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRouting {
	pub base_fee_msat: u32,
	pub fee_ppm: u32,
	pub cltv_expiry_delta: u16,
	pub forward_delay_ms: u32,
	pub inbound_from: String,
	pub inbound_nodes: Vec<String>,
	pub inbound_min_sat: u64,
	pub inbound_max_sat: u64,
	pub inbound_max_channels: u32,
	pub inbound_max_per_peer: u32,
}

impl Default for RawRouting {
	fn default() -> Self {
		RawRouting {
			base_fee_msat: 1_000,
			fee_ppm: 500,
			cltv_expiry_delta: 72,
			forward_delay_ms: 5,
			inbound_from: "anyone".into(),
			inbound_nodes: Vec::new(),
			inbound_min_sat: 100_000,
			inbound_max_sat: 10_000_000,
			inbound_max_channels: 50,
			inbound_max_per_peer: 2,
		}
	}
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNotify {
	pub allow_private: bool,
	pub ca_file: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPeers {
	pub max_per_ip: u32,
	pub max_per_local_ip: u32,
	pub max_strangers: u32,
}

impl Default for RawPeers {
	fn default() -> Self {
		RawPeers { max_per_ip: 64, max_per_local_ip: 1_000, max_strangers: 200 }
	}
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTor {
	pub socks: String,
	pub only: bool,
	pub onion_service: bool,
	pub control: String,
	pub password: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBackup {
	pub targets: Vec<String>,
	pub mode: String,
	pub alert_secs: u64,
}

impl Default for RawBackup {
	fn default() -> Self {
		RawBackup { targets: Vec::new(), mode: "async".into(), alert_secs: 60 }
	}
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStorage {
	pub low_water_mb: u64,
	pub reserve_mb: u64,
	pub card_gb: u64,
	pub card_rated_tbw: u64,
	pub backend: String,
	pub url: String,
	pub ca_file: String,
	pub lease_secs: u64,
}

impl Default for RawStorage {
	fn default() -> Self {
		RawStorage {
			backend: "sqlite".into(),
			url: String::new(),
			ca_file: String::new(),
			lease_secs: 10,
			low_water_mb: 256,
			reserve_mb: 32,
			card_gb: 0,
			card_rated_tbw: 0,
		}
	}
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
	pub level: String,
	pub format: String,
}

impl Default for RawLog {
	fn default() -> Self {
		RawLog { level: "info,lightning=warn".into(), format: "text".into() }
	}
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawApi {
	pub socket: String,
	pub monitor_socket: String,
}

impl Default for RawApi {
	fn default() -> Self {
		RawApi { socket: "admin.sock".into(), monitor_socket: String::new() }
	}
}

/// A section of the file: name, what it is about, and its settings with a sentence each.
pub(super) struct Section {
	pub name: &'static str,
	pub about: &'static str,
	pub keys: &'static [(&'static str, &'static str)],
}

/// The section with the tiers, each of which is a section of its own: `tier.new`.
pub(super) const TIERS: &str = "tier";

const TIER_KEYS: &[(&str, &str)] = &[
	("rank", "A client is in the tier of the highest rank that it has earned."),
	("earned", "Can it be earned? Else clients get into it by a token, or by inlet clients set, only."),
	("min_channels", "Channels that a client must have paid for."),
	("min_payments", "Payments that it must have received over its channels, at most 100."),
	("min_days", "Days for which you must have known it."),
	("max_offences", "Offences within risk.offence_window_secs with which it still is in the tier."),
	(
		"lsp_trusts",
		"Put its channel on the chain before the payment is taken (with lsps2.trust = \"known\")? Else it has to take the \
		 payment first.",
	),
	("risk_ppm", "Margin on the costs for the risk that such a client is, in millionths."),
	("fee_share_ppm", "Share of price.jit_ppm and price.order_ppm that it pays, in millionths."),
	("headroom_ppm", "Room to receive on top of lsps2.headroom_ppm, in millionths of the payment."),
	("max_payment_sat", "Largest payment that opens a channel for it; 0: lsps2.max_payment_sat."),
	("max_channel_sat", "Largest channel of either kind; 0: risk.max_channel_sat."),
	("max_total_sat", "Channels of all its clients together, promised ones included; 0: no limit."),
	("max_open_sales", "Unpaid just-in-time sales of one client; 0: risk.max_open_sales_per_client."),
	("max_open_orders", "Unpaid orders of one client; 0: risk.max_open_orders_per_client."),
];

/// All sections, in the order of the file. A test holds this against the types above and `inlet_lsp`'s policy.
pub(super) const SECTIONS: &[Section] = &[
	Section {
		name: "node",
		about: "Who this node is and how others reach it.",
		keys: &[
			("network", "mainnet, signet, testnet4 or regtest. A data directory belongs to one network for ever."),
			("alias", "The name that the public network shows, at most 32 bytes."),
			("color", "The colour that the public network shows, as #rrggbb."),
			("listen", "IP:PORT to listen on for Lightning peers; none: only outgoing connections."),
			(
				"announce_addresses",
				"HOST:PORT at which others reach you (public IP, name or onion). Clients and routing need one.",
			),
			(
				"gossip",
				"How to learn the public network: p2p (from peers), rgs:URL (snapshots; light), none (forward and sell only).",
			),
			("peers", "Nodes to stay connected to, as PUBKEY@HOST:PORT."),
		],
	},
	Section {
		name: "chain",
		about: "Where blocks and fee estimates come from.",
		keys: &[
			(
				"backend",
				"esplora:URL[,URL...], electrum:ssl://HOST:PORT (or tcp://), bitcoind:http://USER:PASSWORD@HOST:PORT or \
				 bitcoind:cookie=/path/.cookie@http://HOST:PORT. Empty: the network's public Esplora servers (regtest has none). A \
				 bitcoind or Electrum server of your own tells nobody what is yours.",
			),
			(
				"witnesses",
				"Other sources of the chain, written as the backend is (esplora: and bitcoind: may be left out). They are asked for \
				 block hashes only; nothing is sold while one of them sees another chain than the backend.",
			),
			(
				"max_tip_age_secs",
				"Nothing is sold while the newest block is older than this, in seconds; 0: that is not looked at (so it is on \
				 regtest, unless you set it).",
			),
		],
	},
	Section {
		name: "lsps1",
		about: "Channels on order (bLIP-51).",
		keys: &[
			("enabled", "Sell channels on order?"),
			("min_lsp_balance_sat", "Smallest balance on our side that can be ordered."),
			("max_lsp_balance_sat", "Largest balance on our side that can be ordered."),
			("max_client_balance_sat", "Largest balance on the client's side that can be ordered."),
			("min_channel_sat", "Smallest capacity of an ordered channel."),
			("max_channel_sat", "Largest capacity of an ordered channel."),
			("max_channel_expiry_blocks", "Longest lease, in blocks (144 a day)."),
			("min_required_channel_confirmations", "Confirmations before an ordered channel is usable; 0: at once."),
			(
				"min_funding_confirms_within_blocks",
				"Fastest confirmation of the funding that can be ordered, in blocks.",
			),
			(
				"payment_window_secs",
				"How long an order waits for its payment while feerates stand still, in seconds; the less, the more they move.",
			),
			("onchain_confirmations", "Confirmations that an on-chain payment needs."),
			(
				"max_unconfirmed_order_sat",
				"Largest order served on an unconfirmed on-chain payment; 0: none (a payment can be taken back).",
			),
			("max_unconfirmed_orders", "Most orders in all that are served on payments that are not confirmed yet."),
			("max_unconfirmed_total_sat", "Most that may be at stake in them together."),
			("onchain", "Offer payment on-chain besides Lightning?"),
			("preflight", "See whether the client takes such a channel before payment is offered?"),
			("open_window_secs", "How long to try to open a paid channel before the money goes back, in seconds."),
			(
				"splice",
				"Make a channel that the client has larger for its order, instead of opening another? Only where that is safe: \
				lsp/docs/decisions/0004-splices.md.",
			),
			(
				"batch_window_secs",
				"How long a paid order that can wait does so for others to share a funding transaction with, in seconds, at most \
				600; 0: each is opened at once. For trying: lsp/docs/decisions/0008-shared-fundings.md.",
			),
			(
				"tokens",
				"Coupon codes that clients must show, besides those of inlet tokens; none: orders need no code.",
			),
			("require_token", "Must orders show a code, also if none is listed here (see inlet tokens)?"),
		],
	},
	Section {
		name: "lsps2",
		about: "Channels just in time, paid out of the payment that they bring (bLIP-52).",
		keys: &[
			("enabled", "Sell channels just in time?"),
			("promise_secs", "How long a quoted price holds while feerates stand still, in seconds; 600 or more."),
			("min_promise_secs", "How long it holds at least, however much they move, in seconds; 600 or more."),
			("min_lifetime_blocks", "Blocks for which such a channel is kept open at least."),
			(
				"max_client_to_self_delay",
				"Longest delay that a client can be asked to accept on its own force-close, in blocks.",
			),
			("min_payment_sat", "Smallest payment that opens a channel."),
			("max_payment_sat", "Largest payment that opens a channel."),
			("headroom_ppm", "Room to receive beyond the payment, in millionths of the payment."),
			("growth_ppm", "What each channel that a client has paid for (the first ten) adds to that."),
			("min_channel_sat", "Smallest capacity of such a channel."),
			("cltv_expiry_delta", "Blocks between a payment's expiry on our incoming and on our outgoing side."),
			("gather_secs", "How long the parts of a payment are gathered, in seconds; 90 or more."),
			("open_secs", "How long an opening may take until the channel is usable, in seconds."),
			("tokens", "Coupon codes that clients must show, besides those of inlet tokens; none: no code is needed."),
			("require_token", "Must clients show a code, also if none is listed here (see inlet tokens)?"),
			(
				"trust",
				"Whose channel is put on the chain before its payment is taken: known (those who paid before, and trusted_clients), \
				 everyone (bLIP-52's default) or nobody. The others have to take the payment first.",
			),
			("trusted_clients", "Node ids of clients that are known from the start."),
		],
	},
	Section {
		name: "lsps5",
		about: "Waking clients that sleep, over webhooks that they register (bLIP-55).",
		keys: &[
			("enabled", "Take webhooks, and hold payments for clients while they wake?"),
			("max_webhooks", "Webhooks of one client."),
			("hold_secs", "How long a payment waits for a client that was woken, in seconds."),
			("cooldown_secs", "How long a client that stays away is not told the same again, in seconds."),
			("retention_days", "Days for which a client without a channel is remembered; 7 or more."),
			("max_clients_without_channel", "Clients without a channel whose webhooks are kept."),
		],
	},
	Section {
		name: "price",
		about: "What channels cost: opening at the live feerate, closing at that of the long run, capital, risk (see the tiers), and these.",
		keys: &[
			("floor_sat", "Never less than this for a channel."),
			("jit_ppm", "Share of a just-in-time payment, in millionths."),
			(
				"order_ppm",
				"Share of an ordered channel's capacity for a lease of 4320 blocks (30 days), in millionths; longer in proportion.",
			),
			("close_share_ppm", "Share of the expected cost of closing that the client pays, in millionths."),
			("forced_close_ppm", "How many of your channels end by force, in millionths; that costs more."),
			(
				"capital_ppm_per_year",
				"What your capital would earn elsewhere in a year, in millionths: paid for as long as the channel is promised.",
			),
		],
	},
	Section {
		name: "risk",
		about: "What may be at stake.",
		keys: &[
			("max_feerate_sat_per_vb", "Nothing is sold while the feerate is above this, in sat/vB."),
			(
				"patient_feerate_sat_per_vb",
				"Only orders that can wait are sold while it is above this, in sat/vB: nothing just in time.",
			),
			("patient_blocks", "How long they must be able to wait for their confirmation, in blocks."),
			(
				"max_loss_sat",
				"What a channel that was promised may cost more than it pays, if the feerate has risen since; beyond, the payment is refused.",
			),
			("only_allowed", "Sell only to clients that you have allowed (inlet clients set, lsps2.trusted_clients)?"),
			("max_open_sales_per_client", "Unpaid just-in-time sales of one client."),
			("max_open_orders_per_client", "Unpaid orders of one client."),
			("max_open_total", "Unpaid sales and orders in all."),
			("max_parts", "Parts that one payment may come in."),
			("max_channel_sat", "Largest channel of either kind."),
			(
				"max_offences",
				"So many channels that come to nothing through strangers stop just-in-time channels for strangers for pause_secs.",
			),
			("max_offences_per_client", "So many of one client get it no more; at most 16."),
			("offence_window_secs", "How long such an offence counts, in seconds."),
			("pause_secs", "How long the pause for strangers lasts, in seconds."),
		],
	},
	Section {
		name: "capital",
		about: "Your coins: what is kept for closing, how much is put where, and how it comes home.",
		keys: &[
			(
				"stress_feerate_sat_per_vb",
				"Feerate at which every anchor channel can still be closed out of what is kept for it, in sat/vB.",
			),
			("stress_htlcs", "HTLCs in flight in each channel at that moment."),
			(
				"spare_coins",
				"Coins of the anchor reserve beside one for each channel: so many sales until coins are made again.",
			),
			(
				"coins_feerate_sat_per_vb",
				"The wallet splits and merges coins for the anchor reserve while the feerate is at most this, in sat/vB; 0: never.",
			),
			("max_client_sat", "Channels of one client together, promised ones included."),
			("max_at_risk_sat", "Channels that are funded and not paid for, or promised, together."),
			(
				"max_unconfirmed_sat",
				"Channels in use whose funding is in no block yet, together, promised ones included: with so much nothing is sold.",
			),
			("max_channels_per_hour", "Channels funded in an hour, and promised, before selling pauses."),
			("max_channels_per_day", "Channels funded in a day, and promised, before selling pauses."),
			("max_wallet_share_ppm", "The part of what can be sold that one channel may take, in millionths."),
			(
				"idle_days",
				"A channel that no payment went over for so many days is idle; 0: as soon as its promise is over.",
			),
			(
				"reclaim",
				"Tell clients of idle channels, and close those together with them? If not, inlet capital reclaim does it when you say so.",
			),
			("reclaim_grace_days", "So many days before its channel is closed, a client is told."),
			("reclaims_per_day", "Channels that are closed for this in a day, at most, without being asked."),
			("reclaim_feerate_sat_per_vb", "An idle channel is closed while the feerate is at most this, in sat/vB."),
			("reclaim_min_sat", "Closing one must bring home at least this."),
		],
	},
	Section {
		name: "ledger",
		about: "How long the books are kept in full.",
		keys: &[(
			"keep_months",
			"Entries are kept for this month and so many before it; older ones are folded into totals and deleted (save them first: inlet \
			 ledger export). 0: for ever.",
		)],
	},
	Section {
		name: "tier.new",
		about: "Clients that are in no other tier. A section [tier.NAME] makes a tier of your own, with these defaults.",
		keys: TIER_KEYS,
	},
	Section { name: "tier.known", about: "Clients that have paid for a channel.", keys: TIER_KEYS },
	Section { name: "tier.trusted", about: "Clients that have been good for long.", keys: TIER_KEYS },
	Section {
		name: "routing",
		about: "Forwarding for the public network, and channels that others open to you.",
		keys: &[
			("base_fee_msat", "Fixed fee for a forward, in thousandths of a satoshi."),
			("fee_ppm", "Proportional fee for a forward, in millionths."),
			(
				"cltv_expiry_delta",
				"Blocks between a forward's expiry on the incoming and the outgoing side; 48 or more.",
			),
			(
				"forward_delay_ms",
				"How long a forward waits on average, in milliseconds (irregularly, so that onlookers cannot match it); 0 to 1000.",
			),
			("inbound_from", "Who may open channels to you: anyone, listed (see inbound_nodes) or nobody."),
			("inbound_nodes", "Node ids that may open channels to you when inbound_from is listed."),
			("inbound_min_sat", "Smallest channel that others may open to you."),
			("inbound_max_sat", "Largest channel that others may open to you."),
			("inbound_max_channels", "Channels opened by others, in all; each needs some on-chain reserve of yours."),
			("inbound_max_per_peer", "Channels opened by one peer."),
		],
	},
	Section {
		name: "peers",
		about: "How many may connect to you. Clients with a channel, or with something paid, always get in.",
		keys: &[
			(
				"max_per_ip",
				"Connections from one public IPv4 address or IPv6 /64 network; mobile networks put many clients behind one.",
			),
			(
				"max_per_local_ip",
				"The same from a loopback or private address, which may stand for many: Tor, a proxy, a VPN. Of either, idle strangers go above three quarters.",
			),
			(
				"max_strangers",
				"Connections with nodes that have neither a channel nor anything paid, 240 at most; beyond, the longest idle of the address with most is disconnected.",
			),
		],
	},
	Section {
		name: "notify",
		about: "Calling the webhooks of sleeping clients (bLIP-55).",
		keys: &[
			(
				"allow_private",
				"Call webhooks on this machine and in its network too? Only where every client is yours: a stranger's \
				 webhook would reach what your firewall hides.",
			),
			(
				"ca_file",
				"A PEM file with root certificates to trust besides the public ones; a relative path starts in the data \
				 directory. Empty: none.",
			),
		],
	},
	Section {
		name: "tor",
		about: "Reaching others, and being reached, over Tor (node/docs/tor.md).",
		keys: &[
			(
				"socks",
				"Tor's SOCKS port as IP:PORT, usually 127.0.0.1:9050: onion addresses are reached over it. Empty: no Tor.",
			),
			(
				"only",
				"Reach everything over it, names included, but what is on loopback and private addresses? Nothing tells others \
				 where you are then, unless you announce it or listen there.",
			),
			(
				"onion_service",
				"Let Lightning peers in by an onion address, which is announced and comes from the seed?",
			),
			("control", "Tor's control port, for that: unix:/PATH (Debian's Tor: unix:/run/tor/control) or IP:PORT."),
			(
				"password",
				"The control port's password. Empty: its cookie, which the user that runs inlet must be able to read.",
			),
		],
	},
	Section {
		name: "backup",
		about: "Where every change goes as it happens, encrypted under the seed (node/docs/backup.md).",
		keys: &[
			(
				"targets",
				"dir:/PATH (another disk), s3:https://KEYID:SECRET@HOST/BUCKET[/PREFIX]?region=REGION or \
				 webdav:https://USER:PASSWORD@HOST/PATH; each made ready once with: inlet backup init.",
			),
			(
				"mode",
				"async (targets follow within seconds) or sync (nothing is acknowledged before the first target has it: only \
				 then a restore after a crash brings the channels back).",
			),
			("alert_secs", "You are told when a target is so far behind, in seconds."),
		],
	},
	Section {
		name: "storage",
		about: "Where the node's state is kept, and the disk.",
		keys: &[
			(
				"backend",
				"sqlite (a file in the data directory) or postgres (a server, for a standby; see node/docs/standby.md).",
			),
			(
				"url",
				"The PostgreSQL database, as postgresql://USER:PASSWORD@HOST/DATABASE; several hosts with commas. TCP is under TLS, and \
				 the server's certificate is verified, unless sslmode=disable is in it. May hold a password: it is never shown.",
			),
			(
				"ca_file",
				"A PEM file with the certificates that the server's must be signed by; a relative path starts in the data \
				 directory. Empty: the public ones.",
			),
			(
				"lease_secs",
				"How long a leader that is not heard of stays the leader, in seconds, 3 to 120: a standby takes over after that. The \
				 leader stops before, if it cannot reach the database.",
			),
			(
				"low_water_mb",
				"Nothing new is sold while less than this is free where the data directory is, in megabytes; what was sold is \
				 delivered. 0: that is not looked at.",
			),
			(
				"reserve_mb",
				"A file of so many megabytes that is given up when the disk is full, to finish what is in flight; 0: none.",
			),
			(
				"card_gb",
				"Size of the card or disk in gigabytes, for the estimate of its wear; 0: that of its file system.",
			),
			(
				"card_rated_tbw",
				"What it is rated for, in terabytes written (its data sheet's TBW); 0: a hundred times its size, which is \
				 little.",
			),
		],
	},
	Section {
		name: "log",
		about: "What the node says, on standard error.",
		keys: &[
			("level", "error, warn, info, debug, trace or off; other levels for single targets after a comma."),
			("format", "text (for people) or json (one object a line)."),
		],
	},
	Section {
		name: "api",
		about: "How you speak to the node.",
		keys: &[
			("socket", "The admin socket; a relative path starts in the data directory."),
			("monitor_socket", "A second socket, for reading only: status and /metrics, no spending. \"\": none."),
		],
	},
];

/// The defaults as TOML.
pub(super) fn defaults() -> toml::Table {
	toml::Table::try_from(RawConfig::default()).expect("the defaults are plain TOML values")
}

/// All sections with their settings, tiers as sections of their own.
pub(super) fn sections(table: &toml::Table) -> Vec<(String, &toml::Value)> {
	let mut all = Vec::new();
	for (name, content) in table {
		match content.as_table().filter(|_| name == TIERS) {
			Some(tiers) => all.extend(tiers.iter().map(|(tier, content)| (format!("{TIERS}.{tier}"), content))),
			None => all.push((name.clone(), content)),
		}
	}
	all
}

fn section_of<'a>(table: &'a toml::Table, name: &str) -> &'a toml::Value {
	let found = sections(table).into_iter().find(|(section, _)| section == name);
	found.expect("every section has its defaults").1
}

/// The config file that a first run writes: every setting with its default, commented out.
///
/// The line `network` is in force (not commented out) when it is not the default, so that later commands on the same
/// data directory need no flag to agree with it.
pub fn default_file(network: Network) -> String {
	let defaults = defaults();
	let mut out = String::from(
		"# Inlet's configuration. Every setting is here with its default, commented out: take the # off to change one.\n\
		 # Environment variables INLET_SECTION_KEY (INLET_NODE_ALIAS) win over this file, command line flags over both.\n\
		 # Amounts are whole numbers in the unit that their name ends in. Check your changes with: inlet config check\n",
	);
	for section in SECTIONS {
		let _ = write!(out, "\n# {}\n[{}]\n", section.about, section.name);
		for (key, sentence) in section.keys {
			let default = render(&section_of(&defaults, section.name)[*key]);
			for line in wrap(sentence, 110) {
				let _ = writeln!(out, "# {line}");
			}
			let _ = match (section.name, *key) {
				("node", "network") if network != Network::Signet => {
					writeln!(out, "network = \"{}\"", network_name(network))
				}
				_ => writeln!(out, "#{key} = {default}"),
			};
		}
	}
	out
}

/// The settings as Markdown tables, one for each section: `node/docs/config.md` must contain each line.
pub fn markdown() -> String {
	let defaults = defaults();
	let mut out = String::new();
	for section in SECTIONS {
		let _ =
			write!(out, "### [{}]\n\n{}\n\n| key | default | meaning |\n|---|---|---|\n", section.name, section.about);
		for (key, sentence) in section.keys {
			let _ =
				writeln!(out, "| `{key}` | `{}` | {sentence} |", render(&section_of(&defaults, section.name)[*key]));
		}
		out.push('\n');
	}
	out
}

/// A value as a person writes it in TOML: long numbers in groups of three digits.
fn render(value: &toml::Value) -> String {
	let toml::Value::Integer(number) = value else { return value.to_string() };
	let digits = number.to_string();
	if *number < 10_000 {
		return digits;
	}
	let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|c| std::str::from_utf8(c).ok()).collect();
	groups.join("_")
}

fn wrap(text: &str, width: usize) -> Vec<String> {
	let mut lines = vec![String::new()];
	for word in text.split_whitespace() {
		let last = lines.last_mut().expect("starts with one line");
		if !last.is_empty() && last.len() + 1 + word.len() > width {
			lines.push(word.to_string());
		} else {
			if !last.is_empty() {
				last.push(' ');
			}
			last.push_str(word);
		}
	}
	lines
}
